-- Times are milliseconds since 1970. Order ids are 64-bit integers; read them as text.

CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('execution', 1);

CREATE TABLE institutions (
  institution_id  INTEGER PRIMARY KEY AUTOINCREMENT,
  code            TEXT NOT NULL UNIQUE,
  name            TEXT NOT NULL,
  time_zone       TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  last_closing_id INTEGER NOT NULL DEFAULT 0      -- the log is dense: 1 … last_closing_id
) STRICT;

CREATE TABLE orders (
  institution_id  INTEGER NOT NULL,
  order_id        INTEGER NOT NULL,
  order_state     TEXT NOT NULL,
  last_closing_id INTEGER,                        -- the newest closing; older ones are chained from there
  updated_at      INTEGER NOT NULL,
  details         TEXT NOT NULL                   -- OrderDetailsData, JSON as given
) STRICT;
CREATE UNIQUE INDEX orders_by_id ON orders (institution_id, order_id);
CREATE INDEX orders_by_state ON orders (institution_id, order_state, order_id);

-- The log. One writer, so closing_id follows commit order and a reader that goes forward never skips.
CREATE TABLE closings (
  institution_id      INTEGER NOT NULL,
  closing_id          INTEGER NOT NULL,
  order_id            INTEGER NOT NULL,
  closed_at           INTEGER NOT NULL,
  previous_closing_id INTEGER,                    -- of the same order
  PRIMARY KEY (institution_id, closing_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX closings_by_time ON closings (institution_id, closed_at);

CREATE TABLE interfaces (
  interface_id   INTEGER PRIMARY KEY AUTOINCREMENT,
  institution_id INTEGER NOT NULL,
  name           TEXT NOT NULL,
  url            TEXT NOT NULL,
  method         TEXT NOT NULL,
  payload        TEXT,
  filter         TEXT,
  granularity    TEXT NOT NULL,
  concurrency    INTEGER NOT NULL,
  simulation     INTEGER NOT NULL,
  active         INTEGER NOT NULL,
  destination    TEXT NOT NULL,
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL,
  deleted_at     INTEGER
) STRICT;
CREATE INDEX interfaces_by_institution ON interfaces (institution_id, interface_id) WHERE deleted_at IS NULL;

-- What moves with every commit of the engine, apart from what operators set.
CREATE TABLE queues (
  interface_id    INTEGER PRIMARY KEY,
  institution_id  INTEGER NOT NULL,
  first_closing_id INTEGER NOT NULL,              -- closings up to here are older than the interface
  cursor          INTEGER NOT NULL,               -- closings up to here have been looked at
  owed            INTEGER NOT NULL DEFAULT 0,     -- rows in owed
  abandoned       INTEGER NOT NULL DEFAULT 0,     -- rows in abandoned
  last_attempt_id INTEGER NOT NULL DEFAULT 0,
  held_until      INTEGER
) STRICT;

CREATE TABLE owed (
  interface_id INTEGER NOT NULL,
  closing_id   INTEGER NOT NULL,
  order_id     INTEGER NOT NULL,
  attempts     INTEGER NOT NULL,
  due_at       INTEGER NOT NULL,
  PRIMARY KEY (interface_id, closing_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX owed_by_due ON owed (interface_id, due_at);

CREATE TABLE abandoned (
  interface_id INTEGER NOT NULL,
  closing_id   INTEGER NOT NULL,
  order_id     INTEGER NOT NULL,
  attempts     INTEGER NOT NULL,
  PRIMARY KEY (interface_id, closing_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
  schedule_id       INTEGER PRIMARY KEY AUTOINCREMENT,
  institution_id    INTEGER NOT NULL,
  interface_id      INTEGER NOT NULL,
  name              TEXT NOT NULL,
  launch            TEXT NOT NULL,
  frequency_minutes INTEGER,
  start_at          INTEGER,
  end_at            INTEGER,
  batch_size        INTEGER NOT NULL,
  last_run_at       INTEGER,
  created_at        INTEGER NOT NULL,
  updated_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX schedules_by_institution ON schedules (institution_id, schedule_id);
CREATE INDEX schedules_by_interface ON schedules (interface_id, schedule_id);

CREATE TABLE executions (
  execution_id   INTEGER PRIMARY KEY,
  institution_id INTEGER NOT NULL,
  interface_id   INTEGER NOT NULL,
  schedule_id    INTEGER,
  trigger        TEXT NOT NULL,
  status         TEXT NOT NULL,
  begun          INTEGER NOT NULL,                -- 0: asked for by hand, not yet made
  started_at     INTEGER NOT NULL,
  ended_at       INTEGER,
  looked         INTEGER NOT NULL,
  filtered_out   INTEGER NOT NULL,
  called         INTEGER NOT NULL,
  delivered      INTEGER NOT NULL,
  failed         INTEGER NOT NULL,
  abandoned      INTEGER NOT NULL,
  message        TEXT
) STRICT;
CREATE INDEX executions_by_schedule ON executions (schedule_id, started_at, execution_id);
CREATE INDEX executions_by_time ON executions (started_at);
CREATE INDEX executions_running ON executions (interface_id, execution_id) WHERE status = 'RUNNING';

-- Closings that are sent again, outside the queue; its execution says how far it is.
CREATE TABLE resends (
  execution_id     INTEGER PRIMARY KEY,
  institution_id   INTEGER NOT NULL,
  interface_id     INTEGER NOT NULL,
  kind             TEXT NOT NULL,                 -- orders, abandoned, closed_between
  count            INTEGER NOT NULL,              -- as counted at the start, before the filter
  closed_from      INTEGER,
  closed_to        INTEGER,
  last_closing_id  INTEGER NOT NULL,              -- nothing after this one is sent
  sent_up_to       INTEGER NOT NULL,
  cancelled        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE resend_orders (
  execution_id INTEGER NOT NULL,
  closing_id   INTEGER NOT NULL,
  order_id     INTEGER NOT NULL,
  PRIMARY KEY (execution_id, closing_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE call_templates (
  call_template_id INTEGER PRIMARY KEY AUTOINCREMENT,
  interface_id     INTEGER NOT NULL,
  content_hash     BLOB NOT NULL,                 -- SHA-256 of the four below
  method           TEXT NOT NULL,
  url              TEXT NOT NULL,
  payload          TEXT,
  user_agent       TEXT NOT NULL,
  UNIQUE (interface_id, content_hash)
) STRICT;

-- The call log. A request is not copied: it is its template filled with the order id.
CREATE TABLE attempts (
  interface_id     INTEGER NOT NULL,
  attempt_id       INTEGER NOT NULL,
  closing_id       INTEGER,
  order_id         INTEGER NOT NULL,
  attempt          INTEGER NOT NULL,
  execution_id     INTEGER,
  trigger          TEXT NOT NULL,
  started_at       INTEGER NOT NULL,
  duration_ms      INTEGER NOT NULL,
  outcome          TEXT NOT NULL,
  reason           TEXT,
  detail           TEXT,
  status           INTEGER,
  headers          TEXT,                          -- of the answer, as a JSON object
  body_start       TEXT,
  next_attempt_at  INTEGER,
  call_template_id INTEGER NOT NULL,
  PRIMARY KEY (interface_id, attempt_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_by_order ON attempts (interface_id, order_id, attempt_id);
CREATE INDEX attempts_undelivered ON attempts (interface_id, outcome, attempt_id) WHERE outcome <> 'DELIVERED';

CREATE TABLE proxy_openings (
  opening_id     INTEGER PRIMARY KEY AUTOINCREMENT,
  institution_id INTEGER NOT NULL,
  destination    TEXT NOT NULL,
  state          TEXT NOT NULL,
  allow_private  INTEGER NOT NULL,
  reason         TEXT,
  requested_at   INTEGER NOT NULL,
  requested_by   TEXT NOT NULL,
  decided_at     INTEGER,
  decided_by     TEXT
) STRICT;
CREATE INDEX proxy_openings_by_institution ON proxy_openings (institution_id, opening_id);
CREATE UNIQUE INDEX proxy_openings_alive ON proxy_openings (institution_id, destination)
  WHERE state IN ('REQUESTED', 'OPEN');

CREATE TABLE partners (
  partner_id     INTEGER PRIMARY KEY AUTOINCREMENT,
  institution_id INTEGER NOT NULL,
  partner        TEXT NOT NULL,
  operator       TEXT NOT NULL,
  sealed_secret  TEXT NOT NULL,
  created_at     INTEGER NOT NULL,
  UNIQUE (partner, operator, institution_id)
) STRICT;
CREATE INDEX partners_by_institution ON partners (institution_id, partner_id);

CREATE TABLE api_keys (
  api_key_id     INTEGER PRIMARY KEY AUTOINCREMENT,
  key_hash       BLOB NOT NULL UNIQUE,            -- SHA-256
  name           TEXT NOT NULL,
  role           TEXT NOT NULL,
  institution_id INTEGER,
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER
) STRICT;

-- What removal and the care for room remember.
CREATE TABLE upkeep (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- An order whose details were removed keeps its row, with '' for details.
ALTER TABLE orders ADD COLUMN removed_at INTEGER;

-- Attempts that started before this moment may have been removed; those after it are all there. An earlier version removed
-- the oldest of an interface first: what its oldest one is says how far that went.
INSERT INTO upkeep
SELECT 'attempts_removed_before', coalesce(max(CASE
    WHEN q.last_attempt_id = 0
      OR EXISTS (SELECT 1 FROM attempts a WHERE a.interface_id = q.interface_id AND a.attempt_id = 1) THEN 0
    ELSE coalesce((SELECT a.started_at FROM attempts a WHERE a.interface_id = q.interface_id
      ORDER BY a.attempt_id LIMIT 1), unixepoch() * 1000)
  END), 0)
FROM queues q;

-- Executions that found nothing to look at, which an earlier version kept: those below `to` were made by it.
INSERT INTO upkeep VALUES ('empty_executions_from', 1);
INSERT INTO upkeep SELECT 'empty_executions_to', next FROM counters WHERE name = 'execution';

-- 1: a removal could not cut the write-ahead log, because somebody read it.
INSERT INTO upkeep VALUES ('log_cut_owed', 0);

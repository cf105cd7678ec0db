ALTER TABLE orderhook.interfaces ADD COLUMN attempts_max integer NOT NULL DEFAULT 12;
-- Of its last run by itself.
ALTER TABLE orderhook.schedules ADD COLUMN last_status text;
-- A hold that was asked for before is over.
ALTER TABLE orderhook.queues ADD COLUMN hold_lifted_at bigint;

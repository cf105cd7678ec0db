-- Grows with each change of what an operator sets: what `ETag` and `If-Match` compare.
ALTER TABLE interfaces ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE schedules ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

-- Grows with each change of what an operator sets: what `ETag` and `If-Match` compare.
ALTER TABLE orderhook.interfaces ADD COLUMN revision bigint NOT NULL DEFAULT 1;
ALTER TABLE orderhook.schedules ADD COLUMN revision bigint NOT NULL DEFAULT 1;

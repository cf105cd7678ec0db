ALTER TABLE interfaces ADD COLUMN attempts_max INTEGER NOT NULL DEFAULT 12;
ALTER TABLE schedules ADD COLUMN last_status TEXT;           -- of its last run by itself
ALTER TABLE queues ADD COLUMN hold_lifted_at INTEGER;        -- a hold that was asked for before is over

-- The attempt before this one, of the same commit, whose row keeps the headers of both answers.
ALTER TABLE orderhook.attempts ADD COLUMN headers_in bigint;

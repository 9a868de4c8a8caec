-- The end of the last range of slots that one row accounts for: a job's cursor never goes back
-- behind it, also when the clock is set back.
ALTER TABLE jobs ADD COLUMN ranged_until_us INTEGER NOT NULL DEFAULT 0;

-- Holds that end by themselves: when, and what becomes of the slots before then.

ALTER TABLE holds ADD COLUMN until_us INTEGER;
ALTER TABLE holds ADD COLUMN choice TEXT NOT NULL DEFAULT 'skip';

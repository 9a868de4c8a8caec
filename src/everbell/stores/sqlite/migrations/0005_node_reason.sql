-- Why a node takes no new work.

ALTER TABLE nodes ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- What nodes tell of their machines, and how they share the jobs.

ALTER TABLE nodes ADD COLUMN roles TEXT NOT NULL DEFAULT 'scheduler worker api';
ALTER TABLE nodes ADD COLUMN cores INTEGER NOT NULL DEFAULT 1;
ALTER TABLE nodes ADD COLUMN machine_cpu REAL NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN memory_total_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN memory_free_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN tzdata TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN schema INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN clock_offset_s REAL;

-- Of a name, not of a process: it outlasts the rows of nodes.
CREATE TABLE drains (
    name TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row. owners: for each shard a position in nodes, counted from 1; 0 = nobody.
CREATE TABLE assignment (
    epoch INTEGER NOT NULL,
    nodes TEXT NOT NULL,
    owners TEXT NOT NULL
) STRICT;
INSERT INTO assignment VALUES (0, '[]', '[]');

CREATE TABLE shard_loads (
    shard INTEGER PRIMARY KEY,
    weight REAL NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;

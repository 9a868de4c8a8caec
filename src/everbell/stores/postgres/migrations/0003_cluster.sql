-- What nodes tell of their machines, and how they share the jobs.

-- presence: the key of the session lock that the node's process holds; NULL = it holds none now, so
-- that its absence means nothing.
ALTER TABLE nodes
    ADD COLUMN roles text[] NOT NULL DEFAULT '{scheduler,worker,api}',
    ADD COLUMN cores bigint NOT NULL DEFAULT 1,
    ADD COLUMN machine_cpu double precision NOT NULL DEFAULT 0,
    ADD COLUMN memory_total_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN memory_free_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN tzdata text NOT NULL DEFAULT '',
    ADD COLUMN schema bigint NOT NULL DEFAULT 0,
    ADD COLUMN clock_offset_s double precision,
    ADD COLUMN presence bigint;

-- Of a name, not of a process: it outlasts the rows of nodes.
CREATE TABLE drains (
    name text COLLATE "C" PRIMARY KEY,
    reason text NOT NULL,
    at_us bigint NOT NULL
);

-- One row, once there is an assignment. owners: for each shard a position in nodes; 0 = nobody.
CREATE TABLE assignment (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL,
    nodes text[] NOT NULL,
    owners smallint[] NOT NULL
);

CREATE TABLE shard_loads (
    shard integer PRIMARY KEY,
    weight double precision NOT NULL,
    at_us bigint NOT NULL
);

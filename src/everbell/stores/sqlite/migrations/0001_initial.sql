-- Times are microseconds since the Unix epoch, UTC.

CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT;

CREATE TABLE credentials (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    api_key TEXT NOT NULL UNIQUE,
    secret_hash TEXT NOT NULL,
    scopes TEXT NOT NULL,
    project_id INTEGER,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    archived INTEGER NOT NULL,
    old_hash TEXT NOT NULL,
    old_until_us INTEGER NOT NULL
) STRICT;

-- The hot columns of a job. The definition is apart: a cursor moves at every slot, and a row is
-- written as a whole.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    project_id INTEGER NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    folded_name TEXT NOT NULL,
    version INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    parked TEXT NOT NULL DEFAULT '',
    quarantined TEXT NOT NULL DEFAULT '',
    held INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    max_active INTEGER,
    next_slot_us INTEGER,
    release_policy TEXT NOT NULL DEFAULT '',
    release_until_us INTEGER NOT NULL DEFAULT 0,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    UNIQUE (project_id, name)
) STRICT;

CREATE INDEX jobs_due ON jobs (next_slot_us, id)
    WHERE enabled = 1 AND parked = '' AND quarantined = '' AND held = 0
    AND next_slot_us IS NOT NULL;

CREATE INDEX jobs_failing ON jobs (id) WHERE failures > 0;

CREATE TABLE definitions (
    job_id INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    definition TEXT NOT NULL
) STRICT;

CREATE TABLE job_versions (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    since_us INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (job_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    target_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (scope, target_id)
) STRICT;

-- The ledger. Time leads the key: new rows are appended, old ones are dropped as one range.
CREATE TABLE runs (
    slot_us INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    trigger_id TEXT NOT NULL,
    project_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 1,
    token INTEGER NOT NULL DEFAULT 0,
    node TEXT NOT NULL DEFAULT '',
    due_us INTEGER NOT NULL,
    claimed_us INTEGER,
    started_us INTEGER,
    finished_us INTEGER,
    code INTEGER,
    error TEXT NOT NULL DEFAULT '',
    output_bytes INTEGER NOT NULL DEFAULT 0,
    truncated INTEGER NOT NULL DEFAULT 0,
    until_us INTEGER,
    slots INTEGER NOT NULL DEFAULT 1,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (slot_us, job_id, trigger_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_of_job ON runs (job_id, slot_us);
CREATE INDEX runs_active ON runs (job_id) WHERE state IN ('claimed', 'running');
CREATE INDEX runs_queued ON runs (due_us) WHERE state = 'queued';
CREATE INDEX runs_waiting ON runs (job_id) WHERE state = 'queued';
CREATE INDEX runs_to_cancel ON runs (node)
    WHERE cancel_requested = 1 AND state IN ('claimed', 'running');

CREATE TABLE attempts (
    slot_us INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    trigger_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    token INTEGER NOT NULL,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    started_us INTEGER,
    finished_us INTEGER,
    code INTEGER,
    error TEXT NOT NULL,
    PRIMARY KEY (slot_us, job_id, trigger_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_of_job ON attempts (job_id);

CREATE TABLE output (
    slot_us INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    trigger_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stream TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (slot_us, job_id, trigger_id, attempt, start)
) STRICT;

CREATE INDEX output_of_job ON output (job_id);

CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    heartbeat_us INTEGER NOT NULL,
    lease_until_us INTEGER NOT NULL,
    state TEXT NOT NULL,
    workers INTEGER NOT NULL,
    running INTEGER NOT NULL,
    queued INTEGER NOT NULL,
    rss_bytes INTEGER NOT NULL,
    cpu_percent REAL NOT NULL,
    address TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE remembered (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX remembered_at ON remembered (at_us);

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The last fencing token handed out; one for all jobs, so that it grows for each.
CREATE TABLE fence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    token INTEGER NOT NULL
) STRICT;

INSERT INTO fence (id, token) VALUES (1, 0);

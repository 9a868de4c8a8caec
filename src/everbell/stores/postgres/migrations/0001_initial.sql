-- Times are microseconds since the Unix epoch, UTC. Texts that order or page compare by code point.

-- One row each: the lock of those that change definitions, ids without gaps, the change counter.
CREATE TABLE counters (
    name text PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO counters (name, value) VALUES
    ('definitions', 0), ('limits', 0), ('changes', 0), ('projects', 0), ('credentials', 0),
    ('jobs', 0), ('holds', 0);

-- Fencing tokens: one sequence for all jobs. Whoever draws one holds the job's row, so that tokens
-- grow for each job in the order of its claims.
CREATE SEQUENCE fence;

CREATE TABLE projects (
    id bigint PRIMARY KEY,
    uuid text NOT NULL UNIQUE,
    name text NOT NULL UNIQUE,
    description text NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL
);

CREATE TABLE credentials (
    id bigint PRIMARY KEY,
    uuid text NOT NULL UNIQUE,
    name text NOT NULL,
    api_key text NOT NULL UNIQUE,
    secret_hash text NOT NULL,
    scopes text NOT NULL,
    project_id bigint,
    created_us bigint NOT NULL,
    expires_us bigint,
    archived boolean NOT NULL,
    old_hash text NOT NULL,
    old_until_us bigint NOT NULL
);

-- The hot columns of a job. Definition and names are apart: a cursor moves at every slot, and then
-- a row is written as a whole, and an entry into each index of its table.
CREATE TABLE jobs (
    id bigint PRIMARY KEY,
    project_id bigint NOT NULL REFERENCES projects (id),
    version bigint NOT NULL,
    enabled boolean NOT NULL,
    parked text NOT NULL DEFAULT '',
    quarantined text NOT NULL DEFAULT '',
    held bigint NOT NULL DEFAULT 0,
    limited boolean NOT NULL DEFAULT false,
    failures bigint NOT NULL DEFAULT 0,
    max_active bigint,
    next_slot_us bigint,
    release_policy text NOT NULL DEFAULT '',
    release_until_us bigint NOT NULL DEFAULT 0,
    ranged_until_us bigint NOT NULL DEFAULT 0,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX jobs_due ON jobs (next_slot_us, id)
    WHERE enabled AND parked = '' AND quarantined = '' AND held = 0 AND next_slot_us IS NOT NULL;
CREATE INDEX jobs_failing ON jobs (id) WHERE failures > 0;

CREATE TABLE definitions (
    job_id bigint PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    owner_id bigint NOT NULL,
    uuid text NOT NULL UNIQUE,
    name text NOT NULL,
    folded_name text NOT NULL,
    definition text NOT NULL,
    UNIQUE (owner_id, name)
);

CREATE TABLE job_versions (
    job_id bigint NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    since_us bigint NOT NULL,
    enabled boolean NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (job_id, version)
);

CREATE TABLE holds (
    id bigint PRIMARY KEY,
    scope text NOT NULL,
    target_id bigint NOT NULL,
    reason text NOT NULL,
    who text NOT NULL,
    created_us bigint NOT NULL,
    until_us bigint,
    choice text NOT NULL DEFAULT 'skip',
    UNIQUE (scope, target_id)
);

-- Concurrency limits that jobs of a project share by name. A name without a row allows one run.
CREATE TABLE limits (
    project_id bigint NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    most bigint NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE job_limits (
    project_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    job_id bigint NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, name, job_id)
);
CREATE INDEX job_limits_of_job ON job_limits (job_id);

-- The ledger. Time leads the key: new rows are appended, old ones are dropped as one range.
CREATE TABLE runs (
    slot_us bigint NOT NULL,
    job_id bigint NOT NULL,
    trigger_id text COLLATE "C" NOT NULL,
    project_id bigint NOT NULL,
    version bigint NOT NULL,
    state text NOT NULL,
    cause text NOT NULL,
    reason text NOT NULL DEFAULT '',
    attempt bigint NOT NULL DEFAULT 1,
    token bigint NOT NULL DEFAULT 0,
    node text NOT NULL DEFAULT '',
    due_us bigint NOT NULL,
    claimed_us bigint,
    started_us bigint,
    finished_us bigint,
    code bigint,
    error text NOT NULL DEFAULT '',
    output_bytes bigint NOT NULL DEFAULT 0,
    truncated boolean NOT NULL DEFAULT false,
    until_us bigint,
    slots bigint NOT NULL DEFAULT 1,
    cancel_requested boolean NOT NULL DEFAULT false,
    crashes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (slot_us, job_id, trigger_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX runs_of_job ON runs (job_id, slot_us, trigger_id);
CREATE INDEX runs_active ON runs (job_id) WHERE state IN ('claimed', 'running');
CREATE INDEX runs_queued ON runs (due_us, slot_us, job_id, trigger_id) WHERE state = 'queued';
CREATE INDEX runs_waiting ON runs (job_id) WHERE state = 'queued';
CREATE INDEX runs_to_cancel ON runs (node)
    WHERE cancel_requested AND state IN ('claimed', 'running');

CREATE TABLE attempts (
    slot_us bigint NOT NULL,
    job_id bigint NOT NULL,
    trigger_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    token bigint NOT NULL,
    node text NOT NULL,
    state text NOT NULL,
    started_us bigint,
    finished_us bigint,
    code bigint,
    error text NOT NULL,
    PRIMARY KEY (slot_us, job_id, trigger_id, attempt)
);
CREATE INDEX attempts_of_job ON attempts (job_id);

CREATE TABLE output (
    slot_us bigint NOT NULL,
    job_id bigint NOT NULL,
    trigger_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    start bigint NOT NULL,
    stream text NOT NULL,
    at_us bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (slot_us, job_id, trigger_id, attempt, start)
);
CREATE INDEX output_of_job ON output (job_id);

CREATE TABLE nodes (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    started_us bigint NOT NULL,
    heartbeat_us bigint NOT NULL,
    lease_until_us bigint NOT NULL,
    state text NOT NULL,
    workers bigint NOT NULL,
    running bigint NOT NULL,
    queued bigint NOT NULL,
    rss_bytes bigint NOT NULL,
    cpu_percent double precision NOT NULL,
    address text NOT NULL,
    reason text NOT NULL DEFAULT ''
);

CREATE TABLE remembered (
    scope text NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    at_us bigint NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX remembered_at ON remembered (at_us);

CREATE TABLE meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

-- Who changed what, when, from where. Written in the transaction of the change itself.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us bigint NOT NULL,
    who text NOT NULL,
    credential_id bigint NOT NULL,
    address text NOT NULL,
    request_id text NOT NULL,
    what text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    project_id bigint,
    before text NOT NULL,
    after text NOT NULL
);
CREATE INDEX audit_of_project ON audit (project_id, id);
CREATE INDEX audit_at ON audit (at_us);

-- The two hot verbs, each one round trip and one transaction. Every statement of a function sees
-- what was committed before it began: the runs are counted after the jobs' rows are ours, so that
-- nobody else can claim in between. EB001 = some are of another kind: nothing was done, the caller
-- takes the long way. A later shape of these gets a new name, so that old nodes can go on.
-- `|| ''` keeps the planner from the partial indexes: rows are found by their key, one by one, also
-- by a plan that was made while the tables were empty.

CREATE FUNCTION decide_plain_1(
    p_node text, p_now bigint, p_job bigint[], p_project bigint[], p_version bigint[],
    p_cursor bigint[], p_next bigint[], p_slot bigint[], p_due bigint[], p_cause text[],
    p_most bigint[], OUT jobs bigint[], OUT tokens bigint[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    lost boolean;
BEGIN
    PERFORM 1 FROM jobs WHERE id = ANY (p_job) ORDER BY id FOR NO KEY UPDATE;
    WITH asked AS (
        SELECT * FROM unnest(p_job, p_project, p_version, p_cursor, p_next, p_slot, p_due, p_cause,
            p_most) AS a (job, project, version, cursor_us, next_us, slot, due, cause, most)
    ), moved AS (
        UPDATE jobs j SET next_slot_us = a.next_us FROM asked a
        WHERE j.id = a.job AND j.version = a.version AND j.next_slot_us = a.cursor_us
            AND j.enabled AND j.parked || '' = '' AND j.quarantined = '' AND j.held = 0
        RETURNING a.job, a.project, a.version, a.slot, a.due, a.cause, a.most
    ), made AS (
        INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, token,
            node, due_us, claimed_us)
        SELECT m.slot, m.job, '', m.project, m.version, 'claimed', m.cause, nextval('fence'),
            p_node, m.due, p_now
        FROM moved m
        WHERE m.most IS NULL OR m.most > (SELECT count(*) FROM runs r WHERE r.job_id = m.job
            AND r.state IN ('claimed', 'running'))
        ON CONFLICT DO NOTHING
        RETURNING job_id, token
    )
    SELECT array_agg(m.job_id), array_agg(m.token), count(*) <> (SELECT count(*) FROM moved)
    INTO jobs, tokens, lost
    FROM made m;
    IF lost THEN
        RAISE EXCEPTION 'not plain' USING ERRCODE = 'EB001';
    END IF;
END
$$;

CREATE FUNCTION finish_plain_1(
    p_slot bigint[], p_job bigint[], p_trigger text[], p_attempt bigint[], p_token bigint[],
    p_state text[], p_started bigint[], p_finished bigint[], p_code bigint[], p_error text[],
    p_reason text[], p_bytes bigint[], p_truncated boolean[], p_reset bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended bigint;
BEGIN
    UPDATE runs r SET state = a.state, started_us = a.started, finished_us = a.finished,
        code = a.code, error = a.error, reason = a.reason, output_bytes = a.bytes,
        truncated = a.truncated
    FROM unnest(p_slot, p_job, p_trigger, p_attempt, p_token, p_state, p_started, p_finished,
        p_code, p_error, p_reason, p_bytes, p_truncated) AS a (slot, job, trigger, attempt, token,
        state, started, finished, code, error, reason, bytes, truncated)
    WHERE r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger
        AND r.attempt = a.attempt AND r.token = a.token AND r.token > 0
        AND r.state || '' IN ('claimed', 'running') AND NOT r.cancel_requested;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended <> cardinality(p_slot) THEN
        RAISE EXCEPTION 'not plain' USING ERRCODE = 'EB001';
    END IF;
    UPDATE jobs SET failures = 0 WHERE failures > 0 AND id = ANY (p_reset);
END
$$;

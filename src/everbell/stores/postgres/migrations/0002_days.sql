-- Ended runs move out of `runs` into partitions by UTC day of their slot, so that what is hot stays
-- small and a day that is over is dropped as a whole. Nodes of the version before go on beside
-- this: `runs` is the table that they know. They see the history that has not moved yet.

CREATE TABLE ended_runs (LIKE runs INCLUDING DEFAULTS) PARTITION BY RANGE (slot_us);
ALTER TABLE ended_runs ADD PRIMARY KEY (slot_us, job_id, trigger_id);
CREATE INDEX ended_runs_of_job ON ended_runs (job_id, slot_us, trigger_id);
CREATE INDEX ended_runs_skipped ON ended_runs (job_id, slot_us, trigger_id)
    WHERE state = 'skipped';
-- Slots of days that have no partition: of long ago, and far ahead. It stays small.
CREATE TABLE ended_runs_rest PARTITION OF ended_runs DEFAULT;

-- A run stands in one of the two at any time.
CREATE VIEW ledger AS SELECT * FROM runs UNION ALL SELECT * FROM ended_runs;

-- Which partitions there are, beside the one for the rest.
CREATE TABLE partitions (
    name text PRIMARY KEY,
    parent text NOT NULL,
    from_us bigint NOT NULL,
    to_us bigint NOT NULL
);
CREATE INDEX partitions_over ON partitions (to_us);

-- What attempts and output hold so far becomes the partition of all days up to today.
DO $$
DECLARE
    midnight bigint := (floor(extract(epoch FROM now()) / 86400) + 1)::bigint * 86400000000;
    parent text;
    old text;
    used boolean;
BEGIN
    FOREACH parent IN ARRAY ARRAY['attempts', 'output'] LOOP
        old := parent || '_before';
        EXECUTE format('ALTER TABLE %I RENAME TO %I', parent, old);
        EXECUTE format('ALTER INDEX %I RENAME TO %I', parent || '_pkey', old || '_pkey');
        EXECUTE format('ALTER INDEX %I RENAME TO %I', parent || '_of_job', old || '_of_job');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS) PARTITION BY RANGE (slot_us)',
            parent, old);
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (slot_us, job_id, trigger_id, attempt%s)',
            parent, CASE parent WHEN 'output' THEN ', start' ELSE '' END);
        EXECUTE format('CREATE INDEX %I ON %I (job_id)', parent || '_of_job', parent);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_rest', parent);
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', old) INTO used;
        IF used THEN
            EXECUTE format('WITH ahead AS (DELETE FROM %I WHERE slot_us >= %s RETURNING *)'
                ' INSERT INTO %I SELECT * FROM ahead', old, midnight, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%s)',
                parent, old, midnight);
            INSERT INTO partitions VALUES (old, parent, -9223372036854775808, midnight);
        ELSE
            EXECUTE format('DROP TABLE %I', old);
        END IF;
    END LOOP;
END
$$;

-- Makes the partitions of a day (days since the epoch) unless they are there; what the rest held
-- of that day moves there. With the rights of the owner: nodes may run as a role that can't change
-- tables. Nobody waits for it for long: it gives up (55P03) when it does not get its locks soon.
CREATE FUNCTION make_day_2(p_day bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = everbell, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    low bigint := p_day * 86400000000;
    high bigint := low + 86400000000;
    whole text;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(1163281970);
    FOREACH whole IN ARRAY ARRAY['output', 'attempts', 'ended_runs'] LOOP
        CONTINUE WHEN EXISTS (SELECT 1 FROM partitions p WHERE p.parent = whole
            AND p.from_us < high AND p.to_us > low);
        child := whole || to_char(to_timestamp(p_day * 86400) AT TIME ZONE 'UTC', '_YYYYMMDD');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, whole);
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', whole || '_rest');
        EXECUTE format('WITH moved AS (DELETE FROM %I WHERE slot_us >= %s AND slot_us < %s'
            ' RETURNING *) INSERT INTO %I SELECT * FROM moved', whole || '_rest', low, high,
            child);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', whole,
            child, low, high);
        INSERT INTO partitions VALUES (child, whole, low, high);
    END LOOP;
END
$$;

-- Drops one partition that is wholly before an instant and belongs to no run that goes on; tells
-- which, and how many runs went with it. NULL: there is none (more).
CREATE FUNCTION drop_day_2(p_before bigint, OUT dropped text, OUT gone bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = everbell, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    old partitions;
BEGIN
    gone := 0;
    SELECT * INTO old FROM partitions p WHERE p.to_us <= p_before
        AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.slot_us >= p.from_us AND r.slot_us < p.to_us)
    ORDER BY p.to_us, p.parent = 'ended_runs' LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', old.name);
    -- Output that was written until now belongs to a run that this sees.
    IF EXISTS (SELECT 1 FROM runs r WHERE r.slot_us >= old.from_us AND r.slot_us < old.to_us) THEN
        RETURN;
    END IF;
    IF old.parent = 'ended_runs' THEN
        -- To count many millions takes longer than an answer is waited for.
        IF pg_table_size(old.name::regclass) < 268435456 THEN
            EXECUTE format('SELECT count(*) FROM %I', old.name) INTO gone;
        ELSE
            SELECT greatest(reltuples::bigint, pg_table_size(oid) / 256) INTO gone FROM pg_class
            WHERE oid = old.name::regclass;
        END IF;
    END IF;
    EXECUTE format('DROP TABLE %I', old.name);
    DELETE FROM partitions WHERE name = old.name;
    dropped := old.name;
END
$$;

-- The rights of these are the owner's: they are for those who may use the tables.
REVOKE ALL ON FUNCTION make_day_2, drop_day_2 FROM PUBLIC;

-- The two hot verbs as before, but what ends moves.

CREATE FUNCTION decide_plain_2(
    p_node text, p_now bigint, p_job bigint[], p_project bigint[], p_version bigint[],
    p_cursor bigint[], p_next bigint[], p_slot bigint[], p_due bigint[], p_cause text[],
    p_most bigint[], OUT jobs bigint[], OUT tokens bigint[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    lost boolean;
    low bigint;
    high bigint;
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
    -- Looked up after the insert: what was moving meanwhile has arrived. The bounds keep days out
    -- that can't have it.
    SELECT min(s), max(s) INTO low, high FROM unnest(p_slot) AS s;
    PERFORM 1 FROM unnest(p_job, p_slot) AS a (job, slot) CROSS JOIN LATERAL (
        SELECT 1 FROM ended_runs e WHERE e.slot_us = a.slot AND e.job_id = a.job
            AND e.trigger_id = '' AND e.slot_us >= low AND e.slot_us <= high LIMIT 1) x
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'not plain' USING ERRCODE = 'EB001';
    END IF;
END
$$;

CREATE FUNCTION finish_plain_2(
    p_slot bigint[], p_job bigint[], p_trigger text[], p_attempt bigint[], p_token bigint[],
    p_state text[], p_started bigint[], p_finished bigint[], p_code bigint[], p_error text[],
    p_reason text[], p_bytes bigint[], p_truncated boolean[], p_reset bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended bigint;
BEGIN
    -- First, as all others lock jobs before runs.
    UPDATE jobs SET failures = 0 WHERE failures > 0 AND id = ANY (p_reset);
    WITH gone AS (
        DELETE FROM runs r
        USING unnest(p_slot, p_job, p_trigger, p_attempt, p_token, p_state, p_started, p_finished,
            p_code, p_error, p_reason, p_bytes, p_truncated) AS a (slot, job, trigger, attempt,
            token, state, started, finished, code, error, reason, bytes, truncated)
        WHERE r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger
            AND r.attempt = a.attempt AND r.token = a.token AND r.token > 0
            AND r.state || '' IN ('claimed', 'running') AND NOT r.cancel_requested
        RETURNING r.slot_us, r.job_id, r.trigger_id, r.project_id, r.version, a.state, r.cause,
            a.reason, r.attempt, r.token, r.node, r.due_us, r.claimed_us, a.started, a.finished,
            a.code, a.error, a.bytes, a.truncated, r.until_us, r.slots, r.cancel_requested,
            r.crashes
    )
    INSERT INTO ended_runs (slot_us, job_id, trigger_id, project_id, version, state, cause, reason,
        attempt, token, node, due_us, claimed_us, started_us, finished_us, code, error,
        output_bytes, truncated, until_us, slots, cancel_requested, crashes)
    SELECT * FROM gone;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended <> cardinality(p_slot) THEN
        RAISE EXCEPTION 'not plain' USING ERRCODE = 'EB001';
    END IF;
END
$$;

-- Nodes of the version before look for a run only in `runs`. New nodes name themselves in their
-- sessions (everbell.schema) and look into both tables themselves.
CREATE FUNCTION keep_ended_once() RETURNS trigger LANGUAGE plpgsql
SET search_path = everbell, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM ended_runs e WHERE e.slot_us = NEW.slot_us AND e.job_id = NEW.job_id
        AND e.trigger_id = NEW.trigger_id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_ended_once BEFORE INSERT ON runs FOR EACH ROW
    WHEN (current_setting('everbell.schema', true) IS NULL)
    EXECUTE FUNCTION keep_ended_once();

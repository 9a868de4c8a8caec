-- As before, but jobs are locked by id: whoever waits for one holds none behind it.

CREATE OR REPLACE FUNCTION finish_plain_2(
    p_slot bigint[], p_job bigint[], p_trigger text[], p_attempt bigint[], p_token bigint[],
    p_state text[], p_started bigint[], p_finished bigint[], p_code bigint[], p_error text[],
    p_reason text[], p_bytes bigint[], p_truncated boolean[], p_reset bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    failing bigint[];
    ended bigint;
BEGIN
    -- First, and by id, as all others lock jobs before runs.
    SELECT array_agg(id) INTO failing FROM (
        SELECT id FROM jobs WHERE failures > 0 AND id = ANY (p_reset) ORDER BY id
        FOR NO KEY UPDATE) f;
    IF failing IS NOT NULL THEN
        UPDATE jobs SET failures = 0 WHERE id = ANY (failing);
    END IF;
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

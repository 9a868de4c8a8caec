"""Real nodes, killed under load, compared with what the targets themselves wrote down."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(240)

APPEND = 'printf "%s %s %s\\n" "$EVERBELL_RUN_ID" "$EVERBELL_ATTEMPT" "$EVERBELL_TOKEN" >> "$0"'
FINAL = {"succeeded", "failed", "timed_out", "cancelled", "skipped", "missed", "lost"}


def _job(name: str, log: str, **more: Any) -> dict[str, Any]:
    command = {"kind": "command", "argv": ["sh", "-c", APPEND, log]}
    return {"name": name, "schedule": "@every 1s", "action": command, **more}


def _written(path: Any) -> list[tuple[str, int, int]]:
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split() for line in lines]
    return [(run_id, int(attempt), int(token)) for run_id, attempt, token in rows]


def _accounted(node: NodeProcess, job: dict[str, Any], until_us: int) -> list[str]:
    """Return the slots of a job, up to an instant, that the ledger does not account for."""
    runs = node.runs(f"&job={job['id']}")
    slots: set[int] = set()
    for run in runs:
        first = int(run["id"].split("-")[1])
        count = run.get("count") or 1
        slots.update(first + k * 1_000_000 for k in range(count))
    start = min(slots)
    expected = range(start, until_us, 1_000_000)
    return [str(slot) for slot in expected if slot not in slots]


def test_kill_9_in_a_loop_under_load_loses_and_doubles_nothing(
    new_node: Callable[..., NodeProcess], tmp_path: Any
) -> None:
    node = new_node()
    node.start()
    log = tmp_path / "outside.log"
    all_in = {"misfire": {"policy": "all", "window": 600, "max_catch_up": 500}}
    twice = [
        node.make("/api/v1/jobs", _job(f"job-{k}", str(log), overlap="allow", **all_in))
        for k in range(8)
    ]
    once_log = tmp_path / "once.log"
    once = [
        node.make(
            "/api/v1/jobs",
            _job(f"once-{k}", str(once_log), delivery="at_most_once", overlap="allow", **all_in),
        )
        for k in range(4)
    ]
    chance = random.Random(7)
    for _ in range(5):
        time.sleep(chance.uniform(0.6, 2.2))
        node.kill()
        node.start()
    time.sleep(2)
    stopped_us = int(time.time()) * 1_000_000 - 1_000_000
    for job in (*twice, *once):
        assert node.call("POST", f"/api/v1/jobs/{job['id']}/disable")[0] == 200
    until(lambda: all(run["state"] in FINAL for run in node.runs()), 60, "every run has an outcome")
    runs = {run["id"]: run for run in node.runs()}
    for job in (*twice, *once):
        assert _accounted(node, job, stopped_us) == []
    _compare(runs, _written(log))
    once_rows = _written(once_log)
    _compare(runs, once_rows)
    assert max(Counter(run_id for run_id, _, _ in once_rows).values()) == 1
    assert node.stop() == 0


def _compare(runs: dict[str, Any], rows: list[tuple[str, int, int]]) -> None:
    """Hold the ledger against the log that the targets wrote."""
    starts = Counter((run_id, attempt) for run_id, attempt, _ in rows)
    assert not [start for start, count in starts.items() if count > 1]
    assert not {run_id for run_id, _, _ in rows} - set(runs)
    written = {run_id for run_id, _, _ in rows}
    jobs = {run_id.split("-")[0] for run_id in written}
    succeeded = {
        run_id
        for run_id, run in runs.items()
        if run["state"] == "succeeded" and run_id.split("-")[0] in jobs
    }
    assert succeeded <= written
    by_job: dict[str, list[tuple[int, int, int]]] = {}
    for run_id, attempt, token in rows:
        job, slot = run_id.split("-")[:2]
        by_job.setdefault(job, []).append((token, int(slot), attempt))
    for claims in by_job.values():
        assert len({token for token, _, _ in claims}) == len(claims)


def test_a_run_left_by_kill_9_is_taken_over_or_lost_by_policy_and_leaves_no_process(
    new_node: Callable[..., NodeProcess], tmp_path: Any
) -> None:
    node = new_node()
    node.start()
    log = tmp_path / "outside.log"
    script = f'echo "$EVERBELL_ATTEMPT $$" >> {log}; [ "$EVERBELL_ATTEMPT" = 2 ] || exec sleep 60'
    action = {"kind": "command", "argv": ["sh", "-c", script]}
    again = node.make("/api/v1/jobs", {"name": "again", "action": action})
    once = node.make("/api/v1/jobs", {"name": "once", "action": action, "delivery": "at_most_once"})
    first = node.make(f"/api/v1/jobs/{again['id']}/runs", {})
    second = node.make(f"/api/v1/jobs/{once['id']}/runs", {})
    until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, 10, "both started")
    node.kill()
    node.start()

    def state(run: dict[str, Any]) -> str:
        return str(node.call("GET", f"/api/v1/runs/{run['id']}")[1]["data"]["state"])

    until(lambda: state(first) == "succeeded", 30, "the run is taken over")
    until(lambda: state(second) == "lost", 30, "the run is given up")
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["1", "1", "2"]
    found = node.call("GET", f"/api/v1/runs/{first['id']}")[1]["data"]
    assert found["attempt"] == 2
    assert [attempt["attempt"] for attempt in found["attempts"]] == [1]
    assert node.stop() == 0


def test_two_nodes_on_one_file_run_each_slot_once(
    new_node: Callable[..., NodeProcess], tmp_path: Any
) -> None:
    one = new_node("shared")
    one.start()
    log = tmp_path / "outside.log"
    jobs = [one.make("/api/v1/jobs", _job(f"job-{k}", str(log))) for k in range(10)]
    two = one.sibling()
    try:
        two.start()
        nodes = one.call("GET", "/api/v1/nodes")[1]["data"]
        assert [node["state"] for node in nodes] == ["up", "up"]
        time.sleep(4)
        assert two.stop() == 0
    finally:
        two.close()
    for job in jobs:
        one.call("POST", f"/api/v1/jobs/{job['id']}/disable")
    until(lambda: all(run["state"] in FINAL for run in one.runs()), 30, "every run has an outcome")
    starts = Counter((run_id, attempt) for run_id, attempt, _ in _written(log))
    assert len(starts) >= 30
    assert max(starts.values()) == 1

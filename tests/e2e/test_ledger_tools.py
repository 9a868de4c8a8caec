"""The ledger's tools against a real node's database, and against a copy that was tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def everbell(node: NodeProcess, *words: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        [sys.executable, "-m", "everbell", *words, "--json"],
        cwd=node.directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_verify_a_killed_node_its_backup_and_a_forged_copy(
    new_node: Callable[..., NodeProcess],
) -> None:
    node = new_node()
    node.start()
    job = node.make(
        "/api/v1/jobs",
        {
            "name": "tick",
            "schedule": "@every 1s",
            "action": {"kind": "command", "argv": ["true"]},
            "misfire": {"policy": "all", "window": 600, "max_catch_up": 100},
        },
    )
    done = "&state=succeeded"
    until(lambda: len(node.runs(done)) >= 3, 20, "three runs")
    node.kill()
    node.start()
    until(lambda: len(node.runs(done)) >= 12, 40, "runs after the kill")
    code, answer, said = everbell(node, "verify")
    assert (code, answer["data"]["unexplained"]) == (0, 0), said
    assert node.stop() == 0

    backup = node.directory / "backup.db"
    shutil.copy(node.directory / "everbell.db", backup)
    code, answer, said = everbell(node, "verify", "--database", str(backup))
    assert code == 0, (answer, said)
    assert answer["data"]["slots"] >= 5
    before = backup.read_bytes()
    assert [path.name for path in node.directory.glob("backup*")] == ["backup.db"]

    db = apsw.Connection(str(backup))
    slots = [row[0] for row in db.execute("SELECT slot_us FROM runs ORDER BY slot_us")]
    db.execute("DELETE FROM runs WHERE slot_us = ?", (slots[2],))
    db.execute("UPDATE runs SET slot_us = slot_us + 5 WHERE slot_us = ?", (slots[4],))
    db.close()
    assert backup.read_bytes() != before
    code, answer, _ = everbell(node, "verify", "--database", str(backup), "--job", str(job["id"]))
    assert code == 1
    found = answer["data"]["findings"]
    assert sorted(one["kind"] for one in found if not one["why"]) == ["gap", "gap", "no_slot"]


def test_slots_decided_by_hand_on_a_node_at_work(new_node: Callable[..., NodeProcess]) -> None:
    node = new_node()
    node.start()
    fields = {"action": {"kind": "command", "argv": ["true"]}, "overlap": "queue"}
    job = node.make("/api/v1/jobs", {"name": "tick", "schedule": "@every 3s", **fields})
    url = f"/api/v1/jobs/{job['id']}"
    skipped = until(lambda: skip(node, f"{url}/skip-next"), 10, "a slot that is not claimed")
    until(lambda: len(node.runs("&state=succeeded")) >= 2, 20, "runs around the skipped slot")
    instead = until(lambda: skip(node, f"{url}/run-instead"), 10, "a slot that is not claimed")
    until(lambda: run_of(node, instead["instead"]["id"])["state"] == "succeeded", 10, "the run")
    assert run_of(node, skipped["skipped"]["id"])["state"] == "skipped"
    assert run_of(node, instead["skipped"]["id"])["state"] == "skipped"

    end = datetime.now(UTC) + timedelta(seconds=7)
    held = {"until": end.isoformat(), "then": "once", "reason": "short"}
    node.make(f"{url}/hold", held)
    until(lambda: node.call("GET", "/api/v1/holds")[1]["data"] == [], 20, "the end of the hold")
    assert datetime.now(UTC) >= end
    until(lambda: node.runs("&trigger=catch_up&state=succeeded"), 10, "one slot is caught up")
    audit = node.call("GET", "/api/v1/audit")[1]
    code, answer, said = everbell(node, "verify")
    assert (code, answer["data"]["unexplained"]) == (0, 0), said
    if "data" in audit:
        assert [one["who"] for one in audit["data"] if one["what"] == "hold.end.once"] == [
            "everbell"
        ]


def skip(node: NodeProcess, path: str) -> Any:
    status, answer = node.call("POST", path, {})
    return answer["data"] if status == 201 else None


def run_of(node: NodeProcess, run_id: str) -> Any:
    return node.call("GET", f"/api/v1/runs/{run_id}")[1]["data"]

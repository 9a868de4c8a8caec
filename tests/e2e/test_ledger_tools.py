"""The ledger's tools against a real node's database, and against a copy that was tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
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

"""Backups of a node at work, one after another; each is a whole and consistent installation."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(180)


def test_backups_in_a_loop_under_load_then_a_restore(new_node: Callable[..., NodeProcess]) -> None:
    node = new_node()
    node.start()
    jobs = [
        {"name": f"j{n}", "schedule": "@every 1s", "overlap": "allow", "max_running": 9,
         "action": {"kind": "command", "argv": ["true"]}}
        for n in range(8)
    ]  # fmt: skip
    node.make("/api/v1/jobs", jobs)
    counts = []
    end = time.monotonic() + 6
    while time.monotonic() < end or len(counts) < 3:
        shown = json.loads(node.cli("backup", f"copy{len(counts)}.db", "--json"))["data"]
        counts.append(shown["runs"])
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert node.process is not None
    assert node.process.poll() is None
    assert len(node.runs()) >= counts[-1]
    assert node.cli("restore", "copy0.db", "--yes", check=False) == "", "refused: the node runs"
    assert node.stop() == 0
    for number in range(len(counts)):
        # Fails unless every slot is accounted for.
        node.cli("verify", "--database", f"copy{number}.db")
    node.cli("restore", f"copy{len(counts) - 1}.db", "--yes", "--hold")
    node.start()
    [hold] = node.call("GET", "/api/v1/holds")[1]["data"]
    time.sleep(1.5)
    kept = node.runs()
    assert all(run["trigger"] != "catch_up" for run in kept), "nothing starts under the hold"
    node.cli("hold", "release", str(hold["id"]), "--missed", "once")
    until(lambda: len(node.runs()) > len(kept), 20, "it goes on after the release")
    time.sleep(2)
    node.cli("verify")
    ids = [run["id"] for run in node.runs()]
    assert len(ids) == len(set(ids))


def test_a_paused_node_is_a_running_one(new_node: Callable[..., NodeProcess]) -> None:
    node = new_node()
    node.start()
    node.cli("backup", "copy.db")
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        time.sleep(2.5)  # longer than its lease
        assert node.cli("restore", "copy.db", "--yes", check=False) == ""
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    assert node.stop() == 0
    node.cli("restore", "copy.db", "--yes")
    assert list(Path(node.directory).glob("everbell.db.before-restore-*"))

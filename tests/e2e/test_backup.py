"""Backups of a node at work, one after another; each is a whole and consistent installation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(180)
FINAL = {"succeeded", "failed", "skipped", "missed", "lost", "cancelled"}


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
    while time.monotonic() < end:
        shown = json.loads(node.cli("backup", f"copy{len(counts)}.db", "--json"))["data"]
        counts.append(shown["runs"])
    assert len(counts) >= 3
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert node.process is not None
    assert node.process.poll() is None
    before = {run["id"]: run["state"] for run in node.runs()}
    # Refused while the node runs, and also after a kill as long as a program has the file open.
    refused = node.cli("restore", "copy0.db", "--yes", check=False)
    assert refused == ""
    assert node.stop() == 0
    assert sum(1 for run in before if "j" not in run) >= counts[-1] - 8
    _each_copy_is_whole(node, len(counts))
    node.cli("restore", f"copy{len(counts) - 1}.db", "--yes", "--hold")
    node.start()
    [hold] = node.call("GET", "/api/v1/holds")[1]["data"]
    time.sleep(1.5)
    kept = node.runs()
    assert all(run["trigger"] != "catch_up" for run in kept), "nothing starts under the hold"
    node.make(f"/api/v1/holds/{hold['id']}/release", {"missed": "once"})
    until(lambda: len(node.runs()) > len(kept), 20, "it goes on after the release")
    until(
        lambda: _gaps(node.runs()) == [], 20, f"every slot is accounted for: {_gaps(node.runs())}"
    )
    ids = [run["id"] for run in node.runs()]
    assert len(ids) == len(set(ids))


def _each_copy_is_whole(node: NodeProcess, count: int) -> None:
    for number in range(count):
        home = node.directory / f"home{number}"
        home.mkdir()
        shutil.copy(node.directory / ".everbell", home / ".everbell")
        shutil.copy(node.directory / "everbell.toml", home / "everbell.toml")
        shutil.copy(node.directory / f"copy{number}.db", home / "everbell.db")
        words = ["run", "list", "-c", str(home / "everbell.toml"), "--limit", "5000", "--json"]
        runs = json.loads(node.cli(*words))["data"]
        assert _gaps(runs) == [], f"copy {number}"


def _gaps(runs: list[dict]) -> list[str]:
    """Return jumps of more than a second between the slots of a job, of rows or ranges."""
    gaps = []
    by_job: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        first = _seconds(run["slot"])
        last = _seconds(run.get("until") or run["slot"])
        by_job.setdefault(run["job"], []).append((first, last))
    for job, spans in by_job.items():
        spans.sort()
        for (_, end), (start, _) in pairwise(spans):
            if start - end > 1.001:
                gaps.append(f"{job}: {end} to {start}")
    return gaps


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


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

"""From one node on SQLite to two on PostgreSQL while jobs are due every second."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until

from everbell.testing.postgres_server import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def written(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def command(node: NodeProcess, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "everbell", *words],
        cwd=node.directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_every_slot_before_while_and_after_the_move_has_one_row_and_at_most_one_start(
    new_node: Callable[..., NodeProcess], postgres_server: PostgresServer, tmp_path: Path, end: str
) -> None:
    url = postgres_server.url(postgres_server.new_database())
    node = new_node()
    other = node.sibling()
    log = tmp_path / "outside.log"
    argv = ["sh", "-c", 'echo "$EVERBELL_RUN_ID" >> "$0"', str(log)]
    jobs = [
        {
            "name": f"tick{number}",
            "schedule": "@every 1s",
            "action": {"kind": "command", "argv": argv},
            "misfire": {"policy": "all", "window": 600, "max_catch_up": 1000},
            "overlap": "allow",
            "delivery": "at_most_once",
        }
        for number in range(3)
    ]
    try:
        node.start()
        made = node.make("/api/v1/jobs", jobs)
        until(lambda: len(written(log)) >= 6, 20, "it runs")
        refused = command(node, "migrate", "--to", url)
        assert "is in use" in refused.communicate()[1]
        assert refused.returncode == 6
        assert node.stop() == 0 if end == "stopped" else not node.kill()
        begun = len(written(log))
        move_although_killed(node, url)
        with pytest.raises(AssertionError, match="was moved to postgresql://"):
            node.start()
        config = node.directory / "everbell.toml"
        config.write_text(config.read_text() + f'\n[database]\nurl = "{url}"\n')
        node.start()
        other.start()
        until(lambda: len(written(log)) >= begun + 30, 60, "it goes on where it stopped")
        time.sleep(3)
        until_us = int((time.time() - 2) * 1_000_000)
        for job in made:
            runs = node.runs(f"&job={job['id']}")
            slots = [int(run["id"].split("-")[1]) for run in runs]
            assert len(slots) == len(set(slots))
            gaps = [at for at in range(min(slots), until_us, 1_000_000) if at not in set(slots)]
            assert gaps == []
        found = written(log)
        assert len(found) == len(set(found)), "a run that starts at most once started twice"
        node.cli("verify")
        assert node.stop() == 0
        assert other.stop() == 0
    finally:
        other.close()


def move_although_killed(node: NodeProcess, url: str) -> None:
    for tenths in (5, 8, 11, 14):
        killed = command(node, "migrate", "--to", url)
        try:
            killed.wait(tenths / 10)
        except subprocess.TimeoutExpired:
            killed.kill()
        killed.communicate()
    node.cli("migrate", "--to", url)
    assert '"already done"' in node.cli("migrate", "--to", url, "--json")

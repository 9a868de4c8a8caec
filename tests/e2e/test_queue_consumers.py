"""Programs that read what `queue` jobs send, and a node whose Redis goes away and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from everbell_e2e_nodes import FAST_NODE, NodeProcess, until

from everbell.testing.redis_server import RedisServer

pytestmark = pytest.mark.timeout(120)

EXAMPLES = Path(__file__).parents[2] / "examples"
MODULES = Path(__file__).parent / "seed_client" / "node_modules"
QUEUES = (
    FAST_NODE
    + """
[redis]
addr = "{addr}"
password = "{password}"

[queues]
drivers = ["docker"]

[crypto]
salt = "pepper"
"""
)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer(password="se-cret")
    yield server
    server.close()


@pytest.fixture
def node(new_node: Callable[..., NodeProcess], server: RedisServer) -> NodeProcess:
    config = QUEUES.replace("{addr}", server.addr).replace("{password}", server.password)
    return new_node(config=config)


def consumer(file: str, home: Path, server: RedisServer, out: Path) -> subprocess.Popen[bytes]:
    program = home / file
    program.write_bytes((EXAMPLES / file).read_bytes())
    if not (home / "node_modules").exists():
        (home / "node_modules").symlink_to(MODULES)
    url = f"redis://:{server.password}@{server.addr}"
    with out.open("ab") as stream:
        return subprocess.Popen(
            ["node" if file.endswith("mjs") else sys.executable, str(program)],
            cwd=home,
            env={**os.environ, "REDIS_URL": url},
            stdout=stream,
            stderr=stream,
        )


def built(out: Path) -> list[str]:
    lines = out.read_text().splitlines() if out.exists() else []
    assert all(line.startswith("built ") for line in lines), lines
    return [line.split()[2] for line in lines]


def ended(node: NodeProcess, *states: str) -> list[str]:
    words = [word for state in states for word in ("--state", state)]
    rows = json.loads(node.cli("run", "list", *words, "--json"))["data"]
    return [row["id"] for row in rows]


def is_empty(server: RedisServer) -> bool:
    return server.command("XLEN", "builds_docker") == ":0"


@pytest.mark.parametrize("file", ["queue_consumer.py", "queue_consumer.mjs"])
def test_each_run_is_built_once(
    node: NodeProcess, server: RedisServer, tmp_path: Path, file: str
) -> None:
    node.start()
    node.cli("job", "create", "image", "--queue", "docker", "--every", "1s", "--data", "[1]")
    out = tmp_path / "out.log"
    first = consumer(file, tmp_path, server, out)
    try:
        # One that is killed between its work and its note is told again after a minute only.
        until(lambda: len(built(out)) >= 3 and is_empty(server), 30, "three messages")
        first.kill()
        first.wait(10)
        time.sleep(1)
        first = consumer(file, tmp_path, server, out)
        until(lambda: len(built(out)) >= 6, 30, "six messages")
        node.cli("job", "disable", "image")
        # Told once more, as after a lost answer: the consumer knows the id.
        again = json.dumps({"id": built(out)[0], "job": {"name": "image"}})
        server.command("XADD", "builds_docker", "*", "id", built(out)[0], "message", again)
        until(lambda: is_empty(server), 10, "an empty queue")
        until(lambda: set(built(out)) == set(ended(node, "succeeded")), 10, "the same runs")
        assert len(built(out)) == len(set(built(out)))
    finally:
        first.kill()
        first.wait(10)


@pytest.mark.parametrize("file", ["queue_consumer_short.py", "queue_consumer_short.mjs"])
def test_ten_lines_read_what_is_queued(
    node: NodeProcess, server: RedisServer, tmp_path: Path, file: str
) -> None:
    node.start()
    node.cli("job", "create", "image", "--queue", "docker", "--every", "1s")
    out = tmp_path / "out.log"
    program = consumer(file, tmp_path, server, out)
    try:
        # One that is killed between its work and its note is told again after a minute only.
        until(lambda: len(built(out)) >= 3 and is_empty(server), 30, "three messages")
        node.cli("job", "disable", "image")
        until(lambda: is_empty(server), 10, "an empty queue")
        until(lambda: set(built(out)) == set(ended(node, "succeeded")), 10, "the same runs")
    finally:
        program.kill()
        program.wait(10)


def test_a_driver_that_is_not_listed_is_refused(node: NodeProcess) -> None:
    node.start()
    done = subprocess.run(
        [sys.executable, "-m", "everbell", "job", "create", "image", "--queue", "dokcer"],
        cwd=node.directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "queues.drivers" in done.stderr
    assert "did you mean docker" in done.stderr


def test_runs_fail_while_redis_is_away_and_go_on_after(
    node: NodeProcess, server: RedisServer
) -> None:
    node.start()
    node.cli("job", "create", "image", "--queue", "docker", "--every", "1s")
    until(lambda: ended(node, "succeeded"), 20, "a message")
    server.kill()
    until(lambda: ended(node, "failed"), 20, "a failure")
    [failed, *_] = json.loads(node.cli("run", "list", "--state", "failed", "--json"))["data"]
    assert "redis.addr" in failed["error"]
    assert server.password not in json.dumps(failed)
    server.start()
    before = len(ended(node, "succeeded"))
    until(lambda: len(ended(node, "succeeded")) > before, 20, "a message after the restart")
    assert server.password not in (node.directory / "node.log").read_text()

"""What a running node does about limits, withdrawn keys and a database that is taken away."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from everbell_e2e_nodes import NodeProcess

Make = Callable[..., NodeProcess]
SCHEDULER0 = """\
Host: 127.0.0.1
{keys}
node: {{heartbeat: 0.2, lease: 1.0}}
execution: {{shutdown_grace: 1.0, kill_grace: 0.5}}
"""
DONE = {"succeeded", "failed", "timed_out", "cancelled"}


def scheduler0_node(new_node: Make, **keys: object) -> NodeProcess:
    node = new_node()
    lines = "\n".join(f"{name}: {value}" for name, value in keys.items())
    (node.directory / "everbell.toml").unlink()
    (node.directory / "config.yml").write_text(SCHEDULER0.format(keys=lines))
    node.start()
    return node


def command(node: NodeProcess, name: str, *argv: str, **more: Any) -> int:
    action = {"kind": "command", "argv": list(argv)}
    return int(node.make("/api/v1/jobs", {"name": name, "action": action, **more})["id"])


def run_now(node: NodeProcess, job: int) -> str:
    return str(node.make(f"/api/v1/jobs/{job}/runs", {})["id"])


def get(node: NodeProcess, path: str) -> Any:
    status, answer = node.call("GET", f"/api/v1{path}")
    assert status == 200, answer
    return answer["data"]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return answer


def ended(node: NodeProcess, run: str) -> Any:
    def done() -> Any:
        found = get(node, f"/runs/{run}")
        return found if found["state"] in DONE else None

    return wait_for(done, f"run {run} ends")


def test_one_worker_and_a_queue_of_one_run_everything_one_after_the_other(new_node: Make) -> None:
    node = scheduler0_node(new_node, MaxWorkers=1, MaxQueue=1)
    jobs = [command(node, f"j{number}", "sleep", "0.2") for number in range(4)]
    runs = [ended(node, run) for run in [run_now(node, job) for job in jobs]]
    assert {run["state"] for run in runs} == {"succeeded"}
    spans = sorted((run["started_at"], run["finished_at"]) for run in runs)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_timeout_and_retries_of_the_scheduler0_keys(new_node: Make) -> None:
    node = scheduler0_node(
        new_node, JobExecutionTimeout=0.3, JobExecutionRetryDelay=0.2, JobExecutionRetryMax=1
    )
    began = time.monotonic()
    run = ended(node, run_now(node, command(node, "slow", "sleep", "60")))
    assert (run["state"], run["attempt"]) == ("timed_out", 2)
    assert "0.3 s" in run["error"]
    assert time.monotonic() - began >= 0.8


def test_log_level_debug_tells_every_request_and_error_tells_nothing(new_node: Make) -> None:
    node = scheduler0_node(new_node, LogLevel="DEBUG")
    get(node, "/jobs")
    assert node.stop() == 0
    assert "GET /api/v1/jobs" in node.log()
    (node.directory / "node.log").unlink()
    (node.directory / "config.yml").write_text(SCHEDULER0.format(keys="LogLevel: ERROR"))
    node.start()
    get(node, "/jobs")
    assert node.stop() == 0
    assert '"level"' not in node.log()


def test_above_its_memory_a_node_takes_no_new_work_and_goes_on_below(new_node: Make) -> None:
    # A program of the node's own takes the memory: what it starts counts as its.
    node = scheduler0_node(new_node, MaxMemory=400)
    hog = f"import pathlib,time\nheld = bytearray({400 << 20})\n"
    hog += "while not pathlib.Path('enough').exists(): time.sleep(0.05)"
    full = run_now(node, command(node, "hog", sys.executable, "-c", hog))

    def state() -> Any:
        return get(node, "/nodes")[0]["state"]

    wait_for(lambda: state() == "throttled", "the node is throttled")
    waiting = run_now(node, command(node, "small", "true"))
    assert "throttled" in node.cli("node", "list")
    for shown in (node.cli("node", "list"), node.cli("status")):
        assert "is above 70 % of node.max_memory (400 MiB)" in shown
    time.sleep(0.6)
    assert get(node, f"/runs/{waiting}")["state"] == "queued"
    assert node.call("GET", "/readyz")[0] == 200
    (node.directory / "enough").touch()
    assert ended(node, full)["state"] == "succeeded"
    assert ended(node, waiting)["state"] == "succeeded"
    wait_for(lambda: state() == "up", "the node takes work again")
    assert "taking no new work: memory" in node.log()
    assert "taking work again" in node.log()


@pytest.mark.parametrize("how", ["rotate", "revoke"])
def test_a_withdrawn_secret_is_refused_soon(new_node: Make, how: str) -> None:
    node = scheduler0_node(new_node)
    key = node.headers["x-api-key"]
    assert node.call("GET", "/api/v1/jobs")[0] == 200
    if how == "rotate":
        made = json.loads(node.cli("credential", "rotate", key, "--grace", "0", "--json"))["data"]
    else:
        node.cli("credential", "revoke", key, "--yes")
    wait_for(lambda: node.call("GET", "/api/v1/jobs")[0] == 401, "the old secret fails")
    if how == "rotate":
        node.headers["x-secret-key"] = made["api_secret"]
        assert node.call("GET", "/api/v1/jobs")[0] == 200


def test_a_node_whose_database_is_taken_away_stops_and_says_why(new_node: Make) -> None:
    node = scheduler0_node(new_node)
    (node.directory / "everbell.db").rename(node.directory / "elsewhere.db")
    assert node.process is not None
    assert node.process.wait(15) == 1
    assert "was moved, removed or replaced while it was in use" in node.log()


def test_a_closed_terminal_ends_the_node_in_good_order(new_node: Make) -> None:
    node = scheduler0_node(new_node)
    run = run_now(node, command(node, "long", "sleep", "60"))
    wait_for(lambda: get(node, f"/runs/{run}")["state"] == "running", "it runs", 5)
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    assert node.process.wait(15) == 0
    assert "left" in node.cli("node", "list")
    assert "running" not in node.cli("run", "list", "--state", "running", "-o", "jsonl")


def test_a_node_out_of_descriptors_goes_on_and_tries_again(new_node: Make) -> None:
    node = scheduler0_node(new_node, JobExecutionRetryMax=20, JobExecutionRetryDelay=0.3)
    assert node.stop() == 0
    node.start(limit="ulimit -n 48")
    sleeper = command(node, "sleeper", "sleep", "0.6", overlap="allow", max_running=50)
    runs = [run_now(node, sleeper) for _ in range(16)]
    assert {ended(node, run)["state"] for run in runs} == {"succeeded"}
    idle = []
    for _ in range(80):
        try:
            idle.append(socket.create_connection(("127.0.0.1", node.port), timeout=1))
        except OSError:
            break
    time.sleep(1.0)
    for one in idle:
        one.close()
    wait_for(lambda: answers(node), "the API answers again")
    assert node.process is not None
    assert node.process.poll() is None, node.log()[-2000:]


def answers(node: NodeProcess) -> bool:
    try:
        return node.call("GET", "/healthz")[0] == 200
    except OSError:
        return False


def test_idle_connections_do_not_take_the_api_away(new_node: Make) -> None:
    node = scheduler0_node(new_node)
    assert node.stop() == 0
    node.start(limit="ulimit -n 96")
    idle: list[socket.socket] = []
    try:
        for number in range(1000):
            one = socket.create_connection(("127.0.0.1", node.port), timeout=5)
            if number % 2:
                one.sendall(b"GET /healthz HTTP/1.1\r\nhost: h\r\n")
            idle.append(one)
            if len(idle) > 400:  # this process has its limit too
                idle.pop(0).close()
            if number % 100 == 99:
                assert answers(node), node.log()[-2000:]
        assert ended(node, run_now(node, command(node, "small", "true")))["state"] == "succeeded"
    finally:
        for one in idle:
            one.close()
    assert "Too many open files" not in node.log()


def test_a_head_that_does_not_come_ends_the_connection(new_node: Make) -> None:
    node = scheduler0_node(new_node, server="{header_timeout: 0.5}")
    whole = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n"
    for before in (b"", b"GET /healthz HTTP/1.1\r\nhost", whole + whole[:20]):
        with socket.create_connection(("127.0.0.1", node.port), timeout=20) as slow:
            slow.sendall(before)
            begun, got = time.monotonic(), b""
            while part := slow.recv(4096):
                got += part
            assert time.monotonic() - begun > 0.3
            assert got.count(b"HTTP/1.1 200") == before.count(b"\r\n\r\n")

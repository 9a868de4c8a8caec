"""The walk-through of the Scheduler0 page, typed into a fresh directory, with a real node."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture
def home(tmp_path):
    return tmp_path


def env():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERBELL_", "SCHEDULER0_"))}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def everbell(home, *args, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "everbell", *args],
        cwd=home, env=env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


class Node:
    def __init__(self, home, *args):
        self.log = home / "node.log"
        with self.log.open("w") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "everbell", "start", *args],
                cwd=home, env=env(), stdin=subprocess.DEVNULL, stderr=sink, stdout=sink,
            )  # fmt: skip
        self.address = self._wait()

    def _wait(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = re.search(r"http://[\d.]+:\d+", self.log.read_text())
            if found:
                return found[0]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.mark.e2e
@pytest.mark.slow
def test_walk_through(home):
    everbell(home, "config", "init")
    everbell(home, "credential", "init", "--generate")
    made = json.loads(everbell(home, "create", "credential", "--json").stdout)["data"]
    assert made["api_key"] and made["api_secret"]
    assert "start" in everbell(home, "--help").stdout
    node = Node(home, "--port", "0")
    try:
        remote = ("--server", node.address)
        refused = everbell(home, "job", "list", *remote, code=4)
        assert refused.stderr.startswith("error: ")
        everbell(home, "job", "create", "hello", "--every", "1s", "--", "sh", "-c", "echo hi")
        waited = everbell(home, "job", "run", "hello", "--wait")
        assert waited.stdout == "hi\n"
        assert "succeeded" in waited.stderr
        listed = json.loads(everbell(home, "run", "list", "--job", "hello", "--json").stdout)[
            "data"
        ]
        assert any(run["state"] == "succeeded" for run in listed)
        assert everbell(home, "run", "logs", "--job", "hello", "-f").stdout == "hi\n"
        everbell(home, "job", "create", "bad", "--", "sh", "-c", "exit 7")
        failed = everbell(home, "job", "run", "bad", "--wait", code=3)
        assert "failed (code 7)" in failed.stderr
        status = json.loads(everbell(home, "status", "--json").stdout)["data"]
        assert [one["state"] for one in status["nodes"]] == ["up"]
    finally:
        code = node.stop()
    assert code == 0
    assert "Traceback" not in node.log.read_text()


@pytest.mark.e2e
@pytest.mark.slow
def test_remote_with_a_key_and_live_output(home):
    everbell(home, "init")
    node = Node(home, "--port", "0")
    try:
        made = json.loads(everbell(home, "credential", "create", "--json").stdout)["data"]
        keys = {"EVERBELL_API_KEY": made["api_key"], "EVERBELL_API_SECRET": made["api_secret"]}
        elsewhere = home / "elsewhere"
        elsewhere.mkdir()

        def remote(*args, code=0):
            done = subprocess.run(
                [sys.executable, "-m", "everbell", *args],
                cwd=elsewhere, env={**env(), **keys, "EVERBELL_SERVER": node.address},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            assert done.returncode == code, done.stderr
            return done

        remote("job", "create", "slow", "--", "sh", "-c", "echo a; sleep 1; echo b")
        run = json.loads(remote("job", "run", "slow", "--json").stdout)["data"]
        assert remote("run", "watch", run["id"]).stdout == "a\nb\n"
        assert remote("run", "show", run["id"], "-o", "name").stdout.strip() == run["id"]
        assert "did you mean `slow`" in remote("job", "get", "slwo", code=5).stderr
        remote("credential", "list", code=4)
    finally:
        assert node.stop() == 0


@pytest.mark.e2e
def test_port_taken_and_no_secrets(home):
    missing = everbell(home, "start", code=2)
    assert "no secrets" in missing.stderr and "everbell init" in missing.stderr
    everbell(home, "init")
    node = Node(home, "--port", "0")
    try:
        port = node.address.rpartition(":")[2]
        taken = everbell(home, "start", "--port", port, code=2)
        assert "can't listen on" in taken.stderr
    finally:
        assert node.stop() == 0

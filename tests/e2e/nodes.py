"""Real nodes as real processes in a directory of their own, for tests that kill them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everbell.testing.free_ports import free_port

FAST_NODE = """
[server]
host = "127.0.0.1"
port = {port}

[node]
heartbeat = 0.3
lease = 1.5

[engine]
poll = 0.2

[execution]
shutdown_grace = 3.0
kill_grace = 1.0
"""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for a truthy answer; fail with ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            message = f"timed out after {seconds} s: {what}"
            raise AssertionError(message)
        time.sleep(0.05)


class NodeProcess:
    """One directory with configuration and secrets, and the node that runs there."""

    def __init__(self, directory: Path, config: str = FAST_NODE) -> None:
        self._place(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "everbell.toml").write_text(config.format(port=self.port))
        self.cli("credential", "init", "--generate")
        made = json.loads(self.cli("create", "credential", "--json"))["data"]
        self.headers = {"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]}

    def _place(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.headers: dict[str, str] = {}

    def sibling(self) -> NodeProcess:
        """Return another node, not started, over the same directory and store."""
        other = NodeProcess.__new__(NodeProcess)
        other._place(self.directory)
        other.headers = self.headers
        return other

    def cli(self, *words: str, check: bool = True) -> str:
        """Run the command line in the directory and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "everbell", *words],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            message = f"everbell {' '.join(words)}: exit {done.returncode}\n{done.stderr}"
            raise AssertionError(message)
        return done.stdout

    def start(self, limit: str = ":") -> None:
        """Start the node and wait until it is ready. ``limit`` is a shell's ``ulimit``."""
        log = (self.directory / "node.log").open("ab")
        self.process = subprocess.Popen(
            ["sh", "-c", f'{limit}; exec "$0" -m everbell start', sys.executable],
            cwd=self.directory,
            stdout=log,
            stderr=log,
            env={**os.environ, "EVERBELL_SERVER_PORT": str(self.port)},
            start_new_session=True,
        )
        log.close()
        until(self.ready, 20, f"node is ready; its log: {self.log()[-2000:]}")

    def ready(self) -> bool:
        """Return whether the node answers that it is ready."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-4000:]
        try:
            return self.call("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def log(self) -> str:
        """Return what the node wrote to its log."""
        path = self.directory / "node.log"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """Kill the node as a power cut would: SIGKILL, no clean-up."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """Stop the node in good order and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the API; return status and the decoded answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={**self.headers, "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                raw = answer.read()
                status = answer.status
        except urllib.error.HTTPError as error:
            raw, status = error.read(), error.code
            error.close()
        try:
            return status, json.loads(raw) if raw else None
        except ValueError:
            return status, raw.decode(errors="replace")

    def make(self, path: str, body: Any) -> Any:
        """Create something and return its data."""
        status, answer = self.call("POST", path, body)
        assert status in {200, 201, 202}, answer
        return answer["data"]

    def runs(self, query: str = "") -> list[dict[str, Any]]:
        """Return all runs, over all pages."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            status, answer = self.call("GET", f"/api/v1/runs?limit=200{query}{cursor}")
            assert status == 200, answer
            found += answer["data"]
            following = answer["page"].get("next")
            if not following:
                return found
            cursor = f"&cursor={following}"

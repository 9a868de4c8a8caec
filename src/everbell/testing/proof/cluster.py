"""Real nodes on one PostgreSQL, jobs whose targets write down what they saw, faults, a verdict."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from everbell.domain.job import US
from everbell.stores.postgres import PostgresStore
from everbell.testing.free_ports import free_port
from everbell.testing.proof.checker import Bounds, Ledger, Verdict, Window, check, silent
from everbell.testing.proof.ledger import read_ledger
from everbell.testing.proof.machine import Machine
from everbell.testing.proof.record import Seen, command, now_us, read

LEASE_S = 1.5
CONFIG = """
[node]
heartbeat = 0.4
lease = {lease}

[engine]
poll = 0.3
max_crashes = 50

[execution]
shutdown_grace = 3.0
kill_grace = 1.0

[callbacks]
private_addresses = "allow"

[log]
level = "info"
"""
OPEN = "&state=queued,claimed,running"
ENOUGH = 50
"""Starts that must have been seen for a verdict to say anything."""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for a truthy answer; fail with ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        try:
            if answer := condition():
                return answer
        except OSError:
            pass
        if time.monotonic() > end:
            message = f"timed out after {seconds} s: {what}"
            raise AssertionError(message)
        time.sleep(0.05)


class Member:
    """One place of the cluster: a node that is started, killed, stopped and started again there.

    ``inside`` is put before its command (another network); ``host`` is where its API listens.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        env: Mapping[str, str],
        *,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        self.directory, self.name, self.host = directory, name, host
        self.port = free_port()
        self._inside = list(inside)
        self._env = {
            **os.environ, **env, "EVERBELL_SERVER_PORT": str(self.port),
            "EVERBELL_SERVER_HOST": host, "EVERBELL_NODE_NAME": name,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.headers: dict[str, str] = {}

    @property
    def log_path(self) -> Path:
        """What the node wrote."""
        return self.directory / f"{self.name}.log"

    def cli(self, *words: str) -> str:
        """Run the command line as this node would and return what it printed."""
        done = subprocess.run(
            [*self._inside, sys.executable, "-m", "everbell", *words],
            cwd=self.directory, env=self._env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        if done.returncode:
            message = f"everbell {' '.join(words)}: exit {done.returncode}\n{done.stderr}"
            raise AssertionError(message)
        return done.stdout

    def launch(self) -> None:
        """Start the node; don't wait for it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._inside, sys.executable, "-m", "everbell", "start"],
                cwd=self.directory, stdout=log, stderr=log, env=self._env,
                start_new_session=True,
            )  # fmt: skip

    def await_ready(self, seconds: float = 30) -> None:
        """Wait until the node says that it is ready."""
        until(self.ready, seconds, f"{self.name} is ready; its log: {self.log()[-3000:]}")

    def ready(self) -> bool:
        """Return whether the node answers that it is ready. Fails if its process ended."""
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended: {self.log()[-4000:]}"
        return self.call("GET", "/readyz", seconds=2)[0] == 200

    def alive(self) -> bool:
        """Return whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Return what the node wrote to its log."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def signal(self, number: int) -> None:
        """Send a signal to the node's process."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End the node as a power cut would."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.alive():
            assert self.process is not None
            self.process.kill()
            self.process.wait(10)

    def call(
        self, method: str, path: str, body: Any = None, seconds: float = 10
    ) -> tuple[int, Any]:
        """Call the node's API; return status and the decoded answer. Raises OSError."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={**self.headers, "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                raw, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            raw, status = error.read(), error.code
            error.close()
        return status, json.loads(raw) if raw[:1] in {b"{", b"["} else None


class Receiver:
    """A target that is called by HTTP, as a process."""

    def __init__(self, log: Path, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, free_port()
        words = ["--host", host, "--port", str(self.port), "--log", str(log)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "everbell.testing.proof.receiver", *words]
        )
        until(log.exists, 20, "the target listens")

    def url(self, lasts_s: float = 0) -> str:
        """Return an address whose answer takes so long."""
        return f"http://{self.host}:{self.port}/{lasts_s:g}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(10)


class Proof:
    """The cluster, what is to run on it, and what was seen."""

    def __init__(
        self, directory: Path, url: str, *, lease_s: float = LEASE_S, host: str = "127.0.0.1"
    ) -> None:
        self.directory, self.url = directory, url
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "everbell.toml").write_text(CONFIG.format(lease=lease_s))
        self.members: list[Member] = []
        self.windows: list[Window] = []
        self.jobs: list[dict[str, Any]] = []
        self.outside = directory / "outside.log"
        self.outside.touch()
        self.called = directory / "called.log"
        self.receiver = Receiver(self.called, host)
        self.machine = Machine(directory)
        self._headers: dict[str, str] = {}

    def member(
        self, *, url: str = "", settings: Mapping[str, str] | None = None, **options: Any
    ) -> Member:
        """Add a place; ``url`` is its own way to the database, ``settings`` are environment."""
        env = {"EVERBELL_DATABASE_URL": url or self.url, **(settings or {})}
        made = Member(self.directory, f"m{len(self.members) + 1}", env, **options)
        if not self.members:
            made.cli("credential", "init", "--generate")
            said = json.loads(made.cli("create", "credential", "--json"))["data"]
            self._headers = {"x-api-key": said["api_key"], "x-secret-key": said["api_secret"]}
        made.headers = self._headers
        self.members.append(made)
        return made

    def start(self) -> None:
        """Start all nodes and wait until they are ready."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.await_ready()

    def create(self, commands: int = 3, calls: int = 5) -> None:
        """Create jobs of every second: so many of each delivery, as commands and HTTP calls."""
        base = {
            "schedule": "@every 1s",
            "misfire": {"policy": "all", "window": 600, "max_catch_up": 500},
            "overlap": "allow",
        }
        run = {"kind": "command", "argv": command(self.outside, 0.2)}
        call = {"kind": "http", "url": self.receiver.url(0.1)}
        for action, count in ((run, commands), (call, calls)):
            for delivery in ("at_least_once", "at_most_once"):
                for number in range(count):
                    name = f"{action['kind']}-{delivery}-{number}"
                    self._make({**base, "name": name, "action": action, "delivery": delivery})
        self._make({**base, "name": "alone", "action": call, "overlap": "skip"})

    def _make(self, body: dict[str, Any]) -> None:
        status, answer = self.members[0].call("POST", "/api/v1/jobs", body)
        assert status == 201, answer
        self.jobs.append(answer["data"])

    @contextmanager
    def fault(self, kind: str, heals_s: float = 5.0, cut_off: str = "") -> Iterator[None]:
        """Note from when to when something is broken, and how long it may take to heal."""
        begun = now_us()
        yield
        ended = now_us()
        self.windows.append(
            Window(kind=kind, begun_us=begun, ended_us=ended, heals_s=heals_s, cut_off=cut_off)
        )

    def seen(self) -> list[Seen]:
        """Return all that the targets wrote so far."""
        return read(self.outside, self.called)

    def quiet(self, seconds: float = 3.0, settle_s: float = 0.0) -> None:
        """Let it run without faults; fail unless each job fires. ``settle_s``: how long to wait."""
        time.sleep(settle_s)
        begun = now_us()
        time.sleep(seconds)
        ledger = asyncio.run(self._ledger())
        found = silent(ledger.jobs, self.seen(), begun, now_us())
        open_runs = [
            f"{r.id} {r.state} of {r.node} {r.reason}" for r in ledger.rows if r.finished_us is None
        ]
        assert found == [], ([one.detail for one in found], open_runs)

    async def _ledger(self) -> Ledger:
        store = await PostgresStore.open(self.url)
        try:
            return await read_ledger(store, now_us())
        finally:
            await store.close()

    def settle(self, seconds: float = 30) -> None:
        """Disable all jobs, and wait until every run has its outcome."""
        for job in self.jobs:
            path = f"/api/v1/jobs/{job['id']}/disable"
            until(partial(self._accepted, path), 20, f"job {job['name']} is disabled")
        until(self._all_ended, seconds, "every run has an outcome")

    def _any(self) -> Member:
        return next(member for member in self.members if member.alive())

    def _accepted(self, path: str) -> bool:
        return self._any().call("POST", path)[0] == 200

    def _all_ended(self) -> bool:
        status, answer = self._any().call("GET", f"/api/v1/runs?limit=1{OPEN}")
        return status == 200 and not answer["data"]

    def verdict(self, bounds: Bounds = Bounds()) -> Verdict:  # noqa: B008  (frozen)
        """Hold what targets saw against the ledger."""
        ledger = asyncio.run(self._ledger())
        windows = [*self.windows, *self.machine.excused()]
        return check(self.seen(), ledger, windows, bounds)

    def report(self, verdict: Verdict) -> str:
        """Return the verdict in words, with how long each fault was felt."""
        head = (
            f"{verdict.starts} starts seen, {verdict.rows} runs {verdict.states},"
            f" {verdict.taken_over} taken over; lateness outside of faults: median"
            f" {verdict.late_p50_s * 1e3:.1f} ms, p99 {verdict.late_p99_s * 1e3:.1f} ms,"
            f" worst {verdict.late_max_s * 1e3:.1f} ms"
        )
        lines = [head]
        lines += [f"  {text}" for text in felt(self.seen(), self.windows)]
        if still := self.machine.windows:
            longest_s = max(one.ended_us - one.begun_us for one in still) / US
            lines += [f"  this machine stood still {len(still)} times, {longest_s:.2f} s at most"]
        lines += [
            f"  PROMISE {one.promise} broken, {one.kind}: {one.detail}"
            for one in verdict.violations[:30]
        ]
        return "\n".join(lines)

    def judge(self, settle_s: float = 2.0) -> None:
        """Let it run in peace, then compare what the targets saw with the ledger.

        Raises AssertionError with the report: a promise is broken, or little was seen.
        """
        self.quiet(settle_s=settle_s)
        self.settle()
        verdict = self.verdict()
        report = self.report(verdict)
        print(report)
        if verdict.violations or verdict.starts <= ENOUGH:
            raise AssertionError(report)

    def close(self) -> None:
        """Leave nothing behind."""
        for member in self.members:
            member.close()
        self.receiver.close()
        self.machine.close()


def felt(seen: Sequence[Seen], windows: Sequence[Window], late_s: float = 0.25) -> list[str]:
    """Return for each fault how late starts were, and when the last late one was."""
    found = []
    for number, window in enumerate(windows):
        after = windows[number + 1].begun_us if number + 1 < len(windows) else 1 << 62
        late = [
            (one.at_us, (one.at_us - one.key.slot_us) / US)
            for one in seen
            if one.kind == "start" and one.key is not None and one.attempt == 1
            and window.begun_us - US <= one.key.slot_us < after
            and one.at_us - one.key.slot_us > late_s * US
        ]  # fmt: skip
        last = max((at for at, _ in late), default=window.begun_us)
        again = [
            (one.at_us - window.begun_us) / US
            for one in seen
            if one.kind == "start" and one.attempt > 1 and window.begun_us <= one.at_us < after
        ]
        taken = f"; {len(again)} taken over, the last {max(again):.2f} s after" if again else ""
        found.append(
            f"{window.kind}, {(window.ended_us - window.begun_us) / US:.1f} s long:"
            f" {len(late)} late starts, by at most {max((by for _, by in late), default=0):.2f} s,"
            f" the last {(last - window.begun_us) / US:.2f} s after it began"
            f" ({(last - window.ended_us) / US:+.2f} s after its end){taken}"
        )
    return found

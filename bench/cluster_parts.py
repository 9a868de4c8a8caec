"""What the parts of the cluster bench share: node processes, jobs stored in bulk, looks at rows."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psutil

from everbell.domain.job import US, Definition, Misfire, PythonAction, compile_schedule
from everbell.domain.records import Project
from everbell.ports.store import NewJob
from everbell.stores.postgres import PostgresStore
from everbell.testing.postgres_server import PostgresServer

HERE = Path(__file__).parent
SETTINGS = ("shared_buffers=256MB", "max_wal_size=2GB")
"""Of the server, for us and for all peers: fsync and synchronous_commit are on."""
STORED = 2000


class Start(NamedTuple):
    """A line of a node's log."""

    at_us: int
    slot_us: int
    attempt: int
    pid: int
    job: str


def read_log(path: Path) -> list[Start]:
    """Return the starts that nodes wrote down, in their order."""
    found = []
    for line in path.read_text().splitlines():
        at_text, slot, attempt, pid, job = line.split(" ", 4)
        found.append(Start(int(at_text), int(slot), int(attempt), int(pid), job))
    return found


def doubled(starts: Sequence[Start]) -> int:
    """Return how many starts are of an attempt of a slot that had started already."""
    return len(starts) - len({(one.job, one.slot_us, one.attempt) for one in starts})


def part(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of them lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def now_us() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1000


class Node:
    """A node in a process of its own; see ``cluster_node.py``."""

    def __init__(self, url: str, name: str, place: Path, *more: str) -> None:
        self.name = name
        self.place = place
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "cluster_node.py"), url, name, *more],
            cwd=place,
            env={**os.environ, "EVERBELL_SECRET_KEY": "k" * 32},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(place / f"{name}.log").open("a"),
            text=True,
        )
        self._log = place / f"{name}.log"

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ready(self, seconds: float = 60) -> Node:
        """Wait until it runs."""
        self._read(seconds)
        return self

    def _read(self, seconds: float) -> Any:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            message = f"node {self.name} does not answer:\n{self._log.read_text()[-2000:]}"
            raise RuntimeError(message)
        return json.loads(line)

    def ask(self, word: str, seconds: float = 60) -> Any:
        """Return its answer to a word."""
        self.tell(word)
        return self._read(seconds)

    def tell(self, word: str) -> None:
        """Ask, without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def cpu_s(self) -> float:
        """Return the CPU that it has used."""
        return sum(psutil.Process(self.pid).cpu_times()[:2])

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in good order."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def nodes(url: str, each: Sequence[Sequence[str]]) -> Iterator[list[Node]]:
    """Give running nodes, one with each of these options, in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="everbell-bench-") as place:
        found: list[Node] = []
        try:
            for number, more in enumerate(each):
                node = Node(url, f"n{number}", Path(place), *more)
                found.append(node)
                node.ready()  # before the next: the first makes the schema
            yield found
        finally:
            for node in found:
                node.stop()


def alike(count: int, *more: str) -> list[Sequence[str]]:
    """Return the options of so many nodes with every role."""
    return [more] * count


def server_cpu_s(server: PostgresServer) -> float:
    """Return the CPU of the database server, ended backends left out."""
    pid = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    parent = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (parent, *parent.children(recursive=True)))


def function(name: str, **kwargs: Any) -> PythonAction:
    """Return the action that calls a function of ``cluster_node.py``."""
    return PythonAction(function=f"bench:{name}", app="bench", kwargs=kwargs)


def every(name: str, seconds: float, phase_us: int, action: PythonAction) -> Definition:
    """Return a job that is due every so many seconds; its missed slots are made up, one by one."""
    return Definition(
        name=name,
        schedule=f"@every {seconds:g}s",
        anchor_us=phase_us,
        action=action,
        overlap="queue",
        misfire=Misfire(policy="all", window_s=3600.0, max_catch_up=100),
    )


def at(name: str, instant_us: int, action: PythonAction) -> Definition:
    """Return a job that is due once."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(instant_us // US))
    return Definition(name=name, schedule=f"@at {stamp}Z", action=action)


async def fill(url: str, definitions: Sequence[Definition], first_us: int | None = None) -> None:
    """Store jobs in bulk. ``first_us``: where their next slot is put, else where it would be."""
    store = await PostgresStore.open(url)
    try:
        now = now_us()
        project = await store.add_project(
            Project(
                id=0, uuid=os.urandom(8).hex(), name=f"bench-{now}", description="",
                created_us=now, updated_us=now,
            )
        )  # fmt: skip
        for begin in range(0, len(definitions), STORED):
            fresh = []
            for definition in definitions[begin : begin + STORED]:
                uuid = os.urandom(8).hex()
                slot = first_us
                if slot is None:
                    compiled = compile_schedule(definition, uuid, now)
                    assert compiled is not None
                    slot = compiled.next_us(now)
                fresh.append(
                    NewJob(
                        uuid=uuid, project_id=project.id, definition=definition, next_slot_us=slot
                    )
                )
            await store.add_jobs(fresh, now)
    finally:
        await store.close()


async def rows(url: str, query: str, *values: Any) -> list[Any]:
    """Return what a query finds in our schema."""
    con = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    try:
        found: list[Any] = await con.fetch(query, *values)
        return found
    finally:
        await con.close()


async def settled(url: str) -> None:
    """Have the server write its statistics and its checkpoint now, not during the measurement."""
    con = await asyncpg.connect(url)
    try:
        await con.execute("VACUUM ANALYZE")
        await con.execute("CHECKPOINT")
    finally:
        await con.close()

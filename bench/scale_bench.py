"""Many stored schedules of which few are due: start-up, memory, idle CPU and lateness.

Each node runs in a process of its own over a database that another process has filled: first an
empty one, then ones with many schedules that are due some day, then with 100 due each second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import uvloop
from storm_bench import Recorder, engine_of, lateness, world_of

from everbell.bootstrap import SWITCH_S
from everbell.domain.job import US, CommandAction, Definition, compile_schedule
from everbell.domain.records import Project
from everbell.ports.store import NewJob
from everbell.stores.sqlite import SqliteStore

DUE_EACH_SECOND = 100
BATCH = 5000


async def fill(path: Path, stored: int, busy: int) -> None:
    """Store ``stored`` schedules, each due once a year, and ``busy`` that are due each second."""
    store = await SqliteStore.open(path, synchronous="normal")
    now = time.time_ns() // 1000
    project = Project(id=0, uuid="p", name="p", description="", created_us=now, updated_us=now)
    await store.add_project(project)
    far = [now + 86_400 * US + number * US for number in range(stored)]
    for first in range(0, stored, BATCH):
        await store.add_jobs(
            [
                NewJob(uuid=f"u{number}", project_id=1, definition=_idle(number), next_slot_us=at)
                for number, at in enumerate(far[first : first + BATCH], first)
            ],
            now,
        )
    if busy:
        await store.add_jobs([_busy(number, busy, now) for number in range(busy)], now)
    await store.close()


def _idle(number: int) -> Definition:
    schedule = f"{number % 60} {number % 24} {number % 28 + 1} {number % 12 + 1} *"
    return Definition(name=f"job {number}", schedule=schedule, action=CommandAction(argv=("true",)))


def _busy(number: int, of: int, now_us: int) -> NewJob:
    definition = Definition(
        name=f"busy {number}",
        schedule="@every 1s",
        anchor_us=number * US // of,
        action=CommandAction(argv=("true",)),
    )
    schedule = compile_schedule(definition, f"b{number}", now_us)
    assert schedule is not None
    first = schedule.next_us(now_us)
    return NewJob(uuid=f"b{number}", project_id=1, definition=definition, next_slot_us=first)


async def node(path: Path, seconds: float, born: float) -> dict[str, Any]:
    """Run a node over the file and measure this process."""
    recorder = Recorder()
    world = await world_of(path, recorder)
    engine = engine_of(world)
    await engine.start()
    started = time.time() - born
    me = psutil.Process()
    await asyncio.sleep(2)
    before = sum(me.cpu_times()[:2])
    await asyncio.sleep(seconds)
    cpu = sum(me.cpu_times()[:2]) - before
    rss = me.memory_info().rss
    await engine.stop(1)
    await world.store.close()
    found = {
        "start_s": round(started, 2),
        "rss_mb": round(rss / 1e6, 1),
        "cpu_percent": round(100 * cpu / seconds, 2),
    }
    return found | (lateness(recorder, 2.0) if recorder.starts else {})


def measure(path: Path, seconds: float) -> dict[str, Any]:
    """Run a node in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--node", str(path), str(seconds), str(time.time())],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 120,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(stored: int, seconds: float) -> list[dict[str, Any]]:
    """Return the figures of an empty node, of one with many schedules, and of a busy one."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, many, busy in (
            ("empty", 0, 0),
            ("stored", stored, 0),
            ("stored and 100/s", stored, DUE_EACH_SECOND),
        ):
            path = Path(place) / f"{len(rows)}.db"
            begun = time.perf_counter()
            asyncio.run(fill(path, many, busy))
            filled = time.perf_counter() - begun
            row = {"node": name, "schedules": many + busy, "fill_s": round(filled, 1)}
            rows.append(row | measure(path, seconds))
    for row in rows:
        row["rss_over_empty_mb"] = round(row["rss_mb"] - rows[0]["rss_mb"], 1)
    return rows


def main() -> None:
    """Print a table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="10,000 schedules")
    parser.add_argument("--million", action="store_true", help="1,000,000 schedules too")
    parser.add_argument("--node", nargs=3, metavar=("FILE", "SECONDS", "BORN"))
    given = parser.parse_args()
    if given.node:
        path, seconds, born = given.node
        sys.setswitchinterval(SWITCH_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(node(Path(path), float(seconds), float(born)))))
        return
    sizes = [10_000] if given.quick else [100_000]
    sizes += [1_000_000] if given.million else []
    rows = [row for size in sizes for row in compare(size, 5 if given.quick else 15)]
    if given.json:
        print(json.dumps({"scale": rows}, indent=1))
        return
    for row in rows:
        print("scale", "  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

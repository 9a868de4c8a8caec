"""Python functions: what one call costs us, and 10,000 no-op jobs due in one second on SQLite.

Call: CPU of the executor alone, per run of a function that does nothing. Storm: the whole way, with
the program's node: claimed, called, and its end stored durably; starts per second from the instant
at which all are due to the last start.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from everbell import Everbell, at
from everbell.bootstrap import SWITCH_S
from everbell.config.schema import Settings
from everbell.domain.job import PythonAction
from everbell.executors.output import BoundedSink
from everbell.executors.python import PythonExecutor
from everbell.ports.functions import Functions, describe
from everbell.ports.store import RunFilter
from everbell.testing.executor_contract import assignment

MODES = ("async", "inline", "thread")


async def anoop() -> None:
    """Do nothing."""


def noop() -> None:
    """Do nothing."""


def _action(mode: str) -> PythonAction:
    name = "bench:anoop" if mode == "async" else "bench:noop"
    return PythonAction(function=name, app="bench", mode="auto" if mode == "async" else mode)


async def call(mode: str, count: int = 20_000, at_once: int = 100) -> dict[str, Any]:
    """Microseconds of CPU per run in the executor; the sink and event that it is given count."""
    functions = Functions()
    functions.add("bench", describe("bench:anoop", anoop))
    functions.add("bench", describe("bench:noop", noop))
    executor = PythonExecutor(Settings(), functions)
    work = assignment(_action(mode))

    async def one() -> None:
        outcome = await executor.run(work, asyncio.Event(), BoundedSink(65_536))
        assert outcome.state == "succeeded"

    best = float("inf")
    for _ in range(3):
        begun = time.process_time_ns()
        for _ in range(count // at_once):
            await asyncio.gather(*(one() for _ in range(at_once)))
        best = min(best, (time.process_time_ns() - begun) / count / 1000)
    await executor.close()
    return {"mode": mode, "cpu_us": round(best, 1)}


async def storm(mode: str, count: int) -> dict[str, Any]:
    """N jobs of one function, all due at one instant."""
    starts: list[int] = []

    async def astart() -> None:
        starts.append(time.time_ns() // 1000)

    def start() -> None:
        starts.append(time.time_ns() // 1000)

    settings = {"engine.max_queue": 2 * count}
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        app = Everbell("bench", database="sqlite:///bench.db", settings=settings)
        due_s = int(time.time()) + 3 + count // 1000
        when = at(datetime.fromtimestamp(due_s, UTC))
        for number in range(count):
            function = astart if mode == "async" else start
            app.add(function, when, name=f"job-{number}", mode=_action(mode).mode)
        begun = time.monotonic()
        async with app.running():
            sync_s = time.monotonic() - begun
            gc.freeze()
            cpu_s = time.process_time()
            while len(starts) < count and time.time() < due_s + 60:
                await asyncio.sleep(0.05)
            assert app.node is not None
            await app.node.engine.finisher.flush()
            cpu_s = time.process_time() - cpu_s
            ledger_us = time.time_ns() // 1000 - due_s * 1_000_000
            rows = await _succeeded(app)
        os.chdir("/")
    late = sorted(one - due_s * 1_000_000 for one in starts)
    return {
        "mode": mode,
        "jobs": count,
        "sync_s": round(sync_s, 2),
        "first_ms": round(late[0] / 1000, 1),
        "last_ms": round(late[-1] / 1000, 1),
        "cpu_us_per_run": round(cpu_s / count * 1e6, 1),
        "starts_per_s": round(count / (late[-1] / 1e6)),
        "ledger_ms": round(ledger_us / 1000, 1),
        "lost": count - rows,
        "doubled": len(starts) - count,
    }


async def _succeeded(app: Everbell) -> int:
    rows, before = 0, None
    store = app.services.store
    while page := await store.list_runs(RunFilter(states=("succeeded",)), 1000, before):
        rows += len(page)
        before = page[-1].key
    return rows


def main() -> None:
    """Print a table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    home = Path.cwd()
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = {
            "call": [runner.run(call(mode)) for mode in MODES],
            "storm": [runner.run(storm(mode, 1000 if given.quick else 10_000)) for mode in MODES],
        }
    os.chdir(home)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for kind, rows in found.items():
        for row in rows:
            print(kind, "  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

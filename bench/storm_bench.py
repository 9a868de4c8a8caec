"""Storm and precision on the durable SQLite store, beside the bare driver's ceiling.

Storm: N jobs due at one instant; starts per second from that instant to the last start.
Precision: RATE starts each second, spread over the second (or all at its beginning: burst);
lateness of starts. In-process no-op executor.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from everbell.bootstrap import SWITCH_S
from everbell.config.schema import Engine, Settings
from everbell.domain.job import CommandAction, Definition, compile_schedule
from everbell.domain.records import Project
from everbell.domain.run import Outcome
from everbell.engine.heartbeat import Identity
from everbell.engine.node import NodeEngine, World
from everbell.executors.output import BoundedSink
from everbell.ports.store import NewJob, RunFilter
from everbell.stores.sqlite import SqliteStore
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.load import SystemLoad


class Recorder:
    """An executor that notes when each run started and does nothing else."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int, int]] = []

    async def run(self, work: Any, cancel: asyncio.Event, sink: Any) -> Outcome:
        del cancel, sink
        run = work.run
        self.starts.append((time.time_ns() // 1000, run.key.slot_us, run.key.job_id))
        return Outcome(state="succeeded")

    def check(self, action: object) -> None:
        del action

    async def close(self) -> None:
        return


async def world_of(path: Path, recorder: Recorder) -> World:
    store = await SqliteStore.open(path)
    return World(
        store=store,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        load=SystemLoad(),
        executors={"command": recorder},
        new_sink=lambda: BoundedSink(65536),
        secret_key=b"k" * 32,
    )


async def _jobs(world: World, count: int, schedule: str, *, spread: bool = False) -> None:
    now = world.clock.now_us()
    project = await world.store.add_project(
        Project(id=0, uuid="p", name="p", description="", created_us=now, updated_us=now)
    )
    fresh = []
    for number in range(count):
        definition = Definition(
            name=f"job-{number}",
            schedule=schedule,
            action=CommandAction(argv=("true",)),
            anchor_us=number * 1_000_000 // count if spread else 0,
        )
        compiled = compile_schedule(definition, str(number), now)
        assert compiled is not None
        fresh.append(
            NewJob(
                uuid=f"j{number}",
                project_id=project.id,
                definition=definition,
                next_slot_us=compiled.next_us(now),
            )
        )
    for first in range(0, count, 1000):
        await world.store.add_jobs(fresh[first : first + 1000], now)


def engine_of(world: World) -> NodeEngine:
    settings = Settings(engine=Engine(max_queue=20_000))
    identity = Identity(name="bench", host="bench", pid=1, version="0", workers=100)
    return NodeEngine(settings, world, identity)


async def storm(count: int) -> dict[str, Any]:
    """N jobs due at one instant about two seconds from now."""
    with tempfile.TemporaryDirectory() as place:
        recorder = Recorder()
        world = await world_of(Path(place) / "bench.db", recorder)
        due = time.time_ns() // 1000 + 2_500_000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due // 1_000_000))
        instant = due // 1_000_000 * 1_000_000
        await _jobs(world, count, f"@at {stamp}Z")
        engine = engine_of(world)
        await engine.start()
        gc.freeze()
        while len(recorder.starts) < count and time.time_ns() // 1000 < instant + 60_000_000:
            await asyncio.sleep(0.05)
        await engine.finisher.flush()
        finished = time.time_ns() // 1000
        rows = 0
        before = None
        while page := await world.store.list_runs(RunFilter(states=("succeeded",)), 1000, before):
            rows += len(page)
            before = page[-1].key
        await engine.stop(1)
        await world.store.close()
        starts = sorted(at for at, _, _ in recorder.starts)
        return {
            "jobs": count,
            "first_ms": round((starts[0] - instant) / 1000, 1),
            "last_ms": round((starts[-1] - instant) / 1000, 1),
            "starts_per_s": round(count / max((starts[-1] - instant) / 1e6, 1e-6)),
            "ledger_ms": round((finished - instant) / 1000, 1),
            "lost": count - rows,
            "doubled": len(recorder.starts) - len({job for _, _, job in recorder.starts}),
        }


async def precision(rate: int, seconds: int, *, spread: bool) -> dict[str, Any]:
    """``rate`` jobs, every second each."""
    with tempfile.TemporaryDirectory() as place:
        recorder = Recorder()
        world = await world_of(Path(place) / "bench.db", recorder)
        await _jobs(world, rate, "@every 1s", spread=spread)
        engine = engine_of(world)
        await engine.start()
        gc.freeze()
        await asyncio.sleep(seconds + 2)
        await engine.stop(1)
        await world.store.close()
        return {"rate": rate, "spread": spread} | lateness(recorder, 2.0)


def lateness(recorder: Recorder, warm_up_s: float) -> dict[str, Any]:
    """Return how late runs started, those of the first seconds left out."""
    begun = min(slot for _, slot, _ in recorder.starts) + warm_up_s * 1e6
    late = sorted((at - slot) / 1000 for at, slot, _ in recorder.starts if slot >= begun)
    return {
        "runs": len(late),
        "early": sum(1 for one in late if one < 0),
        "p50_ms": round(statistics.median(late), 2),
        "p99_ms": round(late[int(len(late) * 0.99)], 2),
        "max_ms": round(late[-1], 2),
    }


def main() -> None:
    """Print a table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    sizes = [1000] if given.quick else [1000, 10_000]
    rates = [200] if given.quick else [200, 2000]
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = {
            "storm": [runner.run(storm(size)) for size in sizes],
            "precision": [
                runner.run(precision(rate, 5 if given.quick else 30, spread=spread))
                for rate in rates
                for spread in (True, False)
            ],
        }
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for kind, rows in found.items():
        for row in rows:
            print(kind, "  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

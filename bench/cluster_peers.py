"""The storm of ``cluster_storm.py`` for a peer, over the same servers, with the peer's own means.

Run by the interpreter of ``.venv/peers`` (requirements/bench-cluster.lock):
``cluster_peers.py PEER COUNT POSTGRES_URL REDIS_PORT``. N jobs due at one instant, whose body notes
the time; prints one line of JSON. Settings are those under which each is at its best without giving
up what it keeps by default: see ``docs/explanation/measured-on-postgresql.md``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

STARTS: list[float] = []
GIVE_UP_S = 90.0
PROBE = 50
"""Jobs stored first, to see how long the storm's will take."""
NAMES = ("pgqueuer", "procrastinate", "apscheduler", "celery")


def _figures(peer: str, count: int, due: float, starts: list[float]) -> dict[str, Any]:
    late = sorted(at - due for at in starts)
    return {
        "peer": peer,
        "jobs": count,
        "started": len(late),
        "first_ms": round(late[0] * 1000, 1),
        "last_ms": round(late[-1] * 1000, 1),
        "starts_per_s": round(len(late) / late[-1]),
        # From its own first start: without what it waits until its next poll.
        "own_pace_per_s": round(len(late) / max(late[-1] - late[0], 1e-6)),
    }


async def _all(count: int, due: float) -> None:
    while len(STARTS) < count and time.time() < due + GIVE_UP_S:
        await asyncio.sleep(0.05)


async def pgqueuer(count: int, url: str) -> float:
    """One process, one connection, batches of 100, polls once a second, durable tables."""
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver

    con = await asyncpg.connect(url)
    queue = PgQueuer(AsyncpgDriver(con))
    await queue.qm.queries.install()

    @queue.entrypoint("noop")
    async def noop(_: object) -> None:
        STARTS.append(time.time())

    due = int(time.time()) + 4 + count / 10_000
    for first in range(0, count, 1000):
        many = min(1000, count - first)
        wait = [timedelta(seconds=due - time.time())] * many
        await queue.qm.queries.enqueue(["noop"] * many, [None] * many, [0] * many, wait)
    running = asyncio.create_task(queue.run(dequeue_timeout=timedelta(seconds=1), batch_size=100))
    await _all(count, due)
    queue.shutdown.set()
    await asyncio.wait([running], timeout=5)
    return due


async def procrastinate(count: int, url: str) -> float:
    """One worker, concurrency 20, polls once a second (default 5), LISTEN/NOTIFY."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="noop")
    async def noop() -> None:
        STARTS.append(time.time())

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        due = int(time.time()) + 4 + count / 5000
        task = noop.configure(schedule_at=datetime.fromtimestamp(due, UTC))
        for first in range(0, count, 1000):
            await task.batch_defer_async(*({} for _ in range(min(1000, count - first))))
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=20, fetch_job_polling_interval=1, install_signal_handlers=False
            )
        )
        await _all(count, due)
        worker.cancel()
        await asyncio.wait([worker], timeout=5)
    return due


async def apscheduler(count: int, url: str) -> float:
    """APScheduler 3 with its SQLAlchemy store; one commit for each job."""
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    store = SQLAlchemyJobStore(url=url.replace("postgresql://", "postgresql+psycopg2://"))
    scheduler = AsyncIOScheduler(
        jobstores={"default": store}, timezone=UTC, job_defaults={"misfire_grace_time": None}
    )
    scheduler.start(paused=True)
    begun = time.time()
    for _ in range(PROBE):
        scheduler.add_job(noted, "date", run_date=datetime.now(UTC) + timedelta(days=1))
    due = int(time.time() + 4 + 2 * count * (time.time() - begun) / PROBE)
    for _ in range(count):
        scheduler.add_job(noted, "date", run_date=datetime.fromtimestamp(due, UTC))
    if time.time() > due:
        sys.exit("the jobs were not stored before the storm")
    scheduler.resume()
    await _all(count, due)
    scheduler.shutdown(wait=False)
    return due


async def noted() -> None:
    """Be a job of APScheduler."""
    STARTS.append(time.time())


def _celery() -> Any:
    """Return the application of beat and worker; its entries are due at one instant."""
    from celery import Celery
    from celery.schedules import schedule

    class Once(schedule):
        """Due once."""

        def __init__(self, at_s: float) -> None:
            super().__init__(timedelta(days=1))
            self.at_s = at_s

        def __reduce__(self) -> Any:
            return (self.__class__, (self.at_s,))

        def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
            now = time.time()
            if last_run_at.timestamp() >= self.at_s:
                return (False, 3600.0)
            return (now >= self.at_s, max(self.at_s - now, 0.0) or 3600.0)

    Once.__qualname__ = "Once"
    globals()["Once"] = Once
    app = Celery("bench", broker=os.environ["BENCH_BROKER"])
    app.conf.task_ignore_result = True
    log = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @app.task(name="noop")
    def noop() -> None:
        os.write(log, b"%.6f\n" % time.time())

    due, count = float(os.environ["BENCH_DUE"]), int(os.environ["BENCH_COUNT"])
    if due:
        entries = {f"e{n}": {"task": "noop", "schedule": Once(due)} for n in range(count)}
        app.conf.beat_schedule = entries
    return app


def celery(count: int, redis_port: str) -> dict[str, Any]:
    """Beat, and a prefork worker with two children, over Redis."""
    due = int(time.time()) + 8.0
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "starts"
        log.touch()
        env = {
            **os.environ,
            "BENCH_BROKER": f"redis://127.0.0.1:{redis_port}/1",
            "BENCH_LOG": str(log),
            "BENCH_DUE": str(due),
            "BENCH_COUNT": str(count),
        }
        words = [sys.executable, "-m", "celery", "-A", "cluster_peers:APP", "-q"]
        kinds = (["worker", "-c", "2", "-l", "ERROR"], ["beat", "-s", f"{place}/beat"])
        found = [
            subprocess.Popen(
                [*words, *kind], env=env, cwd=Path(__file__).parent,
                stdout=subprocess.DEVNULL, stderr=(Path(place) / "errors").open("a"),
            )
            for kind in kinds
        ]  # fmt: skip
        starts: list[float] = []
        while len(starts) < count and time.time() < due + GIVE_UP_S:
            time.sleep(0.2)
            starts = [float(line) for line in log.read_text().splitlines()]
        for one in found:
            one.terminate()
        for one in found:
            one.wait(20)
        if not starts:
            sys.exit((Path(place) / "errors").read_text()[-2000:])
    return _figures("Celery beat + worker (Redis)", count, due, starts)


APP = _celery() if "BENCH_BROKER" in os.environ else None
TITLES = {
    "pgqueuer": "pgqueuer",
    "procrastinate": "Procrastinate",
    "apscheduler": "APScheduler 3 (SQLAlchemy)",
}


def main() -> None:
    """Measure one peer."""
    peer, count, url, redis_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    logging.disable(logging.CRITICAL)
    if peer == "celery":
        print(json.dumps(celery(count, redis_port)))
        return
    measure: Callable[[int, str], Any] = globals()[peer]
    if peer == "apscheduler":
        due = asyncio.run(measure(count, url))
    else:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            due = runner.run(measure(count, url))
    print(json.dumps(_figures(TITLES[peer], count, due, STARTS)))


if __name__ == "__main__":
    main()

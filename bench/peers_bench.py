"""The storm of storm_bench for a peer: APScheduler 3, in memory and over SQLAlchemy and SQLite.

Each runs in a process of its own: N one-shot jobs, all due at one instant, whose function notes
the time. Over SQLite the file is durable as APScheduler leaves it (SQLAlchemy's defaults); it
writes each job by itself, so that ten thousand would take minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

STARTS: list[float] = []
GIVE_UP_S = 120.0


def noted() -> None:
    """Be a job."""
    STARTS.append(time.time())


def storm(kind: str, count: int, place: str) -> dict[str, Any]:
    """Add the jobs, wait for them all, and tell when they started."""
    logging.disable(logging.CRITICAL)
    store = MemoryJobStore()
    if kind == "sqlalchemy":
        store = SQLAlchemyJobStore(url=f"sqlite:///{place}/jobs.db")
    scheduler = BackgroundScheduler(
        jobstores={"default": store},
        executors={"default": ThreadPoolExecutor(20)},
        timezone=UTC,
        job_defaults={"misfire_grace_time": None},
    )
    due = time.time() + 3.0 + count / (5000 if kind == "memory" else 40)
    at = datetime.fromtimestamp(due, UTC)
    scheduler.start(paused=True)
    for _ in range(count):
        scheduler.add_job(noted, "date", run_date=at)
    scheduler.resume()
    end = due + GIVE_UP_S
    while len(STARTS) < count and time.time() < end:
        threading.Event().wait(0.05)
    scheduler.shutdown(wait=False)
    starts = sorted(STARTS)
    return {
        "peer": f"APScheduler 3 {kind}",
        "jobs": count,
        "started": len(starts),
        "first_ms": round((starts[0] - due) * 1000, 1),
        "last_ms": round((starts[-1] - due) * 1000, 1),
        "starts_per_s": round(len(starts) / max(starts[-1] - due, 1e-6)),
    }


def main() -> None:
    """Print a table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--storm", nargs=2, metavar=("KIND", "COUNT"))
    given = parser.parse_args()
    if given.storm:
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(storm(given.storm[0], int(given.storm[1]), place)))
        return
    rows = []
    wanted = [("memory", 1000), ("memory", 10_000), ("sqlalchemy", 1000)]
    for kind, count in wanted[:1] if given.quick else wanted:
        done = subprocess.run(
            [sys.executable, str(Path(__file__)), "--storm", kind, str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    if given.json:
        print(json.dumps({"peers": rows}, indent=1))
        return
    for row in rows:
        print("peers", "  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

"""Many nodes on PostgreSQL: every figure beside its yardstick, measured in the same run.

``make bench-cluster`` (``ARGS=--quick``: three minutes; ``ARGS="--only storm"``: some of it). On
a private durable PostgreSQL and a private Redis of the run's own; all share this machine, so that
only ratios travel. The figures are kept in ``bench/results/cluster.json``. What is measured, and
what to distrust: ``docs/explanation/measured-on-postgresql.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median_low
from typing import Any

from cluster_ceiling import ceilings
from cluster_faults import failover, spread
from cluster_parts import SETTINGS, alike
from cluster_steady import idle, lateness, precision, stored
from cluster_storm import storm

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.redis_server import RedisServer

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv" / "peers" / "bin" / "python"
PAGE = HERE.parent / "docs" / "explanation" / "measured-on-postgresql.md"
RESULTS = HERE / "results" / "cluster.json"
PARTS = ("storm", "roles", "idle", "failover", "spread")
# Celery beat compares its whole schedule at each start: 10,000 entries take it two minutes.
SIZES = {"procrastinate": 5000, "apscheduler": 5000, "celery": 1000}
Row = tuple[str, str, str, str]


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def peer(name: str, count: int, server: PostgresServer, redis: RedisServer) -> dict[str, Any]:
    """Measure one peer in its own environment, on a database of its own."""
    _say(f"storm of {count}: {name}")
    url = server.url(server.new_database())
    words = [str(PEERS), str(HERE / "cluster_peers.py"), name, str(count), url, str(redis.port)]
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=240, env=outside
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def storms(server: PostgresServer, *, quick: bool) -> dict[str, Any]:
    """Storms of ours, of the fastest peer and the ceilings, in turn; then the slower peers."""
    count, rounds = (2000, 1) if quick else (10_000, 3)
    found: dict[str, list[dict[str, Any]]] = {"one": [], "three": [], "ceiling": [], "peers": []}
    redis = RedisServer()
    try:
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}: ceilings and storms of {count}")
            found["ceiling"].append(ceilings(server, count))
            found["one"].append(storm(server, count, alike(1)))
            found["three"].append(storm(server, count, alike(3)))
            found["peers"].append(peer("pgqueuer", count, server, redis))
        for name, most in SIZES.items():
            small = min(most, count // 4 if quick else count)
            found["peers"].append(peer(name, small, server, redis))
    finally:
        redis.close()
    return found


def roles(server: PostgresServer, *, quick: bool) -> dict[str, Any]:
    """A storm and a steady load where one node plans, and two others execute."""
    count = 2000 if quick else 10_000
    _say(f"scheduler and workers apart: a storm of {count}, then 100 jobs each second")
    redis = RedisServer()
    try:
        each = [_with_role(one, redis) for one in ("scheduler", "worker", "worker")]
        return {
            "storm": [storm(server, count, each) for _ in range(1 if quick else 3)],
            "steady": lateness(server, each, 6 if quick else 20),
        }
    finally:
        redis.close()


def _with_role(role: str, redis: RedisServer) -> tuple[str, ...]:
    given = {"node.roles": [role], "redis.addr": f"127.0.0.1:{redis.port}"}
    return ("--settings", json.dumps(given))


def steady(server: PostgresServer, *, quick: bool) -> dict[str, Any]:
    """What idle nodes cost, precision and an outage, over many stored schedules."""
    count = 10_000 if quick else 100_000
    _say(f"{count} stored schedules: idle, precision, outage")
    url, took = asyncio.run(stored(server, count))
    quiet = idle(server, url, count, 8 if quick else 30)
    return {
        "fill_s": round(took, 1),
        "idle": quiet,
        "precision": precision(server, url, count, 6 if quick else 30),
    }


def failovers(server: PostgresServer, *, quick: bool) -> dict[str, Any]:
    """Kills of one of three nodes."""
    trials = 3 if quick else 12
    _say(f"failover: {trials} kills")
    return failover(server, trials)


def spreads(server: PostgresServer, *, quick: bool) -> dict[str, Any]:
    """How evenly nodes carry mixed jobs."""
    _say("spread of 100 mixed jobs")
    return spread(server, 10 if quick else 22, 10 if quick else 30)


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "storm": storms,
    "roles": roles,
    "idle": steady,
    "failover": failovers,
    "spread": spreads,
}


def _middle(rows: list[dict[str, Any]], key: str) -> int:
    return int(median_low(row[key] for row in rows))


def table(found: dict[str, Any]) -> Iterator[Row]:
    """Yield rows of (what, ours, yardstick, ratio)."""
    if "storm" in found:
        yield from _storm_rows(found["storm"])
    if "roles" in found:
        yield from _roles_rows(found["roles"])
    if "idle" in found:
        yield from _steady_rows(found["idle"])
    if "failover" in found:
        yield from _failover_rows(found["failover"])
    if "spread" in found:
        yield from _spread_rows(found["spread"])


def _storm_rows(found: dict[str, Any]) -> Iterator[Row]:
    ours = {"1 node": found["one"], "3 nodes": found["three"]}
    queue = [row for row in found["peers"] if row["peer"] == "pgqueuer"]
    bare = {
        "bare asyncpg, the same durable rows": _middle(found["ceiling"], "rows_per_s"),
        "bare asyncpg, our statements": _middle(found["ceiling"], "statements_per_s"),
        "pgbench, our statements": _middle(found["ceiling"], "pgbench_per_s"),
    }
    for name, rows in ours.items():
        pace = _middle(rows, "starts_per_s")
        what = f"storm of {rows[0]['jobs']} Python jobs, {name}"
        lost, doubled = sum(row["lost"] for row in rows), sum(row["doubled"] for row in rows)
        cpu = f"{_middle(rows, 'cpu_us_per_run')} us of CPU each, of the server's"
        cpu += f" {_middle(rows, 'server_cpu_us_per_run')}"
        yield (what, f"{pace} starts/s", cpu, f"lost {lost}, doubled {doubled}")
        for key, label in (("starts_per_s", "pgqueuer"), ("own_pace_per_s", "its own pace")):
            theirs = _middle(queue, key)
            yield ("", "", f"{label} {theirs}/s", f"{pace / theirs:.2f}x (target 1.4x)")
        durable, whole = _middle(rows, "durable_per_s"), _middle(rows, "whole_per_s")
        ours_too = f"{durable}/s to the last durable end, {whole}/s from the first claim"
        for label, theirs in bare.items():
            target = " (target 0.5)" if "rows" in label else ""
            ratio = f"{pace / theirs:.2f}, {durable / theirs:.2f}, {whole / theirs:.2f}"
            yield ("", ours_too, f"{label} {theirs}/s", ratio + target)
    pace = _middle(found["one"], "starts_per_s")
    for row in found["peers"]:
        if row["peer"] != "pgqueuer":
            many = f"storm of {row['jobs']}, {row['started']} started"
            theirs = f"{row['peer']} {row['starts_per_s']}/s"
            yield (many, f"{pace} starts/s (1 node)", theirs, f"{pace / row['starts_per_s']:.1f}x")


def _roles_rows(found: dict[str, Any]) -> Iterator[Row]:
    rows, steady = found["storm"], found["steady"]
    lost, doubled = sum(row["lost"] for row in rows), sum(row["doubled"] for row in rows)
    yield (
        f"storm of {rows[0]['jobs']}, one scheduler and two workers with Redis",
        f"{_middle(rows, 'starts_per_s')} starts/s",
        f"the first after {_middle(rows, 'first_ms')} ms, nothing is claimed ahead",
        f"lost {lost}, doubled {doubled}",
    )
    yield (
        "the same, 100 due each second",
        f"p50 {steady['p50_ms']}, p99 {steady['p99_ms']}, max {steady['max_ms']} ms late",
        f"{steady['runs']} runs, {steady['early']} early",
        "",
    )


def _steady_rows(found: dict[str, Any]) -> Iterator[Row]:
    quiet = found["idle"]
    yield (
        f"idle cluster of 3, {quiet['schedules']} far-away jobs",
        f"{max(quiet['cpu_percent_each'])} % of a core, each at most",
        f"server {quiet['server_cpu_percent']} %, {quiet['wal_bytes_per_s']} B/s of its log",
        "target: under 1 %",
    )
    yield (
        "writes of the idle cluster",
        f"{quiet['heartbeat_rows_per_s']} rows/s of heartbeats",
        f"others {quiet['other_rows_per_s']}/s {quiet['other_tables'] or ''}",
        "target: no others",
    )
    exact, outage = found["precision"]
    yield (
        f"{exact['schedules']} schedules, {exact['due_each_second']} due each second",
        f"p50 {exact['p50_ms']}, p99 {exact['p99_ms']}, max {exact['max_ms']} ms late",
        f"{exact['runs']} runs, {exact['early']} early",
        "target: p99 at most 20 ms",
    )
    yield (
        f"the only node killed, {outage['down_s']} s away",
        f"unaccounted {outage['unaccounted']} of {outage['slots']}, doubled {outage['doubled']}",
        f"{outage['states']}, made up {outage['all_made_up_after_back_s']} s after its return",
        "target: 0 unaccounted",
    )


def _failover_rows(found: dict[str, Any]) -> Iterator[Row]:
    for key, label, target in (
        ("kill_to_first_start_s", "to the next start of any of its jobs", ""),
        ("kill_to_start_s", "to each of its jobs' next start", "target: median 1, worst 5"),
        ("late_s", "each next start, against its slot", ""),
    ):
        yield (
            f"kill -9 of one of 3 nodes, {label}",
            f"median {found[key]['median']}, worst {found[key]['worst']} s",
            f"{found['kills']} kills, {found['affected_jobs']} jobs affected",
            target,
        )
    yield (
        "slots of that time",
        f"unaccounted {found['unaccounted']} of {found['slots']}, doubled {found['doubled']}",
        f"{found['states']}, taken over {found['taken_over']}",
        "target: 0 and 0",
    )


def _spread_rows(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"spread of {found['jobs']} mixed jobs on 3 nodes",
        f"load max/min {found['load_ratio']}, {found['settled_after_s']} s after the start",
        f"busy workers {found['busy_workers_each']}, starts {found['starts_each']}",
        "target: at most 1.3",
    )
    yield (
        "a fourth node is added",
        f"{found['shards_moved']} shards moved",
        f"fair share {found['fair_share']} of {found['shards']}",
        f"then load max/min {found['load_ratio_of_four']}",
    )


def measure(parts: list[str], *, quick: bool) -> dict[str, Any]:
    """Measure some parts on one server."""
    begun = time.monotonic()
    found: dict[str, Any] = {"quick": quick}
    RESULTS.parent.mkdir(exist_ok=True)
    server = PostgresServer(durable=True, settings=SETTINGS)
    try:
        for name in parts:
            found[name] = MEASURES[name](server, quick=quick)
            found["took_s"] = round(time.monotonic() - begun)
            RESULTS.write_text(json.dumps(found, indent=1))  # what an interrupted run has found
    finally:
        server.close()
    return found


def write_page(found: dict[str, Any], rows: list[Row]) -> None:
    """Put the table of a run into its page."""
    version = ".".join(map(str, sys.version_info[:3]))
    when = time.strftime("%Y-%m-%d", time.gmtime())
    size = "in short (`--quick`)" if found["quick"] else "in full"
    lines = [
        f"Measured {size} on {when}, on {os.cpu_count()} cores, with CPython {version}.",
        "",
        "| what | Everbell | beside | |",
        "|---|---|---|---|",
        *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows),
    ]
    head, mark, rest = PAGE.read_text().partition("<!-- figures -->\n")
    _, end, tail = rest.partition("<!-- end of figures -->")
    PAGE.write_text(head + mark + "\n".join(lines) + "\n" + end + tail)


def main() -> None:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, about three minutes")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--page", action="store_true", help=f"write the table into {PAGE.name}")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and nodes are ended first
    found = measure(parts, quick=given.quick)
    rows = list(table(found))
    if given.page:
        write_page(found, rows)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for row in rows:
        print("{:66}  {:60}  {:84}  {}".format(*row))


if __name__ == "__main__":
    main()

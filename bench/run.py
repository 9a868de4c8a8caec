"""Runs all benches, each in a process of its own, and sets every figure beside its yardstick.

``python bench/run.py [--quick] [--json]``: the yardsticks (peers, bare drivers) are measured in the
same run, because machines differ and are noisy; only the ratios travel. All figures are kept in
``bench/results/latest.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BENCHES = ("cron", "store", "storm", "python", "peers", "http", "scale")
QUICK = frozenset({"storm", "python", "peers", "http", "scale"})


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one bench and return what it found."""
    words = [sys.executable, str(HERE / f"{name}_bench.py"), "--json"]
    if quick and name in QUICK:
        words.append("--quick")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}_bench.py failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return rows of (what, ours, yardstick, ratio)."""
    rows = [*_cron(found["cron"]), *_storms(found), *_python(found), *_precision(found["storm"])]
    return [*rows, *_http(found["http"]), *_scale(found["scale"])]


def _cron(cron: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"next slot of {row['text']} in {row['tz']}",
            f"{row['everbell_us']} us",
            f"cronsim {row['cronsim_us']} us, croniter {row['croniter_us']} us",
            f"{row['times_cronsim']}x, {row['times_croniter']}x as fast",
        )
        for row in cron["rows"]
    ]


def _storms(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    bare = found["store"]["bare_cycles_per_s"]
    rows = [
        (
            "claim and end through the store",
            f"{found['store']['store_cycles_per_s']}/s",
            f"bare driver, same durable rows {bare}/s",
            f"{found['store']['ratio']}",
        )
    ]
    for storm in found["storm"]["storm"]:
        peers = [peer for peer in found["peers"]["peers"] if peer["jobs"] == storm["jobs"]]
        beside = ", ".join(f"{peer['peer']} {peer['starts_per_s']}/s" for peer in peers)
        ratios = [storm["starts_per_s"] / max(peer["starts_per_s"], 1) for peer in peers]
        durable = storm["jobs"] / storm["ledger_ms"] * 1000
        rows.append(
            (
                f"storm of {storm['jobs']}, lost {storm['lost']}, doubled {storm['doubled']}",
                f"{storm['starts_per_s']} starts/s ({durable:.0f}/s with the durable end)",
                beside,
                ", ".join(f"{ratio:.2g}x" for ratio in ratios),
            )
        )
    return rows


def _python(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    memory = {peer["jobs"]: peer for peer in found["peers"]["peers"] if "memory" in peer["peer"]}
    rows = []
    for storm in found["python"]["storm"]:
        peer = memory.get(storm["jobs"], next(iter(memory.values())))
        ratio = storm["starts_per_s"] / max(peer["starts_per_s"], 1)
        rows.append(
            (
                f"storm of {storm['jobs']} Python jobs, {storm['mode']}",
                f"{storm['starts_per_s']} starts/s, {storm['cpu_us_per_run']} us of CPU each",
                f"{peer['peer']}, nothing durable {peer['starts_per_s']}/s",
                f"{ratio:.2g}x, lost {storm['lost']}, doubled {storm['doubled']}",
            )
        )
    return rows


def _precision(storm: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"lateness at {row['rate']}/s, {'spread' if row['spread'] else 'all at the second'}",
            f"p50 {row['p50_ms']}, p99 {row['p99_ms']}, max {row['max_ms']} ms",
            "event loop's timer 1 ms",
            f"{row['early']} early of {row['runs']}",
        )
        for row in storm["precision"]
    ]


def _http(http: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"HTTP callbacks, {name}",
            f"{http[name]['runs_per_s']}/s, {http[name]['cpu_us_per_run']} us of CPU each",
            f"bare client {http['bare']['runs_per_s']}/s",
            f"{http[name]['of_bare']}",
        )
        for name in http
        if name != "bare"
    ]


def _scale(scale: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"node with {row['schedules']} schedules ({row['node']})",
            f"start {row['start_s']} s, {row['rss_mb']} MB, {row['cpu_percent']} % of a core",
            "an empty node",
            f"+{row['rss_over_empty_mb']} MB",
        )
        for row in scale["scale"]
    ]


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, about a minute")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for name in BENCHES:
        print(f"... {name}", file=sys.stderr, flush=True)
        found[name] = measure(name, quick=given.quick)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.json").write_text(json.dumps(found, indent=1))
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for row in table(found):
        print("{:52}  {:64}  {:58}  {}".format(*row))


if __name__ == "__main__":
    main()

"""Cost of one step of a schedule against cronsim and croniter, walking forward.

Usage: python bench/cron_bench.py [--json] [--steps N]. Figures are microseconds for each step, best
of five walks; ratios are taken within one run, so that they hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from croniter import croniter
from cronsim import CronSim

from everbell.domain.schedule import parse_schedule

CASES = [
    ("*/5 * * * *", "UTC"),
    ("*/5 * * * *", "Europe/Stockholm"),
    ("0 9 * * 1-5", "Europe/Stockholm"),
    ("30 2 * * *", "America/New_York"),
    ("0 0 29 2 *", "UTC"),
    ("*/10 * * * * *", "UTC"),
    ("0 0 L * *", "Europe/Stockholm"),
]
START = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 5


def _best(prepare: Callable[[], Callable[[], object]], steps: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        step = prepare()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        best = min(best, time.perf_counter() - start)
    return best / steps * 1e6


def _ours(text: str, tz: str, steps: int) -> float:
    schedule = parse_schedule(text, tz)
    start_us = int(START.timestamp() * 1_000_000)
    best = float("inf")
    for round_ in range(ROUNDS):
        at = start_us + round_ * 60_000_000
        begin = time.perf_counter()
        for _ in range(steps):
            found = schedule.next_us(at)
            assert found is not None
            at = found
        best = min(best, time.perf_counter() - begin)
    return best / steps * 1e6


def _cronsim(text: str, tz: str, steps: int) -> float:
    local = START.astimezone(ZoneInfo(tz))
    return _best(lambda: CronSim(text, local).__next__, steps)


def _croniter(text: str, tz: str, steps: int) -> float:
    local = START.astimezone(ZoneInfo(tz))
    first = len(text.split()) == 6
    return _best(lambda: croniter(text, local, second_at_beginning=first).get_next, steps)


def _parse_cost(steps: int) -> float:
    begin = time.perf_counter()
    for number in range(steps):
        parse_schedule(f"{number % 60} {number // 60}-17 * * 1-5", "Europe/Stockholm")
    return (time.perf_counter() - begin) / steps * 1e6


def run(steps: int) -> dict[str, object]:
    """All figures as plain data."""
    rows = []
    for text, tz in CASES:
        count = min(steps, 200) if text == "0 0 29 2 *" else steps
        count = min(count, 900) if "L" in text else count
        ours, sim, it = (f(text, tz, count) for f in (_ours, _cronsim, _croniter))
        rows.append(
            {
                "text": text,
                "tz": tz,
                "everbell_us": round(ours, 2),
                "cronsim_us": round(sim, 2),
                "croniter_us": round(it, 2),
                "times_cronsim": round(sim / ours, 1),
                "times_croniter": round(it / ours, 1),
            }
        )
    return {"steps": steps, "parse_us": round(_parse_cost(500), 1), "rows": rows}


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    result = run(options.steps)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    head = ("text", "zone", "everbell us", "cronsim us", "croniter us", "x cronsim", "x croniter")
    print("{:16} {:18} {:>12} {:>11} {:>12} {:>10} {:>11}".format(*head))
    for row in result["rows"]:
        print("{:16} {:18} {:12} {:11} {:12} {:10} {:11}".format(*row.values()))
    print(f"parse (new text, cold cache): {result['parse_us']} us")


if __name__ == "__main__":
    main()

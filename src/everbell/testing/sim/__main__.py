"""``python -m everbell.testing.sim --seed 42``: run simulated clusters and print the verdict."""

from __future__ import annotations

import argparse
import logging
import sys

from everbell.testing.sim.scenario import Result, draw, simulate

SHOWN = 15


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds; return 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m everbell.testing.sim")
    parser.add_argument("--seed", type=int, default=1, help="one seed")
    parser.add_argument("--seeds", default="", help="a range of seeds, such as 1-200")
    parser.add_argument("--store", default="", choices=["", "memory", "sqlite"])
    parser.add_argument("--minutes", type=float, default=0, help="virtual minutes of trouble")
    parser.add_argument("--verbose", action="store_true", help="show the nodes' logs")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if given.verbose else logging.CRITICAL)
    first, _, last = given.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1) if first else [given.seed]
    bad = 0
    for seed in seeds:
        result = simulate(draw(seed, store=given.store, minutes=given.minutes))
        bad += bool(result.violations)
        _show(result, brief=len(seeds) > 1)
    if len(seeds) > 1:
        print(f"{len(seeds)} seeds, {bad} with violations")
    return 1 if bad else 0


def _show(result: Result, *, brief: bool) -> None:
    options, history = result.options, result.history
    if brief and not result.violations:
        return
    print(f"seed {options.seed}: {options}")
    print(
        f"  {result.virtual_s / 60:.1f} virtual minutes, {len(history.rows)} ledger rows,"
        f" {len(history.events)} outside events, {result.steps} steps, digest {history.digest()}"
    )
    for violation in result.violations[:SHOWN]:
        print(f"  PROMISE {violation.promise} broken, {violation.kind}: {violation.detail}")
    if len(result.violations) > SHOWN:
        print(f"  ... and {len(result.violations) - SHOWN} more")
    print("  verdict:", "BROKEN" if result.violations else "all promises kept")
    print(f"  again: make sim SEED={options.seed}")


if __name__ == "__main__":
    sys.exit(main())

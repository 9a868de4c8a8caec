"""``python -m everbell.testing.proof.soak --minutes 30``: break three real nodes at random.

Prints each fault, and at the end the verdict. The seed draws the faults and their order; what
happens between processes is not replayed by it. ``--redis`` splits roles: one node schedules and
works, one only schedules, one only works; offers go through Redis, which is broken as well.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.proof.checker import Bounds
from everbell.testing.proof.cluster import Proof
from everbell.testing.proof.faults import Breaker
from everbell.testing.proof.network import SilentProxy
from everbell.testing.redis_server import RedisServer

ROLES: Sequence[str] = ("scheduler,worker,api", "scheduler,api", "worker,api")


def main(arguments: list[str] | None = None) -> int:
    """Soak; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m everbell.testing.proof.soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="0 = another one each time")
    parser.add_argument("--redis", action="store_true", help="split roles, break Redis too")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    given = parser.parse_args(arguments)
    seed = given.seed or time.time_ns() % 1_000_000
    print(f"seed {seed}; again: make cluster-soak MINUTES={given.minutes:g} SEED={seed}")
    directory = Path(tempfile.mkdtemp(prefix="everbell-soak-"))
    with ExitStack() as stack:
        good = _soak(stack, directory, seed, given)
    if good:
        shutil.rmtree(directory)
    else:
        print(f"logs are kept: {directory}")
    return 0 if good else 1


def _soak(stack: ExitStack, directory: Path, seed: int, given: argparse.Namespace) -> bool:
    server = PostgresServer(durable=True)
    stack.callback(server.close)
    redis = RedisServer() if given.redis else None
    if redis is not None:
        stack.callback(redis.close)
    proof = Proof(directory, server.url(server.new_database()))
    stack.callback(proof.close)
    ways = []
    for roles in ROLES:
        way = SilentProxy("127.0.0.1", server.port)
        stack.callback(way.close)
        ways.append(way)
        env = {} if redis is None else {"EVERBELL_REDIS_ADDR": redis.addr}
        env |= {} if redis is None else {"EVERBELL_NODE_ROLES": roles}
        proof.member(url=proof.url.replace(f":{server.port}/", f":{way.port}/"), settings=env)
    proof.start()
    proof.create()
    breaker = Breaker(proof, server, ways, random.Random(seed), redis)
    breaker.faults = {k: v for k, v in breaker.faults.items() if given.only in k}
    end = time.monotonic() + given.minutes * 60
    while time.monotonic() < end:
        time.sleep(2)
        begun = time.monotonic()
        kind = breaker.one()
        print(f"  {kind}: all ready {time.monotonic() - begun:.1f} s after", flush=True)
        time.sleep(8)
        proof.quiet(4)
    proof.settle(120)
    verdict = proof.verdict(Bounds(late_s=1.5))
    print(proof.report(verdict))
    print("verdict:", "BROKEN" if verdict.violations else "all promises kept")
    return not verdict.violations


if __name__ == "__main__":
    sys.exit(main())

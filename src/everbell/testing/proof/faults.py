"""Ways to break a cluster, drawn from a seed; each ends, and everything heals by itself."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Literal, cast

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.proof.cluster import LEASE_S, Proof
from everbell.testing.proof.network import Mode, SilentProxy
from everbell.testing.redis_server import RedisServer


class Breaker:
    """Breaks a cluster whose nodes reach their server through ``ways``, one for each member."""

    def __init__(
        self,
        proof: Proof,
        server: PostgresServer,
        ways: Sequence[SilentProxy],
        chance: random.Random,
        redis: RedisServer | None = None,
    ) -> None:
        self._proof, self._server, self._ways = proof, server, ways
        self._chance = chance
        self._redis = redis
        self.faults: dict[str, Callable[[], None]] = {
            "kill -9": self._kill,
            "kill -9 of all": self._kill_all,
            "SIGSTOP": self._stop,
            "server, fast": lambda: self._restart("fast"),
            "server, immediate": lambda: self._restart("immediate"),
            "server, kill -9": lambda: self._restart("kill"),
            "pg_terminate_backend": self._server.terminate_all,
            "way reset": self._reset,
            "way silent": lambda: self._silence("silent"),
            "way deaf": lambda: self._silence("deaf"),
            "way mute": lambda: self._silence("mute"),
        }
        if redis is not None:
            self.faults |= {
                "redis flush": redis.flush,
                "redis restart": redis.restart,
                "redis frozen": self._freeze,
            }

    def one(self) -> str:
        """Break one thing for a while; return what it was."""
        kind = self._chance.choice(sorted(self.faults))
        with self._proof.fault(kind, heals_s=6 + LEASE_S):
            self.faults[kind]()
            for member in self._proof.members:
                if not member.alive():
                    member.launch()
            for member in self._proof.members:
                member.await_ready(60)
        return kind

    def _kill(self) -> None:
        self._chance.choice(self._proof.members).kill()
        time.sleep(self._chance.choice([0.0, 1.0, 4.0]))

    def _kill_all(self) -> None:
        for member in self._proof.members:
            member.kill()
        time.sleep(self._chance.choice([0.0, 3.0]))

    def _stop(self) -> None:
        stopped = self._chance.sample(self._proof.members, self._chance.choice([1, 1, 2]))
        for member in stopped:
            member.signal(signal.SIGSTOP)
        time.sleep(LEASE_S * self._chance.choice([0.5, 1.0, 3.0]))
        for member in stopped:
            member.signal(signal.SIGCONT)

    def _restart(self, how: Literal["fast", "immediate", "kill"]) -> None:
        if how == "kill":
            self._server.kill()
        else:
            self._server.stop(how)
        time.sleep(self._chance.choice([0.0, 1.0, 8.0]))
        self._server.start()

    def _reset(self) -> None:
        for _ in range(3):
            self._chance.choice(self._ways).cut()
            time.sleep(self._chance.random())

    def _silence(self, mode: str) -> None:
        cut = self._chance.sample(list(self._ways), self._chance.choice([1, 1, len(self._ways)]))
        for way in cut:
            way.mode = cast("Mode", mode)
        time.sleep(self._chance.choice([1.0, 4.0, 12.0]))
        for way in cut:
            way.mode = "open"

    def _freeze(self) -> None:
        assert self._redis is not None
        self._redis.freeze()
        time.sleep(self._chance.choice([0.5, 5.0]))
        self._redis.thaw()

"""Deals the shards to the nodes, and tells this node which are its own.

No leader is needed: the eldest scheduler computes, but whoever does, one of several results is
stored, and jobs whose owner does not come are taken by the others a moment later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from everbell.domain.placement import SHARDS, Place, place, places
from everbell.domain.records import Node
from everbell.engine.loads import Loads
from everbell.engine.service import Service
from everbell.ports.clock import Clock
from everbell.ports.cluster import Assignment, ClusterStore, Share

log = logging.getLogger(__name__)

PERIOD_S = 1.0
AGAIN_S = 0.1
"""Pause after another node stored an assignment first."""
STEADY_S = 15.0
"""How long a node's capacity must stay another one until shards move for it."""
REPORT_S = 10.0
LIVING = frozenset({"up", "draining", "throttled"})


class Placement(Service):
    """Keeps this node's ``Share``; the eldest living scheduler also renews the assignment.

    ``share`` None = this node takes every job, as when it is alone. Losing this service, or the
    assignment, costs evenness only.
    """

    name = "placement"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        *,
        store: ClusterStore,
        loads: Loads,
        behind_us: int,
        period_s: float = PERIOD_S,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._loads = loads
        self._behind_us = behind_us
        self._period_s = period_s
        self.node_id: Callable[[], str] = lambda: ""
        self.is_scheduler = True
        self.share: Share | None = None
        self.dealt: Callable[[Share | None], None] = lambda _: None
        self.met: Callable[[Sequence[Node]], None] = lambda _: None
        self._epoch = -1
        self._assignment = Assignment()
        self._seen: tuple[str, tuple[Place, ...]] = ("", ())
        self._homes: dict[int, str] = {}
        self._steady: dict[str, tuple[float, float, float]] = {}
        self._reported_at = -REPORT_S
        self._renew_at = -REPORT_S

    def heard(self, epoch: int) -> None:
        """Take note of the epoch that is in force."""
        if epoch != self._epoch:
            self._epoch = epoch
            if epoch != self._assignment.epoch:
                self.wake()

    async def step(self) -> float:
        """Look once."""
        if not self.is_scheduler:
            return await self._meet_only()
        nodes = await self._store.list_nodes()
        self.met(nodes)
        now = self.clock.now_us()
        found = places(nodes, now)
        elders = sorted(
            (node.started_us, node.id)
            for node in nodes
            if node.state in LIVING and node.lease_until_us >= now and "scheduler" in node.roles
        )
        if len(elders) <= 1:
            self._seen = ("", ())
            await self._set(None)
            return self._period_s
        me = self.node_id()
        leads = elders[0][1] == me
        seen = (me, tuple(found))
        if seen != self._seen or self._epoch != self._assignment.epoch or self._renews(leads):
            self._seen = ("", ())
            await self._read(nodes)
            if leads and not await self._renew(nodes, found):
                return AGAIN_S
            if await self._deal(me, found):
                self._seen = seen
        await self._report()
        return self._period_s

    async def _meet_only(self) -> float:
        self.met(await self._store.list_nodes())
        return self._period_s

    def _renews(self, leads: bool) -> bool:
        return leads and self.clock.monotonic() >= self._renew_at

    async def _read(self, nodes: Sequence[Node]) -> None:
        """Read the assignment and remember whose the shards of nodes that went were."""
        new = await self._store.get_assignment()
        old, self._assignment, self._epoch = self._assignment, new, new.epoch
        if new.epoch == old.epoch:
            return
        names = {node.id: node.name for node in nodes}
        able = {node.id for node in nodes if node.state == "up"}
        for shard, (before, after) in enumerate(zip(old.owners, new.owners, strict=False)):
            if before == after:
                continue
            if before and before not in able and before in names:
                self._homes.setdefault(shard, names[before])
            if self._homes.get(shard) == names.get(after) or before in able:
                self._homes.pop(shard, None)

    async def _renew(self, nodes: Sequence[Node], found: Sequence[Place]) -> bool:
        """Compute the assignment and store it if it is another; False if somebody was first."""
        self._renew_at = self.clock.monotonic() + REPORT_S
        if self.share is None:
            # What is known here of all shards, before some are given to those who know nothing.
            self._reported_at = -REPORT_S
            await self._report()
        loads = await self._store.shard_loads() | self._own_loads()
        owners = place(self._steadied(found), loads, self._assignment.owners, self._homes)
        if not owners or owners == self._assignment.owners:
            return True
        new = Assignment(epoch=self._assignment.epoch + 1, owners=owners)
        if not await self._store.set_assignment(new):
            return False
        log.info(
            "shards were dealt anew among %d nodes: %d of %d moved",
            len(set(owners)),
            _moved(self._assignment.owners, owners),
            SHARDS,
        )
        await self._read(nodes)
        return True

    def _own_loads(self) -> dict[int, float]:
        weights = self._loads.weights()
        return {shard: weights[shard] for shard in _shards(self.share) if shard in weights}

    def _steadied(self, found: Sequence[Place]) -> list[Place]:
        """Return places with capacities that did not change just now.

        A newcomer is judged as those are that measure what it does, such as others of its machine.
        """
        now = self.clock.monotonic()
        steadied: list[Place] = []
        known, self._steady = self._steady, {}
        alike = {it.capacity: known[it.id] for it in found if it.id in known}
        for it in found:
            new = alike.get(it.capacity, (it.capacity, it.capacity, now))
            used, other, since = known.get(it.id, new)
            if it.capacity != other:
                other, since = it.capacity, now
            if not it.capacity or not used or now - since >= STEADY_S:
                used = it.capacity
            self._steady[it.id] = (used, other, since)
            steadied.append(replace(it, capacity=used))
        return steadied

    async def _deal(self, me: str, found: Sequence[Place]) -> bool:
        """Derive this node's share; return whether the assignment fits the nodes that are there.

        Shards of nodes that can't take any are everybody's until they are dealt anew.
        """
        able = {it.id for it in found if it.capacity > 0}
        owners = self._assignment.owners
        if not owners or not able - {me}:
            await self._set(None)
            return bool(owners)
        mine = tuple(
            shard for shard, owner in enumerate(owners) if owner == me or owner not in able
        )
        await self._set(Share(shards=mine, behind_us=self._behind_us))
        return set(owners) == able

    async def _set(self, share: Share | None) -> None:
        if share == self.share:
            return
        before, after = _shards(self.share), _shards(share)
        taken = after - before
        stored = await self._store.shard_loads() if taken and share is not None else {}
        self._loads.own(taken, before - after, stored)
        self.share = share
        self.dealt(share)

    async def _report(self) -> None:
        """Tell what the own shards weigh, if that is news."""
        now = self.clock.monotonic()
        if now - self._reported_at < REPORT_S:
            return
        self._reported_at = now
        news = self._loads.news(sorted(_shards(self.share)))
        if news:
            await self._store.report_loads(news, self.clock.now_us())
            self._loads.told(news)


def _shards(share: Share | None) -> set[int]:
    return set(range(SHARDS)) if share is None else set(share.shards)


def _moved(before: Sequence[str], after: Sequence[str]) -> int:
    if not before:
        return len(after)
    return sum(one != two for one, two in zip(before, after, strict=True))

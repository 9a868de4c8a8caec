"""The nodes of the cluster: what they are, what they own, and what an operator does with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from everbell.domain.errors import ConflictError, FieldProblem, ValidationError
from everbell.domain.job import Record
from everbell.domain.notices import notices
from everbell.domain.placement import SHARDS, places, ratio
from everbell.domain.records import Node
from everbell.ports.observer import Change
from everbell.ports.store import Assignment
from everbell.services.audit import noted
from everbell.services.context import Actor, Services, missing

MAX_REASON = 1_000
_GONE = frozenset({"dead", "left"})


class Member(Record, frozen=True):
    """A node, the shards that it owns, their load (seconds of work an hour), and notes about it."""

    node: Node
    shards: int = 0
    load: float = 0.0
    notes: tuple[str, ...] = ()


class Survey(Record, frozen=True):
    """The cluster. ``ratio``: most over least loaded scheduler per capacity; None = it has none.

    ``epoch`` counts the assignments of shards to nodes; ``dealt`` shards have a living owner, and
    as many are ``shards`` in all. Before there are two schedulers nothing is dealt.
    """

    members: tuple[Member, ...]
    epoch: int
    dealt: int
    shards: int
    alive: int
    load: float
    ratio: float | None


async def list_nodes(services: Services) -> list[Node]:
    """Return all nodes that are known, alive or not.

    A node whose lease is over is shown as dead, also where no other node is there to declare it.
    """
    now = services.clock.now_us()
    return [_as_seen(node, now) for node in await services.store.list_nodes()]


async def survey(services: Services) -> Survey:
    """Return the cluster as it is now."""
    nodes = await list_nodes(services)
    assignment = await services.store.get_assignment()
    loads = await services.store.shard_loads()
    now = services.clock.now_us()
    alive = {node.id for node in nodes if node.state not in _GONE}
    shards, weights = _owned(assignment, loads)
    able = [place for place in places(nodes, now) if place.capacity > 0]
    uneven = ratio(able, loads, assignment.owners) if assignment.owners and able else math.inf
    return Survey(
        members=tuple(
            Member(
                node=node,
                shards=shards.get(node.id, 0) if node.id in alive else 0,
                load=round(weights.get(node.id, 0.0), 1) if node.id in alive else 0.0,
                notes=_notes(node, nodes, now) if node.id in alive else (),
            )
            for node in nodes
        ),
        epoch=assignment.epoch,
        dealt=sum(count for owner, count in shards.items() if owner in alive),
        shards=SHARDS,
        alive=len(alive),
        load=round(sum(loads.values()), 1),
        ratio=round(uneven, 3) if math.isfinite(uneven) else None,
    )


async def drain(services: Services, actor: Actor, key: str, reason: str = "") -> Member:
    """Let the nodes of a name take no new work, until ``resume``; what runs may end.

    Raises ForbiddenError, ValidationError, NotFoundError.
    """
    actor.require_all_projects("drain a node")
    if len(reason) > MAX_REASON:
        problem = FieldProblem("/reason", "is too long", hint=f"at most {MAX_REASON} characters")
        raise ValidationError("the node can't be drained", problems=(problem,))
    name = (await _find(services, key)).name
    store = noted(services, actor, "node.drain", target=name)
    await store.drain(name, reason.strip() or f"by {actor.name}", services.clock.now_us())
    services.hints.changed(Change(nodes=True))
    return await _member(services, name)


async def resume(services: Services, actor: Actor, key: str) -> Member:
    """End a drain; harmless if there is none. Raises ForbiddenError, NotFoundError."""
    actor.require_all_projects("resume a node")
    name = (await _find(services, key)).name
    await noted(services, actor, "node.resume", target=name).resume(name)
    services.hints.changed(Change(nodes=True))
    return await _member(services, name)


async def remove(services: Services, actor: Actor, key: str) -> None:
    """Forget a node that is gone: by id, or all that had a name.

    Raises ForbiddenError, NotFoundError, and ConflictError while one of them is alive.
    """
    actor.require_all_projects("remove a node")
    found = await list_nodes(services)
    chosen = [it for it in found if it.id == key] or [it for it in found if it.name == key]
    if not chosen:
        raise missing("node", key)
    living = next((it for it in chosen if it.state not in _GONE), None)
    if living is not None:
        message = f"node {living.name} is {living.state}: only nodes that are gone can be removed"
        raise ConflictError(message, hint="stop its process first, or drain it to give it a rest")
    for one in chosen:
        store = noted(services, actor, "node.remove", target=one.name)
        await store.remove_node(one.id, services.clock.now_us())


async def check_store(services: Services) -> None:
    """Touch the store. Raises StoreError if it does not answer."""
    await services.store.change_counter()


def _as_seen(node: Node, now_us: int) -> Node:
    if node.state in _GONE:
        return replace(node, reason="")
    if node.lease_until_us >= now_us:
        return node
    return replace(node, reason="", state="dead", running=0, queued=0)


def _notes(node: Node, nodes: Iterable[Node], now_us: int) -> tuple[str, ...]:
    said = [f"{subject}: {text}" for subject, text in notices(node, nodes, now_us).items()]
    return (node.reason, *said) if node.state == "up" and node.reason else tuple(said)


def _owned(
    assignment: Assignment, loads: Mapping[int, float]
) -> tuple[dict[str, int], dict[str, float]]:
    shards: dict[str, int] = {}
    weights: dict[str, float] = {}
    for shard, owner in enumerate(assignment.owners):
        shards[owner] = shards.get(owner, 0) + 1
        weights[owner] = weights.get(owner, 0.0) + loads.get(shard, 0.0)
    return shards, weights


async def _find(services: Services, key: str) -> Node:
    """Return a node by id, or the one of a name that was heard of last."""
    found = await list_nodes(services)
    chosen = [it for it in found if it.id == key] or [it for it in found if it.name == key]
    if not chosen:
        raise missing("node", key)
    return max(chosen, key=lambda it: (it.state not in _GONE, it.heartbeat_us))


async def _member(services: Services, name: str) -> Member:
    found = [it for it in (await survey(services)).members if it.node.name == name]
    if not found:
        raise missing("node", name)
    return max(found, key=lambda it: (it.node.state not in _GONE, it.node.heartbeat_us))

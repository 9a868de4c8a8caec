"""What nodes of one cluster should agree on, and what is to be said where they do not."""

from __future__ import annotations

from collections.abc import Iterable

from everbell.domain.records import Node

_GONE = frozenset({"dead", "left"})
_LACKING = {"scheduler": "no slot is decided", "worker": "runs wait in the queue"}


def notices(node: Node, others: Iterable[Node], now_us: int) -> dict[str, str]:
    """Return, by subject, what people should know of a node beside the others that live.

    None of it stops a node: two programs plan alike unless time zone rules changed between them,
    and no slot runs twice whatever nodes are called.
    """
    said: dict[str, str] = {}
    roles = set(node.roles)
    for other in sorted(others, key=lambda it: (it.name, it.started_us, it.id)):
        if other.id == node.id or other.state in _GONE or other.lease_until_us < now_us:
            continue
        roles.update(other.roles)
        if other.version != node.version:
            text = f"this node runs {node.version}, node {other.name} runs {other.version}"
            said.setdefault("version", f"{text}: finish the upgrade")
        if node.tzdata and other.tzdata and other.tzdata != node.tzdata:
            text = f"time zone rules are {node.tzdata} here and {other.tzdata} on {other.name}"
            said.setdefault("tzdata", f"{text}: install the same tzdata on both")
        if 0 < node.schema < other.schema:
            text = f"this node is made for schema {node.schema}, node {other.name} for"
            said.setdefault("schema", f"{text} {other.schema}: upgrade this one")
        if other.name == node.name and _together(node, other):
            text = f"another living process ({other.host}, pid {other.pid}) has the name"
            said.setdefault("name", f"{text} {node.name!r} too: give each its own node.name")
    for role, lacking in _LACKING.items():
        if role not in roles:
            said["roles"] = f"no living node has the role {role}: {lacking}, see node.roles"
    return said


def _together(one: Node, two: Node) -> bool:
    """Return whether both were heard of since the later one started; else one was killed."""
    born = max(one.started_us, two.started_us)
    return min(one.heartbeat_us, two.heartbeat_us) >= born

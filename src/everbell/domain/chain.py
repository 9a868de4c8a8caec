"""What follows when a run has ended: which jobs, under which key, and where chains stop."""

from __future__ import annotations

import hashlib
import re

from everbell.domain.job import Definition, Then
from everbell.domain.run import RunKey, State

LINKS_MAX = 50
"""Runs that one run may start one after the other; a longer chain ends here."""

_KINDS: dict[str, frozenset[str]] = {
    "success": frozenset({"succeeded"}),
    "failure": frozenset({"failed", "timed_out", "lost"}),
    "always": frozenset({"succeeded", "failed", "timed_out", "lost", "cancelled"}),
}
_LINK = re.compile(r"then(\d+)-")


def followers(definition: Definition, state: State) -> tuple[Then, ...]:
    """Return the jobs that follow a run which ended in ``state``; none follow a skipped one."""
    return tuple(one for one in definition.then if state in _KINDS[one.on])


def links(key: RunKey) -> int:
    """Return how many runs stand before this one in its chain."""
    found = _LINK.match(key.trigger_id)
    return int(found[1]) if found else 0


def follower_key(parent: RunKey, then: Then, job_id: int) -> RunKey:
    """Return the key of the run that follows: the same each time that the end is told.

    It carries the slot of the run that began the chain.
    """
    text = f"{parent.id}/{then.job}/{then.on}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return RunKey(parent.slot_us, job_id, f"then{links(parent) + 1}-{digest}")

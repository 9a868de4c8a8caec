"""One line of the account of changes: who changed what, when, from where."""

from __future__ import annotations

import hashlib

import msgspec

from everbell.domain.job import Job, Record
from everbell.domain.records import Credential, Hold, Limit, Project
from everbell.domain.run import Run


class AuditEntry(Record, frozen=True, kw_only=True):
    """``what`` happened to ``kind`` ``target``; ``before`` and ``after`` are digests of it.

    An absent state (before it was made, after it was deleted) has an empty digest.
    """

    id: int = 0
    at_us: int
    who: str
    credential_id: int = 0
    address: str = ""
    request_id: str = ""
    what: str
    kind: str
    target: str = ""
    project_id: int | None = None
    before: str = ""
    after: str = ""


def digest(thing: object) -> str:
    """Return a digest of what people decide about a thing; what the engine notes is left out."""
    if isinstance(thing, Job):
        parts: object = (thing.definition, thing.enabled)
    elif isinstance(thing, Project):
        parts = (thing.name, thing.description)
    elif isinstance(thing, Credential):
        parts = msgspec.structs.replace(thing, id=0)
    elif isinstance(thing, Limit):
        parts = (thing.name, thing.most)
    elif isinstance(thing, Hold):
        parts = (thing.scope, thing.target_id, thing.reason)
        if thing.until_us is not None:
            parts = (*parts, thing.until_us, thing.then)
    else:
        return ""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def targets_of(entry: AuditEntry, answer: object) -> list[AuditEntry]:
    """Return the entries of a change that gave this answer: one for each thing that it made."""
    first = answer[0] if isinstance(answer, tuple) and answer else answer
    things = first if isinstance(first, list) else [first]
    return [_about(entry, thing) for thing in things]


def _about(entry: AuditEntry, thing: object) -> AuditEntry:
    if isinstance(thing, Run):
        return _named(entry, thing.id, thing.project_id, "")
    if isinstance(thing, Project):
        return _named(entry, str(thing.id), thing.id, digest(thing))
    if isinstance(thing, Job | Credential):
        return _named(entry, str(thing.id), thing.project_id, digest(thing))
    if isinstance(thing, Limit):
        return _named(entry, thing.name, thing.project_id, digest(thing))
    if isinstance(thing, Hold):
        # A released hold is given back as it was.
        after = "" if entry.before else digest(thing)
        return _named(entry, str(thing.id), entry.project_id, after)
    return entry


def _named(entry: AuditEntry, target: str, project_id: int | None, after: str) -> AuditEntry:
    return msgspec.structs.replace(
        entry,
        target=entry.target or target,
        project_id=entry.project_id if entry.project_id is not None else project_id,
        after=entry.after or after,
    )

"""Requests that may be repeated: the same key does the same thing once.

The plan of a request (its fingerprint, and the ids and the instant it will use) is stored before
anything is done. A repetition follows the same plan: what exists under those ids is the answer.
So neither a crash between the two steps nor two requests at once can do the work twice.
"""

from __future__ import annotations

import hashlib

import msgspec

from everbell.domain.errors import FieldProblem, UserError, ValidationError
from everbell.services.context import Actor, Services
from everbell.services.ids import short_id, uuid7

MAX_KEY = 255


class KeyReused(ValidationError):
    """The key was used for another request."""

    code = "idempotency_key_reused"


class Asked(msgspec.Struct, frozen=True):
    """Which request this is: its route, and the key that its sender gave it, if any."""

    route: str
    key: str | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request will use. ``replayed``: an earlier request made it."""

    digest: str
    uuids: tuple[str, ...]
    slot_us: int
    trigger_id: str
    scope: str = ""
    key: str = ""
    replayed: bool = False


async def plan(services: Services, actor: Actor, asked: Asked, body: bytes, count: int = 1) -> Plan:
    """Return the plan of this request, or the one that its key has already.

    Raises UserError for an unusable key, KeyReused if the key belongs to another body.
    """
    fresh = Plan(
        digest=hashlib.sha256(body).hexdigest(),
        uuids=tuple(uuid7(services.clock, services.entropy) for _ in range(count)),
        slot_us=services.clock.now_us(),
        trigger_id=short_id(services.entropy),
    )
    key = asked.key
    if key is None:
        return fresh
    if not 0 < len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise UserError("the Idempotency-Key is unusable", hint="1 to 255 ASCII characters")
    scope = f"{actor.credential_id} {asked.route}"
    earlier = await services.store.remember(scope, key, msgspec.json.encode(fresh), fresh.slot_us)
    if earlier is None:
        return msgspec.structs.replace(fresh, scope=scope, key=key)
    found = msgspec.json.decode(earlier, type=Plan)
    if found.digest != fresh.digest:
        problem = FieldProblem("", "the body differs from the first one", code=KeyReused.code)
        raise KeyReused(
            "this Idempotency-Key was used for another request",
            hint="use a new key for every new request",
            problems=(problem,),
        )
    return msgspec.structs.replace(found, scope=scope, key=key, replayed=True)


async def answered(services: Services, found: Plan) -> bytes | None:
    """Return the answer that was recorded under a replayed plan, if there is one."""
    if not found.replayed:
        return None
    now_us = services.clock.now_us()
    return await services.store.remember(f"{found.scope} answer", found.key, b"", now_us) or None


async def record(services: Services, done: Plan, answer: bytes) -> None:
    """Keep the answer for repetitions of the request."""
    if done.key:
        now_us = services.clock.now_us()
        await services.store.remember(f"{done.scope} answer", done.key, answer, now_us)

"""API keys: made, checked, rotated, revoked. Secrets are shown once and stored as keyed hashes."""

from __future__ import annotations

import hmac

import msgspec

from everbell.domain.errors import (
    AuthenticationError,
    ConflictError,
    FieldProblem,
    NotFoundError,
    ValidationError,
)
from everbell.domain.job import US
from everbell.domain.records import SCOPES, Credential, Scope
from everbell.domain.secrets import hash_secret
from everbell.ports.store import Page
from everbell.services import projects
from everbell.services.audit import noted
from everbell.services.context import Actor, Services, as_key, missing
from everbell.services.ids import api_key, api_secret, uuid7
from everbell.services.validate import name_problems

MAX_GRACE_S = 30 * 86_400.0
_WRONG = "the API key or its secret is wrong"
_HINT = "send the headers x-api-key and x-secret-key, made by `everbell credential create`"


async def create(
    services: Services,
    actor: Actor,
    *,
    name: str = "",
    scopes: tuple[Scope, ...] = SCOPES,
    project: int | str | None = None,
    expires_us: int | None = None,
) -> tuple[Credential, str]:
    """Return a new credential and its secret, which can't be read again.

    Raises ValidationError, NotFoundError (the project). A bound actor makes bound credentials.
    """
    problems = name_problems(name) if name else ()
    if not scopes:
        problems += (FieldProblem("/scopes", "no scope", hint=f"some of {', '.join(SCOPES)}"),)
    now_us = services.clock.now_us()
    if expires_us is not None and expires_us <= now_us:
        problems += (FieldProblem("/expires_at", "lies in the past"),)
    if problems:
        raise ValidationError("the credential can't be stored", problems=problems)
    project_id = actor.project_id
    if project is not None:
        project_id = (await projects.get(services, actor, project)).id
    secret = api_secret(services.entropy)
    credential = Credential(
        id=0,
        uuid=uuid7(services.clock, services.entropy),
        name=name,
        api_key=api_key(services.entropy),
        secret_hash=hash_secret(services.secret_key, secret),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        project_id=project_id,
        created_us=now_us,
        expires_us=expires_us,
    )
    store = noted(services, actor, "credential.create")
    return await store.add_credential(credential), secret


async def authenticate(services: Services, key: str, secret: str) -> Actor:
    """Return who holds the key and its secret. Raises AuthenticationError.

    An unknown key costs the same work as a wrong secret, and answers the same.
    """
    credential = await services.store.find_credential(key) if key.isprintable() else None
    given = hash_secret(services.secret_key, secret)
    now_us = services.clock.now_us()
    current = hmac.compare_digest(given, credential.secret_hash if credential else "0" * 64)
    old = hmac.compare_digest(given, (credential.old_hash if credential else "") or "0" * 64)
    if credential is None or not (current or (old and now_us < credential.old_until_us)):
        raise AuthenticationError(_WRONG, hint=_HINT)
    _check_usable(credential, now_us)
    return Actor(
        name=credential.name or credential.api_key,
        scopes=credential.scopes,
        project_id=credential.project_id,
        credential_id=credential.id,
    )


def _check_usable(credential: Credential, now_us: int) -> None:
    if credential.archived:
        raise AuthenticationError("this API key was revoked", hint="ask an admin for a new one")
    if credential.expires_us is not None and credential.expires_us <= now_us:
        raise AuthenticationError("this API key has expired", hint="ask an admin for a new one")


async def still_good(services: Services, actor: Actor) -> None:
    """Raise AuthenticationError if the actor's key was revoked, or expired, since it came in."""
    if actor.credential_id:
        credential = await services.store.get_credential(actor.credential_id)
        _check_usable(credential, services.clock.now_us())


async def get(services: Services, actor: Actor, key: int | str) -> Credential:
    """Return a credential by id, uuid or api key. Raises NotFoundError."""
    try:
        credential = await services.store.get_credential(as_key(key))
    except NotFoundError:
        raise missing("credential", key) from None
    if actor.project_id is not None and credential.project_id != actor.project_id:
        raise missing("credential", key)
    return credential


async def list_all(services: Services, actor: Actor, page: Page) -> tuple[list[Credential], int]:
    """Return the credentials that the actor may see, and how many there are in all."""
    if actor.project_id is None:
        return await services.store.list_credentials(page)
    # The port has no filter: bound admins are rare, credentials are few.
    every, total = await services.store.list_credentials(Page(limit=1))
    every, _ = await services.store.list_credentials(Page(limit=max(total, 1)))
    own = [one for one in every if one.project_id == actor.project_id]
    return own[page.offset : page.offset + page.limit], len(own)


async def rotate(
    services: Services, actor: Actor, key: int | str, grace_s: float = 86_400.0
) -> tuple[Credential, str]:
    """Return the credential and its new secret; the old one stays good for the grace time."""
    credential = await get(services, actor, key)
    if not 0 <= grace_s <= MAX_GRACE_S:
        problem = FieldProblem("/grace", "must be 0 to 30 days", hint="seconds, such as 86400")
        raise ValidationError("the secret can't be rotated", problems=(problem,))
    if credential.archived:
        raise ConflictError("a revoked credential can't be rotated", hint="create a new one")
    secret = api_secret(services.entropy)
    changed = msgspec.structs.replace(
        credential,
        secret_hash=hash_secret(services.secret_key, secret),
        old_hash=credential.secret_hash if grace_s else "",
        old_until_us=services.clock.now_us() + int(grace_s * US) if grace_s else 0,
    )
    store = noted(services, actor, "credential.rotate", credential)
    return await store.change_credential(changed), secret


async def revoke(services: Services, actor: Actor, key: int | str) -> Credential:
    """Archive the credential: neither of its secrets opens anything from now on."""
    credential = await get(services, actor, key)
    changed = msgspec.structs.replace(credential, archived=True, old_hash="", old_until_us=0)
    return await noted(services, actor, "credential.revoke", credential).change_credential(changed)

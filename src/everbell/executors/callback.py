"""What a callback says: its body, its headers, its signature, and which answers are success."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from everbell.domain.errors import FieldProblem, RefusedError, ValidationError
from everbell.executors import surroundings
from everbell.ports.executor import Assignment

METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

OWN_HEADERS = frozenset(
    {"content-type", "idempotency-key", "user-agent"}
    | {"webhook-id", "webhook-timestamp", "webhook-signature"}
    | {"everbell-slot", "everbell-attempt", "everbell-token", "x-payload-chunk-id"}
)
"""Set on every callback; a job can't set them."""

FORBIDDEN_HEADERS = OWN_HEADERS | {
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Headers that a job can't set: ours, and those that steer the connection."""

# Many runs of one instant are told at once.
iso = lru_cache(maxsize=256)(surroundings.iso)

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_STATUS = re.compile(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


def body_of(work: Assignment) -> bytes:
    """Return the JSON body. Its shape is public: docs/reference/actions.md."""
    run = work.run
    shape: dict[str, Any] = {
        "job": {
            "id": work.job_uuid,
            "name": work.job_name,
            "project": work.project_name,
            "data": work.data,
        },
        "run": {
            "id": run.id,
            "slot": iso(run.key.slot_us),
            "attempt": run.attempt,
            "token": run.token,
            "trigger": run.trigger,
            "scheduled_at": iso(run.due_us or run.key.slot_us),
        },
    }
    return msgspec.json.encode(shape)


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return a Standard Webhooks signature (``v1``, HMAC-SHA256) over id, timestamp and body."""
    keyed = _keyed(secret).copy()
    keyed.update(f"{message_id}.{timestamp}.".encode() + body)
    return "v1," + base64.b64encode(keyed.digest()).decode()


@lru_cache(maxsize=256)
def _keyed(secret: bytes) -> hmac.HMAC:
    # Setting up the key costs more than signing a callback does.
    return hmac.new(secret, digestmod=hashlib.sha256)


def headers_of(
    work: Assignment, headers: dict[str, str], body: bytes, now_s: int
) -> dict[str, str]:
    """Return all headers of one attempt; ``now_s`` is the attempt's time, seconds since the epoch.

    ``webhook-id`` and ``idempotency-key`` stay the same over all attempts of a run.
    """
    run = work.run
    name = run.id
    if work.traceparent:
        own = {key: value for key, value in headers.items() if key.lower() != "traceparent"}
        headers = own | {"traceparent": work.traceparent}
    return headers | {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign(work.webhook_secret, name, now_s, body),
        "idempotency-key": name,
        "everbell-slot": iso(run.key.slot_us),
        "everbell-attempt": str(run.attempt),
        "everbell-token": str(run.token),
    }


def chunk_headers(
    name: str, headers: dict[str, str], secret: bytes, body: bytes, now_s: int
) -> dict[str, str]:
    """Return all headers of one chunk of a batch; ``name`` is the chunk's own.

    Slot, attempt and token belong to runs and stand in the body.
    """
    return headers | {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign(secret, name, now_s, body),
        "idempotency-key": name,
        "x-payload-chunk-id": name,
    }


def too_large(size: int, most_mb: float) -> RefusedError:
    """Return the refusal of a body of ``size`` bytes."""
    return RefusedError(
        f"the request body has {size} bytes, more than {most_mb:g} MiB",
        hint="shorten the job's data, or raise callbacks.payload_max_mb",
    )


def check_batch(method: str) -> None:
    """Raise ValidationError for a batch by a method that has no body."""
    if method not in METHODS_WITH_BODY:
        message = f"a batch can't be sent by {method}"
        hint = "use POST, PUT or PATCH: the runs of a batch are told in the body"
        problem = FieldProblem("/action/batch", message, hint=hint)
        raise ValidationError(message, hint=hint, problems=(problem,))


def check_headers(headers: dict[str, str]) -> None:
    """Raise ValidationError naming every header that a job can't set or that is malformed."""
    problems = []
    for name, value in headers.items():
        pointer = f"/action/headers/{name}"
        if not _NAME.fullmatch(name):
            problems.append(FieldProblem(pointer, f"{name!r} is no header name"))
        elif name.lower() in FORBIDDEN_HEADERS:
            hint = "Everbell sets it itself; use another name"
            problems.append(FieldProblem(pointer, f"header {name} can't be set", hint=hint))
        elif not _VALUE.fullmatch(value):
            hint = "printable ASCII only, on one line"
            problems.append(FieldProblem(pointer, f"header {name} has a bad value", hint=hint))
    if problems:
        first = problems[0]
        raise ValidationError(first.message, hint=first.hint, problems=tuple(problems))


def success_test(success: tuple[str, ...]) -> Callable[[int], bool]:
    """Return what tells success from failure. Raises ValidationError for a bad pattern."""
    spans = [_span(text) for text in success]
    if not spans:
        raise ValidationError("no status counts as success", hint='leave it out, or say ["2xx"]')
    return lambda status: any(low <= status <= high for low, high in spans)


def _span(text: str) -> tuple[int, int]:
    match = _STATUS.fullmatch(text.strip().lower())
    if match is None:
        raise _bad_status(text)
    hundred, low, high = match.groups()
    if hundred:
        return int(hundred) * 100, int(hundred) * 100 + 99
    if high and int(high) < int(low):
        raise _bad_status(text)
    return int(low), int(high or low)


def _bad_status(text: str) -> ValidationError:
    message = f"{text[:40]!r} is no status"
    hint = "write 2xx, 204 or 200-204"
    problem = FieldProblem("/action/success", message, hint=hint)
    return ValidationError(message, hint=hint, problems=(problem,))

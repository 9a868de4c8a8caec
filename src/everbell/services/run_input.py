"""What whoever asks for a run hands to it: kept with the run, as output of an attempt 0."""

from __future__ import annotations

from typing import Any

import msgspec

from everbell.domain.errors import FieldProblem, LimitError, NotFoundError, ValidationError
from everbell.domain.run import Run, RunKey
from everbell.ports.store import OutputChunk, Store

MAX_BYTES = 262_144
STREAM = "input"
RETRY_OF = "retry of "
_MAX_RETRIES = 20


async def keep(store: Store, key: RunKey, params: dict[str, Any], now_us: int) -> None:
    """Store parameters before the run is asked for. Raises ValidationError, LimitError."""
    try:
        data = msgspec.json.encode(params)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the parameters can't be stored: {error}"
        raise ValidationError(message, problems=(FieldProblem("", message),)) from None
    if len(data) > MAX_BYTES:
        hint = "hand over the name of a file or a row instead"
        raise LimitError(f"the parameters are {len(data)} bytes, at most {MAX_BYTES}", hint=hint)
    chunk = OutputChunk(key=key, attempt=0, offset=0, stream=STREAM, at_us=now_us, data=data)
    await store.append_output([chunk])


async def read(store: Store, run: Run) -> dict[str, Any]:
    """Return the parameters of a run; those of a retry are the ones of the run that it retries."""
    key, reason = run.key, run.reason
    for _ in range(_MAX_RETRIES):
        chunks = await store.read_output(key, 0, 0, MAX_BYTES)
        if chunks:
            found: dict[str, Any] = msgspec.json.decode(b"".join(one.data for one in chunks))
            return found
        if not reason.startswith(RETRY_OF):
            return {}
        try:
            key = RunKey.parse(reason.removeprefix(RETRY_OF))
            reason = (await store.get_run(key)).reason
        except NotFoundError:
            return {}
    return {}

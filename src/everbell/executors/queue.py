"""The ``queue`` action: a message for other people's programs, on the queue of its driver."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from everbell.config.schema import Settings
from everbell.domain.errors import Bug, FieldProblem, RefusedError, ValidationError
from everbell.domain.job import Action, QueueAction
from everbell.domain.run import Outcome
from everbell.executors.callback import iso
from everbell.executors.claim import NOT_SENT
from everbell.executors.http_bounds import Bounds
from everbell.ports.clock import Clock
from everbell.ports.executor import UNSURE_S, Assignment, OutputSink
from everbell.ports.queue import Message, MessageQueues

MOST = 1000
"""Messages sent at once; what comes meanwhile goes with the next ones."""
QUIET_S = 0.05
"""A run whose message is stored within this time has no output: a row less for each."""


class _Pending:
    """One message, and where its fate is awaited."""

    __slots__ = ("fate", "holds", "message", "sent", "sink")

    def __init__(self, message: Message, holds: Callable[[], bool], sink: OutputSink) -> None:
        self.message = message
        self.holds = holds
        self.sink = sink
        self.sent = False
        self.fate: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class QueueExecutor:
    """Puts messages on queues, all that wait in one turn of the loop together.

    Implements ``ports.executor.Executor``. ``queues`` None = no server is configured.
    """

    def __init__(self, settings: Settings, clock: Clock, queues: MessageQueues | None) -> None:
        self._clock = clock
        self._settings = settings.queues
        self._salt = settings.crypto.salt.encode()
        self._most_mb = settings.callbacks.payload_max_mb
        self._queues = queues
        self._waiting: dict[_Pending, None] = {}
        self._sender: asyncio.Task[None] | None = None

    def check(self, action: Action) -> None:
        """Raise ValidationError for a driver that is not listed."""
        if not isinstance(action, QueueAction):
            raise Bug(f"a queue executor was given {type(action).__name__}")
        known = self._settings.drivers
        if action.driver in known:
            return
        close = difflib.get_close_matches(action.driver, known, n=3)
        hint = f"add it to `queues.drivers` (also `drivers`); known: {', '.join(known) or 'none'}"
        if close:
            hint = f"did you mean {' or '.join(close)}? Else {hint}"
        message = f"driver {action.driver[:80]!r} is not listed in `queues.drivers`"
        problem = FieldProblem("/action/driver", message, hint=hint)
        raise ValidationError(message, hint=hint, problems=(problem,))

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt. Raises RefusedError for what can't be sent from here."""
        message = self._message(work)
        if cancel.is_set():
            return Outcome(state="cancelled", error=NOT_SENT)
        pending = _Pending(message, work.holds, sink)
        self._waiting[pending] = None
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
        bounds = Bounds(cancel, work.timeout_s)
        try:
            trouble = await bounds.keep(pending.fate)
        finally:
            self._waiting.pop(pending, None)
        if trouble is None:
            told = "it may be stored all the same" if pending.sent else "it was not sent"
            if bounds.late:
                late = f"no answer from the queue within {work.timeout_s:g} s; {told}"
                return Outcome(state="timed_out", error=late)
            return Outcome(state="cancelled", error=f"cancelled; {told}")
        if trouble:
            return Outcome(state="failed", error=trouble)
        return Outcome(state="succeeded")

    async def close(self) -> None:
        """Give up what waits; it ends as a failure. May be called twice."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.wait({sender})
        waiting, self._waiting = list(self._waiting), {}
        for pending in waiting:
            _end(pending, "the node stops; the message was not sent")
        if self._queues is not None:
            await self._queues.close()

    def _message(self, work: Assignment) -> Message:
        action = work.action
        try:
            self.check(action)
        except ValidationError as error:
            raise RefusedError(error.message, hint=error.hint) from None
        assert isinstance(action, QueueAction)
        if self._queues is None:
            message = "no queue server is configured: `redis.addr` is empty"
            raise RefusedError(message, hint="set redis.addr, as in 127.0.0.1:6379")
        body = body_of(work, action, self._salt)
        if len(body) > self._most_mb * 1024 * 1024:
            message = f"the message has {len(body)} bytes, more than {self._most_mb:g} MiB"
            hint = "shorten the job's data, or raise callbacks.payload_max_mb"
            raise RefusedError(message, hint=hint)
        most = action.max_length
        return Message(
            key=self._settings.key.replace("{driver}", action.driver),
            kind=self._settings.kind,
            id=work.run.id,
            body=body,
            max_length=self._settings.max_length if most is None else most,
        )

    async def _send(self) -> None:
        sending: list[_Pending] = []
        assert self._queues is not None
        try:
            while self._waiting:
                with _telling_if_slow(list(self._waiting)):
                    trouble = await self._queues.reach()
                sending = list(islice((one for one in self._waiting if one.holds()), MOST))
                if not sending:
                    await self._clock.sleep(UNSURE_S)
                    continue
                for pending in sending:
                    del self._waiting[pending]
                    pending.sent = not trouble
                fates: Sequence[str] = [trouble] * len(sending)
                if not trouble:
                    with _telling_if_slow(sending):
                        fates = await self._queues.put([pending.message for pending in sending])
                for pending, fate in zip(sending, fates, strict=True):
                    _end(pending, fate)
        finally:
            self._sender = None
            for pending in sending:
                _end(pending, "the node stops; the message may be stored all the same")


@contextlib.contextmanager
def _telling_if_slow(waiting: list[_Pending]) -> Iterator[None]:
    slow = asyncio.get_running_loop().call_later(QUIET_S, _tell_slow, waiting)
    try:
        yield
    finally:
        slow.cancel()


def _tell_slow(sending: list[_Pending]) -> None:
    for pending in sending:
        if not pending.fate.done():
            message = pending.message
            pending.sink.write("out", f"waiting for the {message.kind} {message.key}\n".encode())


def _end(pending: _Pending, trouble: str) -> None:
    if not pending.fate.done():
        pending.fate.set_result(trouble)


def body_of(work: Assignment, action: QueueAction, salt: bytes) -> bytes:
    """Return the message. Its shape is public: docs/reference/actions.md."""
    run = work.run
    shape: dict[str, Any] = {
        "id": run.id,
        "job": {
            "id": run.key.job_id,
            "uuid": work.job_uuid,
            "name": work.job_name,
            "project": work.project_name,
        },
        "slot": iso(run.key.slot_us),
        "scheduled_at": iso(run.due_us or run.key.slot_us),
        "attempt": run.attempt,
        "token": run.token,
        "trigger": run.trigger,
        "data": work.data if action.data is None else action.data,
    }
    if salt:
        shape["artifact"] = hmac.digest(salt, run.id.encode(), hashlib.sha256).hex()
    if work.traceparent:
        shape["traceparent"] = work.traceparent
    return msgspec.json.encode(shape)

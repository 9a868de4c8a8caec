"""The contract that every executor keeps; subclass ``ExecutorContract`` and give a ``rig``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from everbell.domain.errors import RefusedError, ValidationError
from everbell.domain.job import Action
from everbell.domain.run import Outcome, Run, RunKey
from everbell.ports.executor import Assignment, Executor, always

SECRET = b"everbell-contract-secret-24b"
SLOT_US = 1_763_712_000_000_000


class ListSink:
    """Keeps everything; ``seen`` waits until a text came."""

    def __init__(self) -> None:
        self.chunks: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()

    def write(self, stream: str, data: bytes) -> None:
        self.chunks.append((stream, data))
        self._news.set()

    def text(self, stream: str = "out") -> str:
        return b"".join(data for name, data in self.chunks if name == stream).decode()

    async def seen(self, wanted: str, stream: str = "out") -> None:
        async with asyncio.timeout(10):
            while wanted not in self.text(stream):
                self._news.clear()
                await self._news.wait()


class Claim:
    """Is sure or not; counts how often it is asked, and in which threads."""

    def __init__(self) -> None:
        self.sure = False
        self.asked = 0
        self.threads: set[int] = set()

    def __call__(self) -> bool:
        self.asked += 1
        self.threads.add(threading.get_ident())
        return self.sure


def assignment(
    action: Action,
    *,
    data: Any = None,
    timeout_s: float = 10.0,
    holds: Callable[[], bool] = always,
    **run: Any,
) -> Assignment:
    """Return work for one attempt; ``run`` overrides fields of the run."""
    fields: dict[str, Any] = {
        "key": RunKey(SLOT_US, 17),
        "project_id": 1,
        "version": 1,
        "state": "claimed",
        "attempt": 2,
        "token": 42,
        "due_us": SLOT_US,
    }
    return Assignment(
        run=Run(**(fields | run)),
        job_uuid="01939f7e-0000-7000-8000-000000000017",
        job_name="backup",
        project_uuid="01939f7e-0000-7000-8000-000000000001",
        project_name="ops",
        action=action,
        data=data,
        timeout_s=timeout_s,
        webhook_secret=SECRET,
        holds=holds,
    )


class Rig(Protocol):
    """An executor with actions of each temper, and what its target was told."""

    executor: Executor
    good: Action
    bad: Action
    """Fails in a way that a retry may mend."""
    hanging: Action
    """Writes or answers ``ready``, then never ends by itself."""
    impossible: Action
    """Can never work here."""

    def told(self, sink: ListSink) -> dict[str, str]:
        """Return what ``good`` was handed: id, slot, attempt, token."""
        ...


def open_descriptors() -> set[str]:
    """Return the open descriptors of this process as ``number target``."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            continue
    return found


class ExecutorContract:
    """One test per obligation in ``ports.executor``."""

    async def test_success_is_an_outcome(self, rig: Rig) -> None:
        outcome = await rig.executor.run(assignment(rig.good), asyncio.Event(), ListSink())
        assert outcome.state == "succeeded", outcome

    async def test_failure_is_an_outcome_with_words(self, rig: Rig) -> None:
        outcome = await rig.executor.run(assignment(rig.bad), asyncio.Event(), ListSink())
        assert outcome.state == "failed"
        assert outcome.retryable
        assert outcome.error
        assert "Traceback" not in outcome.error

    async def test_the_target_is_told_id_slot_attempt_and_token(self, rig: Rig) -> None:
        sink = ListSink()
        await rig.executor.run(assignment(rig.good), asyncio.Event(), sink)
        assert rig.told(sink) == {
            "id": f"17-{SLOT_US}",
            "slot": "2025-11-21T08:00:00Z",
            "attempt": "2",
            "token": "42",
        }

    async def test_output_is_live(self, rig: Rig) -> None:
        cancel, sink = asyncio.Event(), ListSink()
        running = asyncio.ensure_future(rig.executor.run(assignment(rig.hanging), cancel, sink))
        await sink.seen("ready")
        assert not running.done()
        cancel.set()
        await running

    async def test_timeout(self, rig: Rig) -> None:
        work = assignment(rig.hanging, timeout_s=0.15)
        outcome = await asyncio.wait_for(rig.executor.run(work, asyncio.Event(), ListSink()), 5)
        assert outcome.state == "timed_out"
        assert "0.15 s" in outcome.error

    async def test_cancel(self, rig: Rig) -> None:
        cancel, sink = asyncio.Event(), ListSink()
        running = asyncio.ensure_future(rig.executor.run(assignment(rig.hanging), cancel, sink))
        await sink.seen("ready")
        cancel.set()
        outcome = await asyncio.wait_for(running, 5)
        assert outcome.state == "cancelled"

    async def test_cancelled_before_the_start(self, rig: Rig) -> None:
        cancel, sink = asyncio.Event(), ListSink()
        cancel.set()
        outcome = await rig.executor.run(assignment(rig.good), cancel, sink)
        assert outcome.state == "cancelled"
        assert sink.chunks == []

    async def test_cancellation_of_the_task_passes(self, rig: Rig) -> None:
        sink = ListSink()
        work = assignment(rig.hanging)
        running = asyncio.ensure_future(rig.executor.run(work, asyncio.Event(), sink))
        await sink.seen("ready")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)

    async def test_no_descriptor_is_left(self, rig: Rig) -> None:
        await rig.executor.run(assignment(rig.good), asyncio.Event(), ListSink())
        await rig.executor.close()
        before = open_descriptors()
        for action, timeout_s in ((rig.good, 5.0), (rig.bad, 5.0), (rig.hanging, 0.05)):
            work = assignment(action, timeout_s=timeout_s)
            await rig.executor.run(work, asyncio.Event(), ListSink())
        await rig.executor.close()
        await settled(lambda: len(open_descriptors()) <= len(before))

    async def test_check(self, rig: Rig) -> None:
        rig.executor.check(rig.good)
        with pytest.raises((RefusedError, ValidationError)) as caught:
            rig.executor.check(rig.impossible)
        assert caught.value.hint

    async def test_what_can_never_work_is_not_retried(self, rig: Rig) -> None:
        refused: RefusedError | None = None
        outcome: Outcome | None = None
        try:
            work = assignment(rig.impossible)
            outcome = await rig.executor.run(work, asyncio.Event(), ListSink())
        except RefusedError as error:
            refused = error
        if outcome is None:
            assert refused is not None
            assert refused.message
        else:
            assert outcome.state == "failed"
            assert not outcome.retryable
            assert outcome.error

    async def test_close_twice(self, rig: Rig) -> None:
        await rig.executor.close()
        await rig.executor.close()


async def settled(condition: Callable[[], bool], within_s: float = 3.0) -> None:
    """Wait until the condition holds; fail the test if it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)

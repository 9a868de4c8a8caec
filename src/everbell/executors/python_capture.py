"""What a function prints and logs goes to the output of its run, whatever thread it runs in."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, TextIO

from everbell.executors.output import BoundedSink
from everbell.ports.executor import OutputSink

CAPTURE: ContextVar[Capture | None] = ContextVar("everbell_capture", default=None)

_LINE = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class Capture:
    """Takes the output of one run from any thread; the sink itself is only used on the loop.

    Other threads write into a bounded buffer, which the loop empties: a thread that writes faster
    than the loop can store loses the middle of its output, never memory.
    """

    __slots__ = ("_buffer", "_home", "_limit", "_lock", "_loop", "_over", "_scheduled", "_sink")

    def __init__(self, sink: OutputSink, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._sink = sink
        self._loop = loop
        self._home = threading.get_ident()
        self._limit = limit
        self._lock: threading.Lock | None = None
        self._buffer: BoundedSink | None = None
        self._scheduled = False
        self._over = False

    def share(self) -> None:
        """Prepare for writes of other threads."""
        self._lock = threading.Lock()
        self._buffer = BoundedSink(self._limit)

    def write(self, stream: str, text: str) -> None:
        """Take text; after the run has ended it is dropped."""
        data = text.encode("utf-8", "replace")
        if threading.get_ident() == self._home:
            if not self._over:
                self._sink.write(stream, data)
            return
        if self._lock is None or self._buffer is None:
            # A thread of an async function (asyncio.to_thread): hand each piece to the loop.
            self._later(self._sink_write, stream, data)
            return
        with self._lock:
            self._buffer.write(stream, data)
            if self._scheduled:
                return
            self._scheduled = True
        self._later(self._drain)

    def close(self) -> None:
        """Hand over the last pieces; what is written later is dropped. On the loop's thread."""
        if self._lock is not None and self._buffer is not None:
            with self._lock:
                pieces = self._buffer.finish()
            self._pass_on(pieces)
        self._over = True

    def _later(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            self._over = True  # the loop is closed: nobody is left to store it

    def _sink_write(self, stream: str, data: bytes) -> None:
        if not self._over:
            self._sink.write(stream, data)

    def _drain(self) -> None:
        assert self._lock is not None
        assert self._buffer is not None
        with self._lock:
            self._scheduled = False
            pieces = self._buffer.drain()
        self._pass_on(pieces)

    def _pass_on(self, pieces: list[tuple[str, bytes]]) -> None:
        if not self._over:
            for stream, data in pieces:
                self._sink.write(stream, data)


class _Tee:
    """Stands for ``sys.stdout`` or ``sys.stderr``: code inside a run writes to its output."""

    def __init__(self, stream: str, real: TextIO) -> None:
        self._stream = stream
        self.real = real

    def write(self, text: str, /) -> int:
        """Write to the run's output, or to the real stream outside of runs."""
        capture = CAPTURE.get()
        if capture is None or _from_logging():
            return self.real.write(text)
        capture.write(self._stream, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Be the real stream in all else."""
        return getattr(self.real, name)


def _from_logging() -> bool:
    """Whether a logging handler writes: what is logged is captured as a record already."""
    frame = sys._getframe(2)  # noqa: SLF001  (the one cheap way to know the writer)
    return frame.f_code.co_filename == logging.__file__


class Hooks:
    """Puts the capture in place of the process's streams and record factory, and takes it away.

    Nested use counts; records are seen when they are made, so that a program's own logging set-up
    is neither needed nor disturbed.
    """

    def __init__(self) -> None:
        self._users = 0
        self._undo: list[Callable[[], None]] = []
        # Never freed: a thread inside of print() holds no reference to the stream that it writes
        # to (CPython issue 130163), and may be there while the stream is taken away.
        self._kept: list[_Tee] = []

    def install(self) -> None:
        """Begin to capture."""
        self._users += 1
        if self._users > 1:
            return
        for name, stream in (("stdout", "out"), ("stderr", "err")):
            real = getattr(sys, name)
            if real is not None:
                tee = _Tee(stream, real)
                self._kept.append(tee)
                setattr(sys, name, tee)
                self._undo.append(partial(_restore, name, tee))
        before = logging.getLogRecordFactory()

        def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            capture = CAPTURE.get()
            # logging.makeLogRecord (a formatter's copy) begins with an empty one: not an event.
            if capture is not None and args[:1] != (None,):
                capture.write("err", _line(record))
            return record

        logging.setLogRecordFactory(factory)

        def undo() -> None:
            if logging.getLogRecordFactory() is factory:
                logging.setLogRecordFactory(before)

        self._undo.append(undo)

    def remove(self) -> None:
        """End it, if this was the last user."""
        self._users -= 1
        if self._users == 0:
            for undo in self._undo:
                undo()
            self._undo.clear()


HOOKS = Hooks()
"""The process's streams are one thing; so is this."""


def _restore(name: str, tee: _Tee) -> None:
    # Somebody may have replaced it in between (a test runner): theirs stays.
    if getattr(sys, name) is tee:
        setattr(sys, name, tee.real)


def _line(record: logging.LogRecord) -> str:
    try:
        return _LINE.format(record) + "\n"
    except (TypeError, ValueError, KeyError) as error:
        return f"{record.levelname} {record.name}: {record.msg!r} (bad arguments: {error})\n"

"""One child process group: started, read, bounded in time, and ended as a whole.

``subprocess.Popen`` is used with descriptors on the event loop instead of asyncio's own process
transport, for two promises: the leader is not reaped before its group was killed (its number
can't be taken by a stranger in between), and no thread or signal handler is needed per child.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import IO, Any, Literal

from everbell.domain.errors import RefusedError
from everbell.domain.job import Record
from everbell.domain.run import Outcome
from everbell.executors.claim import NOT_STARTED
from everbell.ports.executor import OutputSink

READ_SIZE = 64 * 1024
DRAIN_GRACE_S = 0.5
"""Seconds to wait for the end of the output once the whole group is dead. Only a process that
left the group (a daemon with its own session) and kept our pipe open makes us wait this long."""

FIRST_ERRORS = 4096
"""Bytes of standard error looked at for the wrapper's own words; longer than any path."""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC})
"""What this machine lacks for the moment: the next attempt may find it."""

Ended = Literal["exited", "timed_out", "cancelled"]


class Spawn(Record, frozen=True):
    """What to start. ``program`` is the resolved file; ``user`` a (uid, gid, groups) or None."""

    argv: tuple[str, ...]
    program: str
    env: dict[str, str]
    cwd: str | None
    user: tuple[int, int, tuple[int, ...]] | None
    stdin: bytes | None


class ChildGroup:
    """A running child that leads its own session and process group."""

    def __init__(self, spawn: Spawn, sink: OutputSink) -> None:
        """Start it. Raises OSError as the kernel does."""
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        self._open: dict[int, IO[bytes]] = {}
        self._output_ended = asyncio.Event()
        self.exited = asyncio.Event()
        self.first_errors = b""
        self._popen = _popen(spawn, death_signal_prefix())
        for stream, pipe in (("out", self._popen.stdout), ("err", self._popen.stderr)):
            assert pipe is not None
            self._watch(stream, pipe)
        self._watch_exit()

    @property
    def pid(self) -> int:
        """The leader's process id, also the group's."""
        return self._popen.pid

    def signal_group(self, number: int) -> None:
        """Signal every member. The unreaped leader keeps the group's number ours."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def stop(self, grace_s: float) -> None:
        """TERM the group, wait for the leader, then KILL what is left."""
        self.signal_group(signal.SIGTERM)
        # A stopped (SIGSTOP, SIGTTIN) member could not act on the TERM otherwise.
        self.signal_group(signal.SIGCONT)
        await _wait(self.exited, grace_s)
        self.signal_group(signal.SIGKILL)
        await self.exited.wait()

    async def collect(self) -> int:
        """After the exit: kill left-over members, read the last output, reap. Return the code."""
        self.signal_group(signal.SIGKILL)
        code = self._popen.wait()
        await _wait(self._output_ended, DRAIN_GRACE_S)
        self.release()
        return code

    def release(self) -> None:
        """Close every descriptor that is still open."""
        for fd in list(self._open):
            self._close(fd)
        if not self.exited.is_set():
            self._forget_exit()

    def _watch(self, stream: str, pipe: IO[bytes]) -> None:
        fd = pipe.fileno()
        os.set_blocking(fd, False)
        self._open[fd] = pipe
        self._loop.add_reader(fd, self._read, fd, stream)

    def _read(self, fd: int, stream: str) -> None:
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(fd)
            return
        if stream == "err" and len(self.first_errors) < FIRST_ERRORS:
            self.first_errors += data[:FIRST_ERRORS]
        self._sink.write(stream, data)

    def _close(self, fd: int) -> None:
        pipe = self._open.pop(fd)
        self._loop.remove_reader(fd)
        pipe.close()
        if not self._open:
            self._output_ended.set()

    def _watch_exit(self) -> None:
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self.pid)
        if self._pidfd >= 0:
            self._loop.add_reader(self._pidfd, self._on_exit)
        else:  # not Linux: a thread waits without reaping
            self._loop.run_in_executor(None, _wait_unreaped, self.pid, self._on_exit_threaded)

    def _on_exit(self) -> None:
        self._forget_exit()
        self.exited.set()

    def _on_exit_threaded(self) -> None:
        self._loop.call_soon_threadsafe(self.exited.set)

    def _forget_exit(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _wait_unreaped(pid: int, then: Callable[[], None]) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    then()


@lru_cache(maxsize=1)
def death_signal_prefix() -> tuple[str, ...]:
    """Return the wrapper that makes the kernel kill the child when this node dies.

    Measured (2 cores): the wrapper costs 0.8 ms more in the child and nothing on the event loop;
    ``preexec_fn`` with prctl blocks the loop for 1.3 ms, 9 ms once the node holds 200 MB, and is
    unsafe next to threads. Where util-linux is missing (or BusyBox stands in for it, which lacks
    the option) the child runs unwrapped. Probed once.
    """
    program = shutil.which("setpriv")
    if program is None:
        return ()
    prefix = (program, "--pdeathsig", "KILL", "--")
    probe = subprocess.run(
        (*prefix, program, "--version"), capture_output=True, check=False, timeout=5
    )
    return prefix if probe.returncode == 0 else ()


def _popen(spawn: Spawn, prefix: tuple[str, ...]) -> subprocess.Popen[bytes]:
    uid, gid, groups = spawn.user or (None, None, None)
    argv = (*prefix, spawn.program, *spawn.argv[1:]) if prefix else spawn.argv
    with contextlib.ExitStack() as stack:
        stdin: int | IO[bytes] = subprocess.DEVNULL
        if spawn.stdin is not None:
            # A file, not a pipe: a target that never reads can't block or fail anything.
            stdin = stack.enter_context(tempfile.TemporaryFile())
            stdin.write(spawn.stdin)
            stdin.seek(0)
        return subprocess.Popen(
            argv,
            executable=None if prefix else spawn.program,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=spawn.env,
            cwd=spawn.cwd,
            user=uid,
            group=gid,
            extra_groups=groups,
            start_new_session=True,
            close_fds=True,
            bufsize=0,
        )


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def run_group(
    spawn: Spawn, sink: OutputSink, cancel: asyncio.Event, *, timeout_s: float, grace_s: float
) -> Outcome:
    """Run one child to its end and say how it ended. Leaves no member of its group behind."""
    if cancel.is_set():
        return Outcome(state="cancelled", error=NOT_STARTED)
    try:
        group = ChildGroup(spawn, sink)
    except (OSError, ValueError) as error:
        short = isinstance(error, OSError) and error.errno in _SHORTAGES
        return Outcome(state="failed", error=_start_problem(spawn, error), retryable=short)
    try:
        ended = await _first(group.exited, cancel, timeout_s)
        if ended != "exited":
            await group.stop(grace_s)
        code = await group.collect()
    except BaseException:  # a cancellation, or a bug: either way nothing may stay behind
        await _despite_cancel(_end(group, grace_s), group)
        raise
    return _outcome(ended, code, timeout_s, _exec_failure(spawn, group, code))


async def _end(group: ChildGroup, grace_s: float) -> None:
    if not group.exited.is_set():
        await group.stop(grace_s)
    await group.collect()


async def _despite_cancel(work: Coroutine[Any, Any, None], group: ChildGroup) -> None:
    """Finish ``work``; a second cancellation ends the grace."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            group.signal_group(signal.SIGKILL)


async def _first(exited: asyncio.Event, cancel: asyncio.Event, timeout_s: float) -> Ended:
    waits = [asyncio.ensure_future(exited.wait()), asyncio.ensure_future(cancel.wait())]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if exited.is_set():
        return "exited"
    return "cancelled" if cancel.is_set() else "timed_out"


def _outcome(ended: Ended, code: int, timeout_s: float, exec_failure: str) -> Outcome:
    if ended == "timed_out":
        error = f"still running after {timeout_s:g} s, stopped"
        return Outcome(state="timed_out", code=_exit_code(code), error=error)
    if ended == "cancelled":
        return Outcome(state="cancelled", code=_exit_code(code), error="cancelled, stopped")
    if exec_failure:
        return Outcome(state="failed", error=exec_failure, retryable=False)
    if code == 0:
        return Outcome(state="succeeded", code=0)
    if code < 0:
        return Outcome(state="failed", error=f"killed by {_signal_name(-code)}")
    return Outcome(state="failed", code=code, error=f"exit code {code}")


def _exit_code(code: int) -> int | None:
    return code if code >= 0 else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _exec_failure(spawn: Spawn, group: ChildGroup, code: int) -> str:
    """Recognise the wrapper's own failure to start the program (wrong format, bad ``#!`` line)."""
    text = group.first_errors.decode(errors="replace")
    if code not in {126, 127} or not text.startswith("setpriv: failed to execute"):
        return ""
    reason = text.splitlines()[0].rpartition(": ")[2]
    return f"{spawn.argv[0]} can't be started: {reason.lower()}"


def _start_problem(spawn: Spawn, error: OSError | ValueError) -> str:
    reason = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
    return f"{spawn.argv[0]} can't be started: {reason.lower()}"


def find_program(name: str, path: str, cwd: str | None) -> str:
    """Return the file that ``name`` starts: by ``path``, or relative to ``cwd``.

    Raises RefusedError if it is missing or may not be executed.
    """
    if os.sep not in name:
        found = shutil.which(name, path=path)
        if found is None:
            raise RefusedError(
                f"no program {name!r} on this node", hint="install it, or give its full path"
            )
        full = os.path.abspath(found)  # noqa: PTH100 - a Path would resolve nothing more
        _check_format(full)
        return full
    full = os.path.abspath(os.path.join(cwd or os.curdir, name))  # noqa: PTH100, PTH118
    if os.path.isdir(full):  # noqa: PTH112
        raise RefusedError(f"{full} is a directory, no program", hint="name the program in it")
    if not os.path.isfile(full):  # noqa: PTH113
        raise RefusedError(f"no program {full} on this node", hint="install it, or mend the path")
    if not os.access(full, os.X_OK):
        raise RefusedError(f"{full} is not executable", hint=f"chmod +x {full}")
    _check_format(full)
    return full


def _check_format(program: str) -> None:
    """Refuse a text without ``#!``: the wrapper, like every shell, would give it to ``sh``.

    Raises RefusedError. A file that may be started but not read passes unseen.
    """
    if not death_signal_prefix():
        return  # the kernel itself refuses it
    try:
        with open(program, "rb") as file:  # noqa: PTH123 - five bytes of a path already checked
            start = file.read(5)
    except OSError:
        return
    if not start.startswith((b"#!", b"\x7fELF\x01", b"\x7fELF\x02")):
        raise RefusedError(
            f"{program} can't be started: it is no program of this system and has no #! line",
            hint="begin it with a line like #!/bin/sh, or name its interpreter first",
        )

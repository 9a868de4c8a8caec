"""Signals of the operating system that concern a node."""

from __future__ import annotations

import asyncio
import os
import signal

from everbell.telemetry.logs import reopen_files


def catch_signals(stop: asyncio.Event, *, log_file: bool) -> None:
    """Set ``stop`` on TERM and INT; on HUP too, or open the log's file again if there is one."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        return  # under nohup
    if log_file and not _has_terminal():
        loop.add_signal_handler(signal.SIGHUP, reopen_files)
    else:
        # The terminal was closed: what runs is to end as well as by any other signal.
        loop.add_signal_handler(signal.SIGHUP, stop.set)


def _has_terminal() -> bool:
    """Return whether a terminal controls this process, so that SIGHUP tells of its end."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True

"""Ports of loopback for servers of tests, also of tests that run side by side."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _BLOCK, _BLOCKS = 10_001, 99, 220  # no round numbers: they mean something else in texts
_next = itertools.count()


def free_port() -> int:
    """Return a port that nobody listens on, and that this process has not given lately.

    Each process has a block of its own below the range from which systems take ports for outgoing
    connections (Linux from 32768, others from 49152): what is free now is still free when the
    server starts.
    """
    first = _FIRST + os.getpid() % _BLOCKS * (_BLOCK + 1)
    for _ in range(_BLOCK):
        port = first + next(_next) % _BLOCK
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free from {first} to {first + _BLOCK - 1}")

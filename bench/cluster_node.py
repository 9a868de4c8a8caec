"""One node of a cluster under measurement: a process that calls Python functions and notes starts.

Its standard input takes a word a line, and it answers each with a line of JSON: ``count`` (starts
so far), ``starts`` (all of them), ``flush`` (the instant at which all ends were durable). The end
of its input stops it in good order. ``--log FILE`` appends each start to a file at once, so that a
killed node has told it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from typing import Any

import uvloop

from everbell import Context, Everbell
from everbell.bootstrap import SWITCH_S, calm_collector
from everbell.ports.functions import describe

APP = "bench"


class Noted:
    """What this node started."""

    def __init__(self, log: str) -> None:
        self.plain: list[int] = []
        self.slots: list[tuple[int, int, str]] = []
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if log else -1

    async def noop(self) -> None:
        """Be a job: a storm's body."""
        self.plain.append(time.time_ns() // 1000)

    async def told(self, context: Context, seconds: float = 0) -> None:
        """Be a job that knows its slot, and perhaps takes a while."""
        at_us = time.time_ns() // 1000
        slot_us = round(context.slot.timestamp() * 1e6)
        self.slots.append((at_us, slot_us, context.job))
        if self._log >= 0:
            line = f"{at_us} {slot_us} {context.attempt} {os.getpid()} {context.job}\n"
            os.write(self._log, line.encode())
        if seconds:
            await asyncio.sleep(seconds)

    def count(self) -> int:
        """Return the number of starts."""
        return len(self.plain) + len(self.slots)


def _register(app: Everbell, noted: Noted) -> None:
    for name in ("noop", "told"):
        function = describe(f"bench:{name}", getattr(noted, name))
        app.functions.add(APP, function)


async def _answer(app: Everbell, noted: Noted, word: str) -> Any:
    assert app.node is not None
    engine = app.node.engine
    if word == "count":
        return noted.count()
    if word == "starts":
        return noted.slots or noted.plain
    if word == "flush":
        await engine.execution.drained()
        await engine.finisher.flush()
        return time.time_ns() // 1000
    return app.failure


async def main(given: argparse.Namespace) -> None:
    """Run the node until the input ends."""
    loop = asyncio.get_running_loop()
    noted = Noted(given.log)
    settings = {
        "database.url": given.url,
        "node.name": given.name,
        "engine.max_queue": given.queue,
        **json.loads(given.settings),
    }
    app = Everbell(APP, settings=settings, retire=False)
    _register(app, noted)
    reader = asyncio.StreamReader(limit=1 << 16)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with app.running():
        gc.freeze()
        print(json.dumps("ready"), flush=True)
        while line := await reader.readline():
            answer = await _answer(app, noted, line.decode().strip())
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("name")
    parser.add_argument("--log", default="")
    parser.add_argument("--queue", type=int, default=20_000)
    parser.add_argument("--settings", default="{}")
    sys.setswitchinterval(SWITCH_S)
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args()))

"""Following a run: its output as it is written, then its verdict."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from everbell.cli.base import (
    EXIT_OK,
    EXIT_PENDING,
    EXIT_RUN_FAILED,
    ApiError,
    Unreachable,
    say,
)
from everbell.cli.client import ApiClient, seg
from everbell.cli.output import for_terminal
from everbell.cli.words import what_it_waits_for
from everbell.telemetry.clock import SystemClock


def follow_run(client: ApiClient, run_id: str, timeout: float | None = None) -> int:
    """Print output as it comes (stdout and stderr apart) and return the verdict's exit code.

    A run that is still at work after ``timeout`` seconds gives EXIT_PENDING.
    """
    clock = SystemClock()
    end_at = clock.monotonic() + (timeout or 0.0)
    left = None if timeout is None else lambda: end_at - clock.monotonic()
    shown = _Shown()
    found = client.call("GET", f"/runs/{seg(run_id)}")["data"]
    if why := what_it_waits_for(client, found):
        say(f"run {run_id} waits: {why}")
    try:
        for name, raw in client.events(f"/runs/{seg(run_id)}/output", {"follow": 1}, left):
            if name == "output":
                shown.add(json.loads(raw))
            elif name == "end":
                shown.end_line()
                return verdict(json.loads(raw))
            elif name == "error":
                raise ApiError(503, json.loads(raw))
    except TimeoutError:
        shown.end_line()
        say(f"run {run_id} is still at work")
        return EXIT_PENDING
    raise Unreachable("the stream ended before the run did", hint="try again: nothing is lost")


class _Shown:
    """What was printed so far: words of ours never continue a line of the run's."""

    def __init__(self) -> None:
        self._attempt: int | None = None
        self._open = False

    def add(self, data: dict[str, Any]) -> None:
        """Print a piece of output; tell where another attempt begins."""
        now = int(data.get("attempt") or 1)
        if self._attempt is not None and now != self._attempt:
            self.end_line()
            say(f"attempt {now}")
        self._attempt = now
        text = str(data.get("text", ""))
        err = data.get("stream") == "stderr"
        on_terminal = (sys.stderr if err else sys.stdout).isatty()
        click.echo(for_terminal(text) if on_terminal else text, nl=False, err=err)
        self._open = not text.endswith("\n") if text else self._open

    def end_line(self) -> None:
        """End a line that the run left open, on stderr: stdout keeps the run's bytes."""
        if self._open:
            say("")
            self._open = False


def verdict(run: dict[str, Any]) -> int:
    """Tell how a run ended and return the exit code: 0 if it succeeded, else 3."""
    state = run.get("state")
    why = run.get("error") or (run.get("reason") if state != "succeeded" else "")
    telling = state != "succeeded" and run.get("code") not in {None, 0}
    code = f" (code {run['code']})" if telling else ""
    say(f"run {run.get('id')} {state}{code}" + (f": {why}" if why else ""))
    return EXIT_OK if state == "succeeded" else EXIT_RUN_FAILED

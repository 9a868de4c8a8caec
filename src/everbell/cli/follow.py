"""Following a run: its output as it is written, then its verdict."""

from __future__ import annotations

import json
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
from everbell.telemetry.clock import SystemClock


def follow_run(client: ApiClient, run_id: str, timeout: float | None = None) -> int:
    """Print output as it comes (stdout and stderr apart) and return the verdict's exit code.

    A run that is still at work after ``timeout`` seconds gives EXIT_PENDING.
    """
    clock = SystemClock()
    end_at = clock.monotonic() + (timeout or 0.0)
    left = None if timeout is None else lambda: end_at - clock.monotonic()
    attempt = None
    try:
        for name, raw in client.events(f"/runs/{seg(run_id)}/output", {"follow": 1}, left):
            if name == "output":
                attempt = _print_output(json.loads(raw), attempt)
            elif name == "end":
                return verdict(json.loads(raw))
            elif name == "error":
                raise ApiError(503, json.loads(raw))
    except TimeoutError:
        say(f"run {run_id} is still at work")
        return EXIT_PENDING
    raise Unreachable("the stream ended before the run did", hint="try again: nothing is lost")


def _print_output(data: dict[str, Any], attempt: int | None) -> int:
    now = int(data.get("attempt") or 1)
    if attempt is not None and now != attempt:
        say(f"attempt {now}")
    click.echo(data.get("text", ""), nl=False, err=data.get("stream") == "stderr")
    return now


def verdict(run: dict[str, Any]) -> int:
    """Tell how a run ended and return the exit code: 0 if it succeeded, else 3."""
    state = run.get("state")
    why = run.get("error") or run.get("reason") or ""
    code = f" (code {run['code']})" if run.get("code") not in {None, 0, 200} else ""
    say(f"run {run.get('id')} {state}{code}" + (f": {why}" if why else ""))
    return EXIT_OK if state == "succeeded" else EXIT_RUN_FAILED

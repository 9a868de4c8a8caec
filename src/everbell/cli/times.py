"""Times on the command line: ISO 8601 with a zone, or how long from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from everbell.cli.job_body import SPAN
from everbell.telemetry.clock import SystemClock

_AGO = re.compile(r"(?P<span>[0-9.]+ *(?:ms|s|m|h|d))(?P<ago> +ago)?")


class When(click.ParamType[str]):
    """A time as the API takes it; ``2h`` means in two hours, ``2h ago`` two hours ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ISO 8601 with a zone."""
        text = str(value).strip()
        now = datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC)
        if text == "now":
            return now.isoformat()
        if found := _AGO.fullmatch(text):
            span = timedelta(seconds=SPAN.convert(found["span"].replace(" ", ""), param, ctx))
            return (now - span if found["ago"] else now + span).isoformat()
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"`{text}` is no time; as in 2026-03-29T01:00:00+01:00, or 2h", param, ctx)
        if at.tzinfo is None and len(text) > 10:
            self.fail(f"`{text}` has no zone; end it with Z, or an offset as +02:00", param, ctx)
        return text


WHEN = When()

"""The examples of docs/reference/cron-dialect.md are true."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "cron-dialect.md"


def rows(title):
    """The cells of the table under a heading, without its head."""
    part = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize(("text", "zone", "after", "slots"), rows("Examples"))
def test_examples(text, zone, after, slots):
    expected = [datetime.fromisoformat(one) for one in slots.split(", ")]
    found = parse_schedule(text.strip("`"), zone).slots(
        datetime.fromisoformat(after), len(expected)
    )
    assert [one.isoformat() for one in found] == [one.isoformat() for one in expected]


@pytest.mark.parametrize(("text", "position"), rows("Refused"))
def test_refused(text, position):
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text.strip("`"))
    assert caught.value.position == int(position)
    assert caught.value.hint

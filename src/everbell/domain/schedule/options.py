"""What else decides the slots of a text: zone, clock-change rules, anchor and keys."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule.zones import Zone


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The checked arguments of ``parse_schedule``, as the parsers of each form need them."""

    text: str
    zone: Zone
    key: tuple[Any, ...]
    anchor_us: int = 0
    gap: bool = True
    overlap: str = "first"
    hash_key: str = ""
    week_start: int = 1
    sub_second: bool = False

    @property
    def identity(self) -> tuple[str, str, tuple[Any, ...]]:
        """Text, zone name and key of the schedule to build."""
        return self.text, self.zone.name, self.key

    def fail(self, position: int, message: str, hint: str) -> NoReturn:
        """Raise a :class:`ScheduleError` at a position of the text."""
        raise ScheduleError(message, text=self.text, position=position, hint=hint)

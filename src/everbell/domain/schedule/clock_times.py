"""Which times of the day match: as field masks, or as a plain list."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right

NONE = -1


def _low(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


class ClockTimes(ABC):
    """A non-empty set of seconds of the day."""

    __slots__ = ("first", "last")
    first: int
    last: int

    @abstractmethod
    def rule(self) -> tuple[int, ...]:
        """The same for equal sets: the three masks if it is a product of such, else its members."""

    @abstractmethod
    def at_or_after(self, second: int) -> int:
        """The first member at or after a second of the day, or -1."""

    @abstractmethod
    def at_or_before(self, second: int) -> int:
        """The last member at or before a second of the day, or -1."""


class ListTimes(ClockTimes):
    """A short list of seconds of the day, such as ``times 02:00,14:30:15``."""

    __slots__ = ("times",)

    def __init__(self, times: tuple[int, ...]) -> None:
        self.times = times
        self.first = times[0]
        self.last = times[-1]

    def rule(self) -> tuple[int, ...]:
        """The three masks if the list is a product of such, else its members."""
        hours = minutes = seconds = 0
        for time in self.times:
            hours |= 1 << time // 3600
            minutes |= 1 << time // 60 % 60
            seconds |= 1 << time % 60
        full = seconds.bit_count() * minutes.bit_count() * hours.bit_count()
        return (seconds, minutes, hours) if full == len(self.times) else (-1, *self.times)

    def at_or_after(self, second: int) -> int:
        """The first member at or after a second of the day, or -1."""
        index = bisect_left(self.times, second)
        return self.times[index] if index < len(self.times) else NONE

    def at_or_before(self, second: int) -> int:
        """The last member at or before a second of the day, or -1."""
        index = bisect_right(self.times, second)
        return self.times[index - 1] if index else NONE


class MaskTimes(ClockTimes):
    """The product of an hour, a minute and a second mask."""

    __slots__ = ("_first_ms", "_high_s", "_last_ms", "_low_s", "hours", "minutes", "seconds")

    def __init__(self, seconds: int, minutes: int, hours: int) -> None:
        self.seconds = seconds
        self.minutes = minutes
        self.hours = hours
        self._low_s = _low(seconds)
        self._high_s = seconds.bit_length() - 1
        self._first_ms = _low(minutes) * 60 + self._low_s
        self._last_ms = (minutes.bit_length() - 1) * 60 + self._high_s
        self.first = _low(hours) * 3600 + self._first_ms
        self.last = (hours.bit_length() - 1) * 3600 + self._last_ms

    def rule(self) -> tuple[int, ...]:
        """The three masks."""
        return (self.seconds, self.minutes, self.hours)

    def at_or_after(self, second: int) -> int:
        """The first member at or after a second of the day, or -1."""
        hour, rest = divmod(second, 3600)
        if self.hours >> hour & 1:
            minute, rest = divmod(rest, 60)
            left = self.minutes >> minute
            if left & 1:
                seconds = self.seconds >> rest
                if seconds:
                    return second + (seconds & -seconds).bit_length() - 1
                left ^= 1
            if left:
                minute += (left & -left).bit_length() - 1
                return hour * 3600 + minute * 60 + self._low_s
        left = self.hours >> (hour + 1)
        if not left:
            return NONE
        return (hour + (left & -left).bit_length()) * 3600 + self._first_ms

    def at_or_before(self, second: int) -> int:
        """The last member at or before a second of the day, or -1."""
        hour, rest = divmod(second, 3600)
        if self.hours >> hour & 1:
            minute, rest = divmod(rest, 60)
            if self.minutes >> minute & 1:
                seconds = self.seconds & ((2 << rest) - 1)
                if seconds:
                    return second - rest + seconds.bit_length() - 1
            left = self.minutes & ((1 << minute) - 1)
            if left:
                return hour * 3600 + (left.bit_length() - 1) * 60 + self._high_s
        left = self.hours & ((1 << hour) - 1)
        if not left:
            return NONE
        return (left.bit_length() - 1) * 3600 + self._last_ms

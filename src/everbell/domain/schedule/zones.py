"""Time zones as tables of constant offset, and good errors for names that do not exist."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule.base import DAY_S, EPOCH_ORDINAL, MAX_S, MIN_S

# Machine-dependent files of the zone database: their meaning changes with the host.
_NOT_PORTABLE = frozenset({"localtime", "posixrules", "Factory"})
_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")


class Segment(NamedTuple):
    """A stretch of time ``[start, end)`` (epoch seconds) with one offset to UTC (seconds).

    ``before`` and ``behind`` are the offsets just before and just after; they equal ``offset``
    where a segment is cut for another reason than a transition.
    """

    start: int
    end: int
    offset: int
    before: int
    behind: int


class Zone:
    """One zone's segments, found year by year on demand and kept."""

    __slots__ = ("_info", "_years", "name")

    def __init__(self, name: str, info: ZoneInfo) -> None:
        self.name = name
        self._info = info
        self._years: dict[int, tuple[Segment, ...]] = {}

    def offset(self, at_s: int) -> int:
        """Seconds that local time is ahead of UTC at an instant."""
        shift = datetime.fromtimestamp(at_s, UTC).astimezone(self._info).utcoffset()
        assert shift is not None
        return shift.days * DAY_S + shift.seconds

    def segment(self, at_s: int) -> Segment | None:
        """The segment that holds an instant; ``None`` outside the years 1900 to 9999."""
        if not MIN_S <= at_s < MAX_S:
            return None
        year = date.fromordinal(at_s // DAY_S + EPOCH_ORDINAL).year
        segments = self._years.get(year)
        if segments is None:
            segments = self._years[year] = self._build(year)
        for segment in segments:
            if at_s < segment.end:
                return segment
        return segments[-1]

    def instants(self, local_s: int) -> tuple[list[int], int | None]:
        """The instants (epoch seconds) at which clocks show a local second: one, two or none.

        None inside a gap: then the second value is the first instant after it.
        """
        found: list[int] = []
        gap_end = None
        segment = self.segment(local_s - 2 * DAY_S)
        while segment is not None and segment.start <= local_s + 2 * DAY_S:
            at = local_s - segment.offset
            if segment.start <= at < segment.end:
                found.append(at)
            if segment.start + segment.before <= local_s < segment.start + segment.offset:
                gap_end = segment.start
            segment = self.segment(segment.end)
        return found, gap_end

    def transitions(self, first_year: int, last_year: int) -> list[Segment]:
        """The segments that begin with a change of offset, for lint and explanations."""
        found: list[Segment] = []
        for year in range(first_year, last_year + 1):
            at: int | None = (date(year, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY_S
            end = (date(year + 1, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY_S
            while at is not None and at < end:
                segment = self.segment(at)
                if segment is not None and segment.before != segment.offset:
                    found.append(segment)
                at = None if segment is None else segment.end
        return found

    def _build(self, year: int) -> tuple[Segment, ...]:
        if self.name in {"UTC", "Etc/UTC"}:
            return (Segment(MIN_S, MAX_S, 0, 0, 0),)
        start = (date(year, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY_S
        end = MAX_S if year == 9999 else (date(year + 1, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY_S
        marks = [(start, self.offset(start))]
        # Offsets are probed once a day: no zone has ever changed twice within one.
        for day in range(start + DAY_S, end + 1, DAY_S):
            probe = min(day, end)
            behind = self.offset(probe)
            while marks[-1][1] != behind:
                marks.append(self._change(max(marks[-1][0], probe - DAY_S), probe, marks[-1][1]))
        segments = []
        before = self.offset(start - 1)
        for index, (at, offset) in enumerate(marks):
            if at == end:
                break
            last = index + 1 == len(marks)
            stop, behind = (end, offset) if last else marks[index + 1]
            segments.append(Segment(at, stop, offset, before, behind))
            before = offset
        return tuple(segments)

    def _change(self, low: int, high: int, offset: int) -> tuple[int, int]:
        """The first instant in ``(low, high]`` whose offset is not ``offset``, and its own."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high, self.offset(high)


@lru_cache(maxsize=1024)
def _load(name: str) -> Zone | None:
    if len(name) > 64 or name in _NOT_PORTABLE or not _NAME.fullmatch(name):
        return None
    try:
        return Zone(name, ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return None


@lru_cache(maxsize=1)
def zone_names() -> tuple[str, ...]:
    """All IANA names, from the tzdata package's list (5 ms) or else from a search (50 ms)."""
    try:
        listed = (resources.files("tzdata") / "zones").read_text(encoding="ascii").split()
    except (ModuleNotFoundError, OSError):
        return tuple(sorted(available_timezones()))
    return tuple(listed)


def get_zone(name: str, text: str, position: int) -> Zone:
    """The zone with an IANA name.

    Raises:
        ScheduleError: no such zone; the hint names close ones.
    """
    zone = _load(name)
    if zone is not None:
        return zone
    raise ScheduleError(
        f"unknown time zone {name[:64]!r}", text=text, position=position, hint=_zone_hint(name)
    )


def _zone_hint(name: str) -> str:
    offset = re.fullmatch(r"(?:UTC|GMT)([+-])0?([0-9]{1,2})(?::?00)?", name)
    if offset and int(offset[2]) <= 12:
        sign = "-" if offset[1] == "+" else "+"
        return f"use a place such as Europe/Stockholm, or Etc/GMT{sign}{offset[2]} (sign reversed)"
    lowered = name[:64].lower().replace(" ", "_")
    folded = {known.lower(): known for known in zone_names()}
    places = {known.rpartition("/")[2]: known for known in folded}
    close = difflib.get_close_matches(lowered, folded, 3, 0.7)
    close += [places[place] for place in difflib.get_close_matches(lowered, places, 2, 0.8)]
    if close:
        return "did you mean " + " or ".join(dict.fromkeys(folded[one] for one in close)) + "?"
    return "give an IANA name such as UTC, Europe/Stockholm or America/New_York"

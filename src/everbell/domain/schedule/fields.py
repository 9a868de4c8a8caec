"""The fields of a cron text: from characters to bit masks, with the position of every error."""

from __future__ import annotations

import hashlib
import re
from typing import NoReturn

import msgspec

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule.days import FIRST_YEAR, LAST_YEAR

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


def _names(words: tuple[str, ...], first: int) -> dict[str, int]:
    known = {word: index for index, word in enumerate(words, first)}
    return known | {word[:3]: index for word, index in known.items()}


class Kind(msgspec.Struct, frozen=True):
    """One of the seven fields and the values it takes."""

    name: str
    low: int
    high: int
    names: dict[str, int] = {}
    # Highest value that `H` picks: days 29 to 31 do not exist in every month.
    spread: int = 0


SECOND = Kind("second", 0, 59)
MINUTE = Kind("minute", 0, 59)
HOUR = Kind("hour", 0, 23)
DAY = Kind("day of month", 1, 31, spread=28)
MONTH = Kind("month", 1, 12, names=_names(MONTHS, 1) | {"sept": 9})
WEEKDAY = Kind(
    "day of week", 0, 7, names=_names(WEEKDAYS, 0) | {"tues": 2, "thur": 4, "thurs": 4}, spread=6
)
YEAR = Kind("year", FIRST_YEAR, LAST_YEAR)

_PART = re.compile(
    r"(?P<star>\*)"
    r"|(?P<hash>h)(?:\((?P<hlow>[0-9]+)-(?P<hhigh>[0-9]+)\))?"
    r"|(?P<low>[0-9]+|[a-z]+)?(?P<tilde>~)(?P<thigh>[0-9]+|[a-z]+)?"
    r"|(?P<first>[0-9]+|[a-z]+)(?:-(?P<last>[0-9]+|[a-z]+))?"
)
_LAST_DAY = re.compile(r"l(?:-([0-9]+))?|(l|[0-9]+)w")
_NTH = re.compile(r"([0-9]+|[a-z]+)#([0-9]+)|([0-9]|[a-z]{3,})l")


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed field: its mask of values, and the forms that depend on the month.

    ``star``: the text starts with ``*`` (or is ``?``). ``steps``: (first, last, step) of each
    stepped part. ``from_end``, ``nearest`` and ``nth`` as in :class:`days.DayRule`.
    """

    kind: Kind
    text: str
    position: int
    mask: int = 0
    star: bool = False
    steps: tuple[tuple[int, int, int], ...] = ()
    from_end: tuple[int, ...] = ()
    nearest: tuple[int, ...] = ()
    nth: tuple[tuple[int, int], ...] = ()

    @property
    def every(self) -> bool:
        """Whether the field leaves nothing out."""
        low, high = self.kind.low, 6 if self.kind is WEEKDAY else self.kind.high
        full = ((1 << (high + 1)) - 1) >> low << low
        return self.mask == full

    def values(self) -> list[int]:
        """The values in rising order."""
        return [value for value in range(self.mask.bit_length()) if self.mask >> value & 1]


class FieldParser:
    """Reads one field of one text."""

    def __init__(self, kind: Kind, text: str, *, whole: str, position: int, hash_key: str) -> None:
        self.kind = kind
        self.text = text
        self._whole = whole
        self._at = position
        self._position = position
        self._hash_key = hash_key
        self._mask = 0
        self._steps: list[tuple[int, int, int]] = []
        self._from_end: list[int] = []
        self._nearest: list[int] = []
        self._nth: list[tuple[int, int]] = []

    def parse(self) -> Field:
        """The field.

        Raises:
            ScheduleError: at the first character that can't be read.
        """
        question = self.text == "?" and self.kind in (DAY, WEEKDAY)
        for part in ("*" if question else self.text).split(","):
            self._part(part)
            self._at += len(part) + 1
        if self.kind is WEEKDAY:
            self._mask = (self._mask | self._mask >> 7) & 0x7F
        return Field(
            kind=self.kind,
            text=self.text,
            position=self._position,
            mask=self._mask,
            star=question or self.text.startswith("*"),
            steps=tuple(self._steps),
            from_end=tuple(sorted(set(self._from_end))),
            nearest=tuple(sorted(set(self._nearest))),
            nth=tuple(sorted(set(self._nth))),
        )

    def _part(self, part: str) -> None:
        if not part:
            self._fail(0, "is empty", "remove the extra comma" if "," in self.text else "")
        lowered = part.lower() if part.isascii() else part
        if self.kind is DAY and self._last_day(lowered):
            return
        if self.kind is WEEKDAY and self._nth_weekday(lowered):
            return
        match = _PART.match(lowered)
        if match is None:
            self._junk(part, 0)
        end = match.end()
        step = None
        if lowered[end : end + 1] == "/":
            step = self._step(lowered, end + 1)
            end = len(lowered)
        if end != len(lowered):
            self._junk(part, end)
        first, last = self._range(match, step)
        self._add(first, last, step)

    def _add(self, first: int, last: int, step: int | None) -> None:
        if step is not None:
            self._steps.append((first, last, step))
        for value in range(first, last + 1, step or 1):
            self._mask |= 1 << value

    def _range(self, match: re.Match[str], step: int | None) -> tuple[int, int]:
        kind = self.kind
        if match["star"]:
            return kind.low, kind.high
        if match["hash"]:
            low, high = kind.low, kind.spread or kind.high
            if match["hlow"]:
                low = self._value(match["hlow"], match.start("hlow"))
                high = self._value(match["hhigh"], match.start("hhigh"))
            return self._spread(low, high, step, match.start("hhigh"))
        if match["tilde"]:
            low = self._value(match["low"], 0) if match["low"] else kind.low
            top = kind.spread or kind.high
            high = self._value(match["thigh"], match.start("thigh")) if match["thigh"] else top
            return self._spread(low, high, step, match.start("thigh"))
        first = self._value(match["first"], 0)
        if match["last"]:
            last = self._value(match["last"], match.start("last"))
            self._ordered(first, last, match.start("last"))
            return first, last
        return first, first if step is None else kind.high

    def _spread(self, low: int, high: int, step: int | None, index: int) -> tuple[int, int]:
        """One value, or the phase of a step, chosen by the hash of the job's key."""
        self._ordered(low, high, max(index, 0))
        seed = f"{self._hash_key}\0{self.kind.name}".encode()
        number = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
        if step is None:
            value = low + number % (high - low + 1)
            return value, value
        return low + number % min(step, high - low + 1), high

    def _ordered(self, first: int, last: int, index: int) -> None:
        if first <= last:
            return
        kind = self.kind
        if kind is WEEKDAY and last == 0:
            self._fail(index, "ends on Sunday as 0", f"write {first}-7: Sunday is also 7")
        high = 6 if kind is WEEKDAY else kind.high
        self._fail(
            index,
            f"runs backwards, from {first} to {last}",
            f"ranges do not wrap around: write {first}-{high},{kind.low}-{last}",
        )

    def _step(self, part: str, index: int) -> int:
        digits = part[index:]
        if not re.fullmatch(r"[0-9]+", digits):
            self._fail(index, f"has the step {digits!r}", "a step is a whole number, such as */5")
        if len(digits) > 4:
            self._fail(index, "has a step that is too large", "use a step below 10000")
        if int(digits) == 0:
            self._fail(index, "has the step 0", "a step is 1 or more")
        return int(digits)

    def _value(self, word: str, index: int) -> int:
        kind = self.kind
        if word.isdigit():
            number = int(word) if len(word) <= 9 else -1
            if not kind.low <= number <= kind.high:
                shown = word if len(word) <= 9 else word[:9] + "..."
                hint = f"use {kind.low} to {kind.high}"
                if kind is WEEKDAY and FIRST_YEAR <= number <= LAST_YEAR:
                    hint += "; a year needs 7 fields, seconds first: 0 0 12 1 1 ? 2028"
                self._fail(index, f"has {shown}", hint)
            return number
        if word in kind.names:
            return kind.names[word]
        if kind.names:
            example = "JAN to DEC" if kind is MONTH else "SUN to SAT"
            self._fail(index, f"has the unknown name {word[:20]!r}", f"use {example}, or numbers")
        return self._junk(word, 0, index)

    def _last_day(self, part: str) -> bool:
        match = _LAST_DAY.fullmatch(part)
        if match is None:
            return False
        if match[2]:
            if match[2] == "l":
                self._nearest.append(0)
            else:
                self._nearest.append(self._value(match[2], 0))
            return True
        distance = match[1] or "0"
        if len(distance) > 2 or int(distance) > 30:
            self._fail(2, f"counts {distance[:9]} days from the end", "use L-1 to L-30")
        self._from_end.append(int(distance))
        return True

    def _nth_weekday(self, part: str) -> bool:
        if part == "l":
            self._fail(0, "has L without a weekday", "write 5L for the last Friday, or 6")
        if re.fullmatch(r"l[0-7]", part):
            self._fail(0, f"has {part.upper()}", f"write {part[1]}L for the last one of a month")
        match = _NTH.fullmatch(part)
        if match is None:
            return False
        weekday = self._value(match[1] or match[3], 0) % 7
        if match[3]:
            self._nth.append((weekday, 0))
            return True
        if len(match[2]) > 1 or not 1 <= int(match[2]) <= 5:
            self._fail(match.start(2), f"has #{match[2][:9]}", "use #1 to #5, or L for the last")
        self._nth.append((weekday, int(match[2])))
        return True

    def _junk(self, part: str, end: int, index: int = 0) -> NoReturn:
        rest = part[end:]
        self._fail(end + index, f"can't be read from {rest[:20]!r}", self._junk_hint(rest))

    def _junk_hint(self, rest: str) -> str:
        kind = self.kind
        if any(not one.isascii() for one in rest):
            return "use the digits 0 to 9 and plain letters only"
        if rest[0] == "?":
            return "? stands alone, in a day field only"
        if rest[0] in "lw#LW":
            return "L, LW and 15W belong in the day of month; 5L and MON#2 in the day of week"
        if "/" in rest and rest.count("/") > 1:
            return "give the schedule only, without a command after it"
        return f"write *, a value from {kind.low} to {kind.high}, a range 1-5, a list 1,3 or */5"

    def _fail(self, index: int, message: str, hint: str) -> NoReturn:
        raise ScheduleError(
            f"the {self.kind.name} field {message}",
            text=self._whole,
            position=self._at + index,
            hint=hint or f"{self.kind.name}: {self.kind.low} to {self.kind.high}",
        )

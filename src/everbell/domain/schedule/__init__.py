"""Schedules: when a job runs.

``parse_schedule`` reads a text; the ``Schedule`` it gives steps forward and backward through
slots. Own engine: bit masks, month by month, about 2 us for each step; dialect and clock-change
rules in docs/reference/cron-dialect.md.
"""

from __future__ import annotations

from everbell.domain.schedule.base import NaiveDatetimeError, Schedule
from everbell.domain.schedule.exclude import ExclusionError
from everbell.domain.schedule.parse import parse_schedule

__all__ = ["ExclusionError", "NaiveDatetimeError", "Schedule", "parse_schedule"]

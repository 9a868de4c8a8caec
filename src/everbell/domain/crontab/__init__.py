"""Crontabs: read as cron reads them, with all that cron would do otherwise.

``parse_crontab`` reads the text of a user's crontab or of a system crontab; what differs between
cron and this program is told by findings, each with its line.
"""

from __future__ import annotations

from everbell.domain.crontab.model import Crontab, Entry, Finding, Source
from everbell.domain.crontab.names import Names
from everbell.domain.crontab.parse import parse_crontab

__all__ = ["Crontab", "Entry", "Finding", "Names", "Source", "parse_crontab"]

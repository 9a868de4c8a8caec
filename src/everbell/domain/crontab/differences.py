"""What cron would do otherwise: told for a whole file, or for one line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from everbell.domain.crontab.model import Entry, Finding, Level, Source
from everbell.domain.schedule import Schedule

_BACKGROUND = re.compile(r"(?<![&|>])&\s*\)?\s*$")
_SYSTEMD_OFF = re.compile(r"(?:test|\[)\s+-[de]\s+[\"']?/run/systemd/system[\"']?\s*\]?\s*\|\|")
_NEGATED = re.compile(r"!\s+-[de]\s+[\"']?/run/systemd/system")
_HASHED = re.compile(r"(?:^|[\s,])(?:[Hh](?:[(/\s,]|$)|\S*~)")
_LAST = re.compile(r"(?:^|[\s,])(?:L\b|L-\d|\d+[WL]\b|LW\b|\w+#\d)")


_Said = tuple[str, str, str, str]
_ALWAYS: tuple[_Said, ...] = (
    (
        "note",
        "environment",
        "cron sets PATH=/usr/bin:/bin and starts in the home directory; here the node decides both",
        "variables: execution.pass_env, or in the crontab; directory: --cwd",
    ),
    (
        "note",
        "missed",
        "cron never runs what it missed; here the newest slot of the last hour is run late",
        "cron's way: --misfire skip",
    ),
    (
        "note",
        "overlap",
        "cron starts a command again while it still runs; here that slot is skipped",
        "cron's way: --overlap allow",
    ),
    (
        "note",
        "timeout",
        "cron never ends a command; here the node does after execution.process_timeout (an hour)",
        "longer: --timeout 12h",
    ),
)
"""What is true of every crontab."""


def of_entry(entry: Entry, schedule: Schedule, now_us: int) -> list[Finding]:
    """Return what there is to say about one line, and about clock changes after an instant."""
    said = [("note", "schedule", warning, "") for warning in schedule.lint(now_us)]
    said += [*_about_text(entry), *_about_command(entry)]
    return [_finding(one, entry.line) for one in said]


def _finding(said: _Said, line: int = 0) -> Finding:
    level, code, message, hint = said
    checked: Level = "warning" if level == "warning" else "note"
    return Finding(level=checked, code=code, message=message, line=line, hint=hint)


def _about_text(entry: Entry) -> list[_Said]:
    found: list[_Said] = []
    if _HASHED.search(entry.schedule):
        what = "H and ~ give one time that stays; cronie draws ~ again at each of its starts"
        found.append(("note", "hashed", what, "`everbell job next` shows the time"))
    if _LAST.search(entry.schedule):
        what = "L, W and # are not known to Debian's cron, which would refuse this line"
        found.append(("note", "extension", what, "check that this line ever ran"))
    return found


def _about_command(entry: Entry) -> list[_Said]:
    found: list[_Said] = []
    if entry.stdin is not None:
        lines = entry.stdin.count("\n")
        what = f"what follows the % is standard input ({lines} line{'s' if lines > 1 else ''})"
        found.append(("note", "stdin", what, "a percent sign itself is written \\%"))
    if _BACKGROUND.search(entry.command):
        what = "ends with &: what is left in the background is ended when the shell exits"
        found.append(("warning", "background", what, "leave the & out, and the run shows its end"))
    if _SYSTEMD_OFF.search(entry.command) or _NEGATED.search(entry.command):
        what = "does nothing where systemd runs: there a timer of the package does the work"
        found.append(("note", "systemd", what, "`systemctl list-timers` shows it"))
    if "run-parts" in entry.command:
        what = "run-parts starts many scripts: they become one run, with one output and outcome"
        found.append(("note", "run_parts", what, "make each script a job to see each by itself"))
    if "anacron" in entry.command:
        what = (
            "anacron takes this work over where it is installed; here missed runs are made up for"
        )
        found.append(("note", "anacron", what, ""))
    if "sudo " in entry.command:
        what = "sudo may ask for a password or a terminal; there is none, as under cron"
        found.append(("note", "sudo", what, ""))
    return found


def of_file(source: Source, entries: Sequence[Entry]) -> list[Finding]:
    """Return what is true of all lines of a file; nothing if it starts nothing."""
    if not entries:
        return []
    zone = ("note", "zone", f"times are read in {source.timezone}", "another: --tz")
    said = [zone, *_zones(entries), *_mail(entries), *_ALWAYS]
    return [_finding(one) for one in said]


def _zones(entries: Sequence[Entry]) -> list[_Said]:
    zones = {entry.timezone for entry in entries} - {"UTC", "Etc/UTC"}
    if not zones:
        return []
    what = "when clocks change: as Debian's cron, a fixed time that is left out runs right after, "
    what += "one that comes twice runs once; other crons skip or repeat it"
    return [("note", "clock_changes", what, "`everbell schedule explain TEXT --tz ZONE` shows it")]


def _mail(entries: Sequence[Entry]) -> list[_Said]:
    to = sorted({entry.env.get("MAILTO", "") for entry in entries} - {""})
    whom = f" to {', '.join(to)[:100]}" if to else ""
    what = f"cron mails output{whom}; here it is kept with the run, and nothing is mailed"
    return [("note", "mail", what, "`everbell run logs --job NAME` shows it")]

"""From a crontab's text to entries, line by line, in the order of Debian cron's own reader.

Rules: crontab(5) of Debian (Vixie cron 3.0); what cronie adds (CRON_TZ, RANDOM_DELAY, ``-``) and
what the BSDs add (``-n``, ``-q``, ``-s``) is read too, and told.
"""

from __future__ import annotations

import re

from everbell.domain.crontab.comments import description
from everbell.domain.crontab.differences import of_entry, of_file
from everbell.domain.crontab.model import Crontab, Entry, Finding, Level, Source
from everbell.domain.crontab.names import Names
from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import Schedule, parse_schedule

_SETTING = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s="']+))\s*=\s*(.*)\Z""", re.DOTALL)
_VALUE = re.compile(r"""(?:"([^"]*)"|'([^']*)')\s*\Z""")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FIELDS = re.compile(r"(\S+\s+\S+\s+\S+\s+\S+\s+\S+)(?:\s+|\Z)")
_WORD = re.compile(r"(\S+)(?:\s+|\Z)")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?\Z")
_FLAGS = re.compile(r"-[nqs]+\s+")
_SIXTH = re.compile(r"[*?]\S*\s|[0-9*,/?-]+\s")
_SYSTEM_USERS = frozenset({"root", "www-data", "nobody", "daemon"})
# Cron sets these from the passwd file, whatever a crontab says.
_FIXED = frozenset({"LOGNAME", "USER"})


def parse_crontab(text: str, source: Source, names: Names | None = None) -> Crontab:
    """Read a crontab. Never raises: what can't be read is a finding with level ``error``.

    ``names`` is shared by the files of one import, so that no two jobs get the same name.
    """
    reader = _Reader(source, names or Names())
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        reader.read(number, line)
    if lines[-1].strip() and not lines[-1].lstrip().startswith("#"):
        reader.tell(
            "warning", "no_line_end", "the last line has no line end: cron would ignore it",
            line=len(lines), hint="it is imported; check that it should run",
        )  # fmt: skip
    findings = (*of_file(source, reader.entries), *reader.findings)
    ordered = sorted(findings, key=lambda one: one.line)
    return Crontab(source=source, entries=tuple(reader.entries), findings=tuple(ordered))


class _Refused(Exception):
    """A line that can't be imported; ``column`` counts from 1."""

    def __init__(self, code: str, message: str, column: int, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.column = column
        self.hint = hint


class _Reader:
    """What the lines so far have set."""

    def __init__(self, source: Source, names: Names) -> None:
        self.source = source
        self.entries: list[Entry] = []
        self.findings: list[Finding] = []
        self._env: dict[str, str] = {}
        self._zone = source.timezone
        self._jitter_s = 0.0
        self._comments: list[str] = []
        self._names = names

    def tell(self, level: Level, code: str, message: str, *, line: int, hint: str = "") -> None:
        """Add a finding about a line."""
        self.findings.append(Finding(level=level, code=code, message=message, line=line, hint=hint))

    def read(self, number: int, raw: str) -> None:
        """Read one line."""
        line = raw.removesuffix("\r")
        if line != raw and line.strip():
            self.tell("warning", "carriage_return", "ends with a carriage return; left out",
                      line=number, hint="cron would give it to the command")  # fmt: skip
        bare = line.strip()
        if not bare:
            self._comments.clear()
        elif bare.startswith("#"):
            self._comments.append(bare)
        else:
            self._statement(number, line)
            self._comments.clear()

    def _statement(self, number: int, line: str) -> None:
        try:
            wrong = next((i for i, one in enumerate(line) if ord(one) < 32 and one != "\t"), None)
            if wrong is not None:
                hint = "is this a text file?"
                raise _Refused("control_character", "holds a control character", wrong + 1, hint)
            setting = _SETTING.match(line)
            if setting is not None:
                self._set(number, setting)
            else:
                self._entry(number, line)
        except _Refused as error:
            self.findings.append(
                Finding(
                    level="error",
                    code=error.code,
                    message=error.message,
                    line=number,
                    column=error.column,
                    text="".join(one if one.isprintable() else " " for one in line),
                    hint=error.hint,
                )
            )

    def _set(self, number: int, setting: re.Match[str]) -> None:
        name = setting[1] or setting[2] or setting[3] or ""
        quoted = _VALUE.match(setting[4])
        value = (quoted[1] or quoted[2] or "") if quoted else setting[4].rstrip()
        if not _NAME.match(name):
            hint = "letters, digits and underscores; a schedule has no `=` behind its first field"
            raise _Refused("bad_variable", f"{name[:40]!r} is no variable name", 1, hint)
        if name == "CRON_TZ":
            self._set_zone(number, value, setting)
        elif name == "RANDOM_DELAY":
            self._set_delay(number, value, setting)
        elif name in _FIXED:
            self.tell("note", "fixed_variable", f"{name} is left out: cron sets it itself",
                      line=number)  # fmt: skip
        else:
            self._env[name] = value
            self._about_setting(number, name, value)

    def _about_setting(self, number: int, name: str, value: str) -> None:
        if name == "TZ":
            self.tell("warning", "tz", f"TZ={value} is for the commands only, as in Debian's cron: "
                      f"times are read in {self._zone}", line=number,
                      hint="CRON_TZ= says in which zone times are read")  # fmt: skip
        elif "$" in value:
            self.tell("warning", "no_expansion", f"{name} is not expanded, by cron neither: the "
                      f"command sees {value[:60]!r}", line=number,
                      hint="write the value out")  # fmt: skip

    def _set_zone(self, number: int, value: str, setting: re.Match[str]) -> None:
        zone = value.strip() or self.source.timezone
        try:
            parse_schedule("@hourly", zone)
        except ScheduleError as error:
            raise _Refused("bad_zone", error.message, setting.start(4) + 1, error.hint) from None
        self._zone = zone
        self.tell("note", "cron_tz", f"times below are read in {zone}, as by cronie; Debian's cron "
                  "ignores CRON_TZ", line=number)  # fmt: skip

    def _set_delay(self, number: int, value: str, setting: re.Match[str]) -> None:
        if not value.isascii() or not value.isdigit() or int(value[:6]) > 1440:
            hint = "minutes, 0 to 1440"
            raise _Refused(
                "bad_delay", f"RANDOM_DELAY is {value[:20]!r}", setting.start(4) + 1, hint
            )
        self._jitter_s = int(value) * 60.0
        self.tell("note", "random_delay", f"jobs below start up to {value} minutes late: each by "
                  "one amount that never changes, cronie's changes at its restart",
                  line=number)  # fmt: skip

    # --- lines that start something --------------------------------------------------------------

    def _entry(self, number: int, line: str) -> None:
        at = len(line) - len(line.lstrip())
        if line[at] == "-":
            self.tell("note", "nosyslog", "the `-` is left out: it keeps cron's own log quiet",
                      line=number)  # fmt: skip
            at += 1 + len(line[at + 1 :]) - len(line[at + 1 :].lstrip())
        when = (_WORD if line[at : at + 1] == "@" else _FIELDS).match(line, at)
        if when is None:
            what = "5 time fields (or a word such as @daily), "
            what += "a user and a command" if self.source.system else "then a command"
            raise _Refused("bad_line", "is no crontab line", at + 1, f"a line has {what}")
        at = when.end()
        user = None
        if self.source.system:
            user, at = self._user(line, at)
        command, stdin = split_percent(self._command(number, line, at))
        if when[1] == "@reboot":
            message = "@reboot is not imported: a server's start is no planned time"
            hint = "start it by your init system (systemd: WantedBy=multi-user.target)"
            self.tell("warning", "reboot", message, line=number, hint=hint)
            return
        schedule = self._schedule(when)
        entry = Entry(
            line=number,
            name=self._names.take(self.source.prefix, command),
            schedule=" ".join(when[1].split()),
            timezone=self._zone,
            command=command,
            stdin=stdin,
            shell=self._env.get("SHELL") or "/bin/sh",
            env=dict(self._env),
            user=user,
            description=description(self._comments),
            jitter_s=self._jitter_s,
        )
        self.entries.append(entry)
        self.findings += of_entry(entry, schedule, self.source.now_us)

    def _user(self, line: str, at: int) -> tuple[str, int]:
        found = _WORD.match(line, at)
        if found is None:
            raise _Refused("no_user", "nothing stands behind the time", at + 1,
                           "a system crontab has a user, then a command")  # fmt: skip
        user = found[1].partition(":")[0]
        if not _USER.match(user):
            hint = "5 time fields, a user, a command; without users leave --system out"
            if "*" in user:
                hint = "a crontab has 5 time fields, no seconds and no year"
            raise _Refused("bad_user", f"{found[1][:40]!r} is no user name", at + 1, hint)
        return user, found.end()

    def _command(self, number: int, line: str, at: int) -> str:
        if not self.source.system and _SIXTH.match(line, at):
            raise _Refused("six_fields", "more than 5 time fields", at + 1,
                           "a crontab has no seconds and no year; remove a field")  # fmt: skip
        flags = _FLAGS.match(line, at)
        if flags is not None:
            self.tell("note", "bsd_flags", f"{flags[0].strip()} is left out: output is kept with "
                      "the run, and a job never runs twice at once", line=number)  # fmt: skip
            at = flags.end()
        command = line[at:].rstrip()
        if not command:
            what = "no command behind the user" if self.source.system else "no command"
            hint = "in a user's crontab there is no user column: leave --system out"
            raise _Refused("no_command", what, len(line) + 1, hint if self.source.system else "")
        first = command.split(None, 1)
        if not self.source.system and first[0] in _SYSTEM_USERS and len(first) > 1:
            raise _Refused("system_crontab", f"{first[0]!r} looks like the user of a system "
                           "crontab", at + 1, "add --system")  # fmt: skip
        return command

    def _schedule(self, when: re.Match[str]) -> Schedule:
        try:
            return parse_schedule(when[1], self._zone, jitter_s=self._jitter_s)
        except ScheduleError as error:
            column = when.start(1) + error.position + 1
            raise _Refused("bad_schedule", error.message, column, error.hint) from None


def split_percent(text: str) -> tuple[str, str | None]:
    r"""Split a command at its first ``%``; what follows is standard input, with ``%`` as newline.

    ``\%`` is a plain percent sign. After do_command.c of Debian's cron.
    """
    command: list[str] = []
    for index, one in enumerate(text):
        if one == "%":
            if _escaped(text, index):
                command[-1] = "%"
                continue
            return "".join(command), _input(text[index + 1 :])
        command.append(one)
    return "".join(command), None


def _escaped(text: str, index: int) -> bool:
    """Tell whether an odd number of backslashes stands before a character."""
    before = text[:index]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _input(text: str) -> str:
    lines = re.sub(r"(?<!\\)%", "\n", text).replace("\\%", "%")
    return lines if lines.endswith("\n") else lines + "\n"

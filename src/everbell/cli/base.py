"""What all commands share: lazy groups, the common options, the error shape, exit codes.

Imported for every ``--help``, so it imports nothing but click and the error tree.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from everbell.domain.errors import EverbellError, ScheduleError, UserError

if TYPE_CHECKING:
    from everbell.config.loader import Loaded

OUTPUTS = ("table", "wide", "json", "jsonl", "yaml", "csv", "name")
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_RUN_FAILED, EXIT_AUTH = 0, 1, 2, 3, 4
EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_UNREACHABLE, EXIT_PENDING = 5, 6, 7, 8
EXIT_INTERRUPTED = 130
CARET_BEFORE, CARET_WIDTH = 40, 100

PLURALS = {
    "credentials": "credential",
    "projects": "project",
    "jobs": "job",
    "runs": "run",
    "holds": "hold",
    "limits": "limit",
    "nodes": "node",
    "schedules": "schedule",
}


class State:
    """What the common options said, wherever on the command line they stood."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.server: str | None = None
        self.output: str | None = None
        self.overrides: dict[str, str] = {}
        self._loaded: Loaded | None = None

    def load(self, *, tell: bool = True) -> Loaded:
        """Read the settings once. With ``tell`` notes go to stderr. Raises ConfigError.

        Commands that only look something up do not repeat the notes on every call.
        """
        if self._loaded is None:
            from everbell.config.loader import load_settings

            path = Path(self.config).expanduser() if self.config else None
            self._loaded = load_settings(path, os.environ, self.overrides)
            for note in self._loaded.notes if tell else ():
                warn(note)
        return self._loaded

    @property
    def form(self) -> str:
        """The output form: what was asked for, or the table."""
        return "table" if self.output in {None, "wide"} else self.output

    @property
    def wide(self) -> bool:
        """Whether a table shows every column, whole."""
        return self.output == "wide"


def state() -> State:
    """Return the state of the running command."""
    return click.get_current_context().ensure_object(State)


class UsageError(UserError):
    """A flag is missing or two do not go together."""

    code = "usage"


class ApiError(EverbellError):
    """The server's answer was a problem; ``status`` and the problem's members are kept."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or f"the server answered {status}"
        super().__init__(str(detail), hint=str(problem.get("hint") or ""))
        self.status = status
        self.code = str(problem.get("code") or "unknown")
        self.problem = problem


class Unreachable(EverbellError):
    """No answer: refused, timed out, broken off."""

    code = "unreachable"
    status = 503


# --- messages ------------------------------------------------------------------------------------


def _styled(word: str, color: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return word
    return click.style(word, fg=color, bold=True)


def say(text: str) -> None:
    """Tell a person something; never data."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """Tell a person about something odd that does not stop the command."""
    say(f"{_styled('note:', 'yellow')} {text}")


def show_error(error: EverbellError) -> None:
    """Print an expected error: what, where, why, and what next."""
    say(f"{_styled('error:', 'red')} {error.message}")
    if isinstance(error, ScheduleError):
        for line in pointed(error.text, error.position):
            say(f"  {line}")
    for line in _details(error):
        say(f"  {line}")
    for hint in _hints(error):
        say(f"{_styled('hint:', 'cyan')} {hint}")


def _details(error: EverbellError) -> list[str]:
    if isinstance(error, ApiError):
        items = error.problem.get("errors") or []
        rows = [(str(i.get("pointer", "")), i) for i in items if isinstance(i, dict)]
        lines = []
        for pointer, item in rows:
            text = str(item.get("detail") or item.get("message") or "")
            if text and text not in error.message and error.message not in text:
                lines.append(f"{pointer}: {text}" if pointer else text)
            if item.get("hint") and item["hint"] != error.hint:
                lines.append(f"  {item['hint']}")
        if (caret := _caret(error.problem)) is not None:
            lines.extend(caret)
        return lines
    problems = error.problems[1:] if isinstance(error, UserError) else ()
    return [p.message + (f" ({p.hint})" if p.hint else "") for p in problems]


def _caret(problem: dict[str, Any]) -> list[str] | None:
    text, position = problem.get("text"), problem.get("position")
    if isinstance(text, str) and isinstance(position, int):
        return pointed(text, position)
    return None


def pointed(text: str, position: int) -> list[str]:
    """Return the text and a caret below the position; of a long text only what is near it."""
    start = max(0, position - CARET_BEFORE)
    stop = start + CARET_WIDTH
    # A tab or a line break would move the caret away from what it points at.
    shown = "".join(one if one.isprintable() else " " for one in text[start:stop])
    head, tail = "..." if start else "", "..." if stop < len(text) else ""
    return [head + shown + tail, " " * (len(head) + position - start) + "^"]


_LISTED = re.compile(r"list what there is: GET /(\w+)")


def _hints(error: EverbellError) -> list[str]:
    # The API names its own address; here the command that asks it is of more use.
    hint = _LISTED.sub(lambda found: _list_command(found[1]), error.hint)
    hints = [hint] if hint else []
    if isinstance(error, ApiError):
        names = [str(name) for name in error.problem.get("suggestions") or []]
    else:
        names = list(error.suggestions) if isinstance(error, UserError) else []
    if names and not any("did you mean" in hint for hint in hints):
        hints.insert(0, "did you mean " + " or ".join(f"`{name}`" for name in names[:3]) + "?")
    return hints


def _list_command(nouns: str) -> str:
    return f"`everbell {PLURALS.get(nouns, nouns)} list` shows what is there"


_BY_STATUS = {
    400: EXIT_USAGE,
    401: EXIT_AUTH,
    403: EXIT_AUTH,
    404: EXIT_NOT_FOUND,
    405: EXIT_USAGE,
    408: EXIT_UNREACHABLE,
    409: EXIT_CONFLICT,
    410: EXIT_NOT_FOUND,
    412: EXIT_CONFLICT,
    413: EXIT_USAGE,
    415: EXIT_USAGE,
    422: EXIT_USAGE,
    428: EXIT_CONFLICT,
    429: EXIT_UNREACHABLE,
    502: EXIT_UNREACHABLE,
    503: EXIT_UNREACHABLE,
    504: EXIT_UNREACHABLE,
}


def exit_code(error: EverbellError) -> int:
    """Return the documented exit code of an error."""
    return _BY_STATUS.get(error.status, EXIT_FAILED)


# --- commands and groups -------------------------------------------------------------------------


def _keep(name: str) -> Any:
    def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value:
            setattr(ctx.ensure_object(State), name, value)

    return callback


def _keep_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(State).output = "json"


def _keep_quiet(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(State).output = "id"


def _keep_plain(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        os.environ["NO_COLOR"] = "1"


def common_options() -> list[click.Option]:
    """Return fresh options that every command and group takes."""
    return [
        click.Option(
            ["-c", "--config", "-config"],
            metavar="FILE",
            expose_value=False,
            callback=_keep("config"),
            help="Configuration file (default: everbell.toml and others, here).",
        ),
        click.Option(
            ["--server"],
            metavar="URL",
            expose_value=False,
            callback=_keep("server"),
            help="Speak to this server (default: EVERBELL_SERVER, else the store here).",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(OUTPUTS),
            expose_value=False,
            callback=_keep("output"),
            help="Form of the answer.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_keep_json,
            help="Short for -o json: the API's answer, unchanged.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_keep_quiet,
            help="Print ids only.",
        ),
        click.Option(
            ["--no-color"],
            is_flag=True,
            expose_value=False,
            callback=_keep_plain,
            help="No colours; as NO_COLOR=1.",
        ),
    ]


class _Name(click.types.StringParamType):
    """A text that the shell completes with the names of jobs or projects."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return what begins so."""
        from click.shell_completion import CompletionItem

        known = import_module("everbell.cli.completion").known_names(ctx, param, incomplete)
        return [CompletionItem(name) for name in known]


def _complete_names(params: Iterable[click.Parameter]) -> None:
    for param in params:
        named = param.metavar == "JOB" or param.name == "key" or "--project" in param.opts
        if named and type(param.type) is click.types.StringParamType:
            param.type = _Name()


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _complete_names(self.params)
        self.params.extend(common_options())


class LazyGroup(click.Group):
    """A group whose commands are imported when used; help texts stand in the table.

    ``lazy`` maps a name to (``module:attribute``, help); an empty help hides it.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        lazy: dict[str, tuple[str, str]] | None = None,
        plurals: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}
        self.plurals = plurals
        self.params.extend(common_options())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the order of the table."""
        eager = [name for name in super().list_commands(ctx) if name not in self.lazy]
        return [*self.lazy, *eager]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; plural nouns are accepted."""
        name = PLURALS.get(cmd_name, cmd_name) if self.plurals else cmd_name
        if name not in self.lazy:
            return super().get_command(ctx, name)
        module, _, attribute = self.lazy[name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self.lazy:
                about = self.lazy[name][1]
            else:
                command = super().get_command(ctx, name)
                about = "" if command is None or command.hidden else command.get_short_help_str(80)
            if about:
                rows.append((name, about))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant. Raises UsageError."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.5)
            path = ctx.command_path
            hint = f"did you mean `{path} {near[0]}`?" if near else f"see `{path} --help`"
            raise UsageError(f"no command `{path} {name}`", hint=hint)
        return super().resolve_command(ctx, args)


class Group(LazyGroup):
    """A group of commands written in one module."""


Group.group_class = Group

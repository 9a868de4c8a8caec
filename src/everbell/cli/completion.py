"""``everbell completion``: the shell's script, and the names that it offers."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import click

from everbell.cli.base import Command, State
from everbell.domain.errors import EverbellError

MOST = 100
STEPS = 200_000
"""Steps of SQLite's machine that a question may take: about 20 ms. A shell must not wait."""
# The command line speaks to stores through the API; this alone reads the file itself, as opening
# the store would take longer than a person waits for a key. Names only, and any error is nothing.
_NAMES = {
    "job": "SELECT DISTINCT name FROM jobs WHERE substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
    "project": "SELECT name FROM projects WHERE substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
}
SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in SHELL.

    bash: put eval "$(everbell completion bash)" into ~/.bashrc; zsh likewise into ~/.zshrc; fish:
    write it to ~/.config/fish/completions/everbell.fish.
    """
    from click.shell_completion import get_completion_class

    from everbell.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three"
    click.echo(kind(cli, {}, "everbell", "_EVERBELL_COMPLETE").source())


def known_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return names in the local store that begin so; nothing on any trouble."""
    kind = _kind(ctx, param)
    at = ctx.find_object(State) or State()
    if not kind or at.server or os.environ.get("EVERBELL_SERVER"):
        return []
    try:
        loaded = at.load(tell=False)
        scheme, _, rest = loaded.settings.database.url.partition(":///")
        return _read(Path(loaded.directory) / rest, kind, incomplete) if scheme == "sqlite" else []
    except (EverbellError, sqlite3.Error, OSError, ValueError):
        return []


def _kind(ctx: click.Context, param: click.Parameter) -> str:
    parent = ctx.parent.info_name if ctx.parent is not None else ""
    if param.metavar == "JOB":
        return "job"
    if "--project" in param.opts or "project" in {ctx.info_name, parent}:
        return "project"
    return "job" if ctx.info_name == "job" else ""


def _read(path: Path, kind: str, incomplete: str) -> list[str]:
    # Without a log beside it the file is all there is, and looking leaves nothing behind.
    more = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    address = f"{path.absolute().as_uri()}?mode=ro{more}"
    with closing(sqlite3.connect(address, uri=True, timeout=0.1)) as db:
        db.set_progress_handler(lambda: 1, STEPS)
        rows = db.execute(_NAMES[kind], (len(incomplete), incomplete, MOST))
        return [str(name) for (name,) in rows]

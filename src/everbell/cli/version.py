"""``everbell version``."""

from __future__ import annotations

import click

from everbell import __version__
from everbell.cli.base import Command, state


@click.command(cls=Command)
def version() -> None:
    """Print the version, of Python and SQLite too."""
    import json
    import platform

    import apsw

    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }
    if state().form == "json":
        click.echo(json.dumps({"data": facts}))
    else:
        click.echo(f"everbell {__version__}")
        click.echo(f"Python {facts['python']}, SQLite {facts['sqlite']}")

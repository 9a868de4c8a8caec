"""``everbell start``: run a node."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from everbell import __version__
from everbell.cli.base import Command, UsageError, say, state
from everbell.cli.config import apply_assignments, set_option
from everbell.config.distributed import PARTS, settings_of
from everbell.config.loader import Loaded, without_password
from everbell.config.secrets import permission_note, require_secrets


def distributed_options(function: Any) -> Any:
    """Add the Distributed Scheduler's flags; they stand in the help's text, not in its list."""
    for name in PARTS:
        if name != "PORT":
            function = click.option(f"--{name}", name.lower(), hidden=True)(function)
    return function


@click.command(cls=Command)
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", "--PORT", "port", type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--log-level", help="ERROR, WARN, INFO or DEBUG (log.level).")
@click.option(
    "--app", "target", metavar="MODULE:NAME", help="Run the jobs of a Python program too."
)
@click.option("--init", "prepare", is_flag=True, help="Create first what is missing here.")
@set_option
@distributed_options
def start(
    assignments: tuple[str, ...],
    host: str | None,
    port: int | None,
    log_level: str | None,
    target: str | None,
    *,
    prepare: bool,
    **named: str | None,
) -> int:
    """Run a node: scheduler, workers and API, until a signal ends it.

    The Distributed Scheduler's flags work too: --PORT, --PGHOST, --PGPORT, --PGUSER,
    --PGPASSWORD, --PGDATABASE, --REDISHOST, --REDISPORT, --PROCESS_STORE, --JOB_STORE,
    --JOB_PROCESSED, --CHANNEL.
    """
    at = state()
    if at.server:
        raise UsageError("`start` runs a node here; --server has no meaning", hint="use --host")
    apply_assignments(at, assignments)
    given = {name.upper(): value for name, value in named.items() if value is not None}
    at.overrides |= settings_of(given, lambda name: f"--{name}")
    for name, value in (("host", host), ("port", port)):
        if value is not None:
            at.overrides[f"server.{name}"] = str(value)
    if log_level:
        at.overrides["log.level"] = log_level
    program = _program(target) if target else None
    if program is not None:
        for name, value in program.settings.items():
            at.overrides.setdefault(name, value)
    if prepare:
        from everbell.cli.init import make_ready

        make_ready(at, Path(at.config).expanduser().parent if at.config else Path())
    loaded = at.load()
    secrets = require_secrets(loaded.directory, os.environ, _database(loaded))
    if note := permission_note(loaded.directory):
        say(f"note: {note}")
    from everbell.bootstrap import run_node
    from everbell.telemetry.logs import set_up

    set_up(loaded.settings.log, loaded.directory)
    runs = program.program() if program is not None else None
    return run_node(loaded, secrets, lambda address: _tell_ready(loaded, address), runs)


def _program(target: str) -> Any:
    """Import ``module:name`` from here. Raises UsageError if that is no program with jobs."""
    module_name, _, name = target.partition(":")
    name = name or "app"
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0]:
            raise
        hint = "run this where the module is, or install it; the form is module:name"
        raise UsageError(f"there is no module {module_name!r}", hint=hint) from None
    found = getattr(module, name, None)
    if not hasattr(found, "program"):
        known = [
            one
            for one, value in vars(module).items()
            if hasattr(value, "program") and not isinstance(value, type)
        ]
        hint = f"did you mean {module_name}:{known[0]}?" if known else "make one: app = Everbell()"
        raise UsageError(f"{module_name} has no Everbell object {name!r}", hint=hint)
    return found


def _database(loaded: Loaded) -> Path | None:
    scheme, _, rest = loaded.settings.database.url.partition(":///")
    return Path(loaded.directory) / rest if scheme == "sqlite" else None


def _tell_ready(loaded: Loaded, address: str) -> None:
    settings = loaded.settings
    url = without_password(settings.database.url)
    say(f"everbell {__version__} · {address} · API {address}/api/v1")
    say(f"config {loaded.path or 'defaults'} · database {url} · Ctrl-C to stop")

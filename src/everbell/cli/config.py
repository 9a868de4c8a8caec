"""``everbell config``: write, check and show the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from everbell.cli.base import Group, State, UsageError, say, state
from everbell.cli.output import print_answer, print_json
from everbell.config.fields import all_fields, json_schema, shown_value
from everbell.config.template import toml_value, write_config
from everbell.domain.errors import ConfigError


@click.group(cls=Group)
def config() -> None:
    """Write, check and show the configuration."""


def target_directory(directory: str | None) -> Path:
    """Return the directory to set up: as given, else beside ``--config``, else here."""
    if directory is not None:
        return Path(directory)
    chosen = state().config
    return Path(chosen).expanduser().parent if chosen else Path()


def make_directory(home: Path) -> None:
    """Make the directory to set up, if it is missing. Raises ConfigError."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"can't make the directory {home}: {error.strerror or error}"
        raise ConfigError(message, hint="name one that you may write to") from error


def set_option(function: Any) -> Any:
    """Add ``--set SECTION.KEY=VALUE``, which comes before file and environment."""
    return click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set one key for this command, as in server.port=9000. Repeatable.",
    )(function)


def apply_assignments(into: State, assignments: tuple[str, ...]) -> None:
    """Take ``KEY=VALUE`` texts as flags. Raises UsageError."""
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            message = f"--set needs KEY=VALUE, not `{text}`"
            raise UsageError(message, hint="as in --set server.port=9000")
        into.overrides[key.strip()] = value


@config.command("init")
@click.argument("directory", required=False)
@click.option("--format", "form", type=click.Choice(["toml", "yaml"]), default="toml")
@click.option("--force", is_flag=True, help="Write a new file; the old one is kept as .bak.")
def init(directory: str | None, form: Literal["toml", "yaml"], *, force: bool) -> None:
    """Write a configuration file in DIRECTORY (here), unless there is one.

    With --config FILE that file is written; its ending decides between TOML and YAML. Nothing
    else is touched: no data, no secrets.
    """
    home = target_directory(directory)
    chosen = state().config
    name = Path(chosen).name if chosen and directory is None else None
    if name is not None:
        form = _form_of(name)
    make_directory(home)
    path, new = write_config(home, form, force=force, name=name)
    if new:
        say(f"wrote {path}: every setting at its default, commented out")
        say("next: everbell credential init --generate")
    else:
        say(f"{path} is already there; nothing was changed (--force writes a new one)")
    click.echo(path)


def _form_of(name: str) -> Literal["toml", "yaml"]:
    ending = name.rpartition(".")[2].lower()
    if ending not in {"toml", "yml", "yaml"}:
        message = f"`{name}` ends neither with .toml nor with .yml"
        raise UsageError(message, hint="name it everbell.toml, or config.yml")
    return "toml" if ending == "toml" else "yaml"


@config.command("show")
@click.option("--origin", is_flag=True, help="Show where each value came from.")
@set_option
def show(assignments: tuple[str, ...], *, origin: bool) -> None:
    """Show every setting as it is now: flag over environment over file over default."""
    at = state()
    apply_assignments(at, assignments)
    loaded = at.load()
    rows = []
    for name, field in all_fields().items():
        value = shown_value(name, field.of(loaded.settings))
        rows.append({"name": name, "value": value, "origin": loaded.origins[name]})
    if at.form == "table":
        for row in rows:
            tail = f"  # {row['origin']}" if origin else ""
            click.echo(f"{row['name']} = {toml_value(row['value'])}{tail}")
        return
    columns = [("NAME", "name"), ("VALUE", "value"), ("ORIGIN", "origin")]
    print_answer({"data": rows}, columns if origin else columns[:2])


@config.command("check")
@set_option
def check(assignments: tuple[str, ...]) -> None:
    """Check file, environment and secrets; exit code 2 if anything is wrong."""
    import os

    from everbell.config.secrets import load_secrets, permission_note

    at = state()
    apply_assignments(at, assignments)
    loaded = at.load()
    secrets = load_secrets(loaded.directory, os.environ)
    click.echo(f"configuration: {loaded.path or 'no file, defaults'}: ok")
    click.echo(f"secrets: {'ok' if secrets else 'none yet (everbell credential init)'}")
    if note := permission_note(loaded.directory):
        say(f"note: {note}")


@config.command("schema")
def schema() -> None:
    """Print the JSON schema of the configuration file, for editors."""
    print_json(json_schema())


@config.command("path")
def path() -> None:
    """Print the configuration file that is read; exit code 5 if there is none."""
    loaded = state().load()
    if loaded.path is None:
        say(f"no configuration file in {loaded.directory}: defaults apply")
        click.get_current_context().exit(5)
    click.echo(loaded.path)

"""``everbell restore``: a backup takes the place of the database; what was there is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from everbell.api.times import iso
from everbell.cli.ask import confirm
from everbell.cli.backup import here_only
from everbell.cli.base import ApiError, Command, say, state
from everbell.cli.client import LocalClient
from everbell.cli.output import Column, print_record
from everbell.config.loader import Loaded
from everbell.config.secrets import (
    FILE_NAME,
    Secrets,
    load_secrets,
    require_secrets,
    secrets_path,
    write_private,
)
from everbell.domain.errors import ConfigError
from everbell.domain.secrets import key_check
from everbell.telemetry.clock import SystemClock

if TYPE_CHECKING:
    from everbell.bootstrap import database_copies

COLUMNS: list[Column] = [
    ("BACKUP", "file"),
    ("DATABASE", "database"),
    ("KEPT", "kept"),
    ("JOBS", "jobs"),
    ("RUNS", "runs"),
    ("LAST SLOT", "last_slot"),
    ("HELD", "held"),
]
_POLICIES = {
    "skip": "marks all of them missed (misfire `skip`)",
    "latest": "runs the newest inside its window, the rest are missed (misfire `latest`)",
    "all": "runs the newest up to max_catch_up inside its window (misfire `all`)",
}


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--hold", "held", is_flag=True, help="Hold everything: nothing starts before you say."
)
@click.option("--with-secrets", is_flag=True, help="Put FILE.everbell in place too.")
@click.option("--dry-run", is_flag=True, help="Check FILE and say what would happen.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def restore(file: Path, *, held: bool, with_secrets: bool, dry_run: bool, yes: bool) -> None:
    """Put the backup FILE in the place of this directory's database.

    Refused while a node runs. The old database is kept beside the new one.
    """
    from everbell.bootstrap import database_copies, database_file

    loaded = here_only(state(), "restore")
    backup, target = file.expanduser().absolute(), database_file(loaded)
    now_us = SystemClock().now_us()
    content = database_copies.examine(backup, now_us)
    secrets = _secrets_for(loaded, backup, content.secret_check, given=with_secrets)
    given = database_copies.release_file(target)
    aside = _free_name(target, now_us)
    _tell_plan(content, target, held=held)
    if dry_run:
        return
    confirm(f"Put {file} in the place of {target}?", yes=yes)
    kept = target.exists()
    staged = database_copies.stage(backup, target, given)
    try:
        _open_once(loaded, secrets, staged, held=held)
        database_copies.release_file(target)
        database_copies.put_in_place(staged, target, aside)
    finally:
        database_copies.forget_stage(target)
    if with_secrets:
        _place_secrets(loaded, backup, now_us)
    shown: dict[str, Any] = {
        "file": str(backup),
        "database": str(target),
        "kept": str(aside) if kept else None,
        "jobs": content.jobs,
        "runs": content.runs,
        "last_slot": iso(content.last_slot_us),
        "held": held,
    }
    print_record({"data": shown}, COLUMNS)
    say("next: everbell start" + (", then `everbell hold list`" if held else ""))


def _secrets_for(loaded: Loaded, backup: Path, check: str, *, given: bool) -> Secrets:
    """Return the secrets that the backup was made with. Raises ConfigError."""
    own = backup.with_name(backup.name + FILE_NAME)
    if given:
        if not own.exists():
            raise ConfigError(f"{own} is missing", hint="`everbell backup --with-secrets` makes it")
        secrets = msgspec.json.decode(own.read_bytes(), type=Secrets)
    else:
        if load_secrets(loaded.directory, os.environ) is None and own.exists():
            hint = "add --with-secrets: they lie beside the backup"
            raise ConfigError(f"no secrets in {loaded.directory}", hint=hint)
        secrets = require_secrets(loaded.directory, os.environ, backup)
    if check and check != key_check(secrets.key):
        hint = f"add --with-secrets: {own} is there" if own.exists() and not given else ""
        message = f"{backup} was made with another secret key"
        raise ConfigError(message, hint=hint or "put the .everbell that belongs to it in place")
    return secrets


def _free_name(target: Path, now_us: int) -> Path:
    stamp = (iso(now_us) or "")[:19].replace(":", "").replace("-", "")
    for number in range(1000):
        name = f"{target.name}.before-restore-{stamp}" + (f"-{number}" if number else "")
        if not target.with_name(name).exists():
            return target.with_name(name)
    raise ConfigError(f"too many old databases beside {target}", hint="remove some")


def _tell_plan(content: database_copies.Content, target: Path, *, held: bool) -> None:
    say(f"the backup holds {_many(content.jobs, 'job')} and {_many(content.runs, 'run')}")
    if content.last_slot_us is not None:
        say(f"its ledger ends at {iso(content.last_slot_us)}; what ran since then is not in it:")
    else:
        say("its ledger is empty:")
    for policy, count in content.waiting.items():
        does = f"each {_POLICIES.get(policy, f'follows misfire `{policy}`')}, when a node starts"
        if held:
            does = "when the hold is released, as you then choose"
        say(f"  {_many(count, 'job')} with slots since then: {does}")
    if not content.waiting:
        say("  no job has slots between then and now")
    if content.active:
        text = "claimed or at work: taken over, or lost if `at_most_once`"
        say(f"  {_many(content.active, 'run')} {text}")
    if content.waiting and not held:
        say("hint: --hold starts nothing until you release it")
    if target.exists():
        say(f"{target} is kept under another name")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _open_once(loaded: Loaded, secrets: Secrets, staged: Path, *, held: bool) -> None:
    """Open the copy as a node would: its schema is brought up to date, and it is held."""
    database = msgspec.structs.replace(loaded.settings.database, url=f"sqlite:///{staged}")
    settings = msgspec.structs.replace(loaded.settings, database=database)
    client = LocalClient(msgspec.structs.replace(loaded, settings=settings), secrets)
    try:
        client.call("GET", "/holds")
        if held:
            body = {"scope": "all", "reason": "restored from a backup"}
            client.call("POST", "/holds", body=body)
    except ApiError as error:
        if error.status != 409:  # it was held when the backup was made
            raise
    finally:
        client.close()


def _place_secrets(loaded: Loaded, backup: Path, now_us: int) -> None:
    path = secrets_path(loaded.directory)
    data = backup.with_name(backup.name + FILE_NAME).read_bytes()
    if path.exists() and path.read_bytes() != data:
        path.rename(_free_name(path, now_us))
    write_private(path, data, replace=True)

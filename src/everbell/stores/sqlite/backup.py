"""Copies of a database that nodes are using, and the way back.

A copy is made by SQLite (``VACUUM INTO``) inside one reading transaction: it holds every
acknowledged commit up to one instant and nothing after it; writers go on meanwhile. It is one
file, without a log beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw

from everbell.domain.errors import ConflictError, NotFoundError, StoreCorrupt
from everbell.domain.job import Record
from everbell.stores.sqlite import moved
from everbell.stores.sqlite.connection import APPLICATION_ID, migrations
from everbell.stores.sqlite.errors import translated

BUSY_MS = 5000
UNKNOWN_TOKENS = 1 << 40
"""Added to the fencing token if the tokens given out since the backup are not known: nobody has
given out as many, and JavaScript still counts exactly after thousands of restores."""


class Content(Record, frozen=True):
    """What a database holds. ``last_slot_us``: the newest slot that the ledger accounts for.

    ``waiting``: jobs whose cursor is before the instant asked for, by misfire policy.
    ``active``: runs that were claimed or running. ``secret_check``: see domain.secrets.
    """

    size_bytes: int
    schema: int
    jobs: int
    runs: int
    active: int
    last_slot_us: int | None
    secret_check: str
    waiting: dict[str, int]


class Marks(Record, frozen=True):
    """What must not be given out again: the last fencing token, the last id of a job."""

    token: int
    job_id: int


def back_up(source: Path, target: Path, *, force: bool = False, now_us: int = 0) -> Content:
    """Write a checked copy, mode 0600, whole or not at all, and return what it holds.

    Raises NotFoundError (no such database), ConflictError (the target is there and not ``force``,
    or is the database itself), StoreCorrupt, StoreUnavailable (disk full, no right), OSError.
    """
    if not source.exists():
        raise NotFoundError(f"no database {source}", hint="`everbell init` makes one")
    if target.exists() and (not force or target.samefile(source)):
        hint = "--force replaces it" if not target.samefile(source) else "name another file"
        raise ConflictError(f"{target} is already there", hint=hint)
    with _temporary(target) as temporary:
        with _opened(source) as db, translated(str(target)):
            moved.refuse(db, str(source))
            db.execute("VACUUM INTO ?", (str(temporary),))
        _sync(temporary)
        content = examine(temporary, now_us)
        if force:
            temporary.replace(target)
        else:
            _link(temporary, target)
    _sync(target.parent)
    return content


def examine(path: Path, now_us: int = 0) -> Content:
    """Check a database as a whole and return what it holds.

    Raises NotFoundError, StoreCorrupt (damaged, of another program, of a newer version).
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}", hint="`everbell backup FILE` makes a backup")
    with _opened(path) as db, translated(str(path)):
        _check(db, path)
        slot = "SELECT max(coalesce(until_us, slot_us)) FROM runs WHERE slot_us <= ?"
        active = "SELECT count(*) FROM runs WHERE state IN ('claimed', 'running')"
        return Content(
            size_bytes=path.stat().st_size,
            schema=db.pragma("user_version"),
            jobs=db.execute("SELECT count(*) FROM jobs").get,
            runs=db.execute("SELECT count(*) FROM runs").get,
            active=db.execute(active).get,
            last_slot_us=db.execute(slot, (now_us or (1 << 62),)).get,
            secret_check=_meta(db, "secret_check"),
            waiting=_waiting(db, now_us),
        )


def release_file(path: Path) -> Marks | None:
    """Make sure that nobody has the database open, and fold its log into it.

    Return what it has given out; None = it is damaged, or not there. Raises ConflictError if it
    is in use: by a node, alive or only paused, or by any other program.
    """
    if not path.exists():
        return None
    try:
        with _opened(path, busy_ms=200) as db, translated(str(path)):
            if db.pragma("application_id") != APPLICATION_ID:
                return None
            try:
                # Needs the file for itself: every open connection of another process forbids it.
                db.execute("PRAGMA journal_mode = DELETE").fetchall()
            except apsw.BusyError:
                message = f"{path} is in use: a node runs, or another program has it open"
                raise ConflictError(message, hint="stop every node, then try again") from None
            return _marks(db)
    except StoreCorrupt:
        return None


def stage(backup: Path, target: Path, given: Marks | None) -> Path:
    """Copy a backup beside its target, so that nothing that was given out is given out again.

    ``given`` None = what the lost database gave out is not known.
    """
    staged = target.with_name(f".{target.name}.restoring")
    _remove(staged)
    shutil.copyfile(backup, staged)
    staged.chmod(0o600)
    with _opened(staged) as db, translated(str(staged)):
        own = _marks(db)
        last = own.token + UNKNOWN_TOKENS if given is None else max(own.token, given.token)
        db.execute("UPDATE fence SET token = ?", (last,))
        last = max(own.job_id, given.job_id if given else 0)
        db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (last,))
    _sync(staged)
    return staged


def put_in_place(staged: Path, target: Path, aside: Path) -> None:
    """Give the staged file the name of the database; what was there is kept as ``aside``."""
    # A log that is left would be played into the file that does not belong to it.
    for suffix in ("-wal", "-shm"):
        log = target.with_name(target.name + suffix)
        if log.exists():
            log.rename(aside.with_name(aside.name + suffix))
    if target.exists():
        _link(target, aside)
    staged.replace(target)
    _sync(target.parent)


def forget_stage(target: Path) -> None:
    """Remove what an interrupted restore left."""
    _remove(target.with_name(f".{target.name}.restoring"))


@contextlib.contextmanager
def _opened(path: Path, busy_ms: int = BUSY_MS) -> Iterator[apsw.Connection]:
    with translated(str(path)):
        # Not read-only: the log of a database that was not closed must be read too.
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(busy_ms)
        yield db
    finally:
        db.close()


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    path = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _remove(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield path
    finally:
        _remove(path)


def _check(db: apsw.Connection, path: Path) -> None:
    found = db.execute("PRAGMA integrity_check(1)").get
    hint = "this copy can't be used: take another backup"
    if found != "ok":
        what = str(found).removeprefix("*** in database main ***").strip()
        raise StoreCorrupt(f"{path} is damaged: {what}", hint=hint)
    if db.pragma("application_id") != APPLICATION_ID:
        raise StoreCorrupt(f"{path} is no database of Everbell", hint="name a backup of one")
    moved.refuse(db, str(path))
    newest, version = migrations()[-1][0], db.pragma("user_version")
    if version > newest:
        message = f"{path} has schema version {version}, this Everbell knows {newest}"
        raise StoreCorrupt(message, hint="use the newer everbell that wrote it")
    if broken := db.execute("PRAGMA foreign_key_check").get:
        raise StoreCorrupt(f"{path} is damaged: a row refers to nothing ({broken})", hint=hint)


def _waiting(db: apsw.Connection, now_us: int) -> dict[str, int]:
    rows = db.execute(
        "SELECT coalesce(json_extract(d.definition, '$.misfire.policy'), 'latest') AS policy,"
        " count(*) FROM jobs JOIN definitions d ON d.job_id = jobs.id"
        " WHERE next_slot_us < ? AND enabled = 1 AND parked = '' AND quarantined = ''"
        " AND json_valid(d.definition) GROUP BY policy ORDER BY policy",
        (now_us,),
    )
    return {str(policy): int(count) for policy, count in rows}


def _marks(db: apsw.Connection) -> Marks:
    token = db.execute("SELECT token FROM fence").get
    job_id = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").get
    return Marks(token=int(token or 0), job_id=int(job_id or 0))


def _meta(db: apsw.Connection, key: str) -> str:
    return str(db.execute("SELECT value FROM meta WHERE key = ?", (key,)).get or "")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; unlike a rename, this fails if the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise ConflictError(f"{target} is already there", hint="name another file") from None


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Opens a database file: settings, integrity, migrations."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import apsw

from everbell.domain.errors import StoreCorrupt, StoreUnavailable
from everbell.stores.sqlite import moved
from everbell.stores.sqlite.errors import RESTORE, translated

APPLICATION_ID = 0x45564231
"""``EVB1`` in the file's header, so that no other program's database is taken for ours."""

QUICK_CHECK_MAX_BYTES = 256 * 1024 * 1024
"""Files up to this size are checked as a whole at every start (about 1 s); of larger ones only
the header and the schema are, and pages as they are read. ``PRAGMA integrity_check`` by hand."""

LOG_PAUSE_S = 0.02
_SYNCHRONOUS = {"off": 0, "normal": 1, "full": 2, "extra": 3}


def migrations() -> list[tuple[int, str]]:
    """Return the numbered migrations, in order."""
    found: list[tuple[int, str]] = []
    for item in resources.files("everbell.stores.sqlite.migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", item.name)
        if match:
            found.append((int(match[1]), item.read_text(encoding="utf-8")))
    return sorted(found)


def open_writer(path: str, *, synchronous: str, busy_timeout_s: float) -> apsw.Connection:
    """Open, check and migrate the database.

    Raises StoreUnavailable (no such directory, no right, locked), StoreCorrupt (damaged, not
    ours, or of a newer version), ConfigError (moved to another database).
    """
    _check_directory(path)
    with translated(path):
        db = apsw.Connection(path, statementcachesize=200)
        try:
            _prepare(db, path, synchronous, busy_timeout_s)
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: str, *, busy_timeout_s: float) -> apsw.Connection:
    """Open a second connection that only reads."""
    with translated(path):
        db = apsw.Connection(path, statementcachesize=200)
        db.set_busy_timeout(int(busy_timeout_s * 1000))
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA cache_size = -16000")
    return db


def open_still(path: str) -> apsw.Connection:
    """Open a file that only is looked at, such as a backup; nothing beside it is made or changed.

    A file of an older schema is copied into memory and brought up to date there. Raises
    StoreUnavailable, StoreCorrupt.
    """
    if not Path(path).is_file():
        message = f"no file {path}"
        raise StoreUnavailable(message, hint="name a database of Everbell, or a backup of one")
    # Without a log beside it nobody writes; with one, its content belongs to the database.
    live = Path(f"{path}-wal").exists()
    uri = f"{Path(path).absolute().as_uri()}?{'mode=ro' if live else 'immutable=1'}"
    with translated(path):
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        db = apsw.Connection(uri, flags=flags, statementcachesize=200)
        try:
            _check_header(db, path)
            if db.pragma("application_id") != APPLICATION_ID:
                message = f"{path} is no database of Everbell"
                raise StoreCorrupt(message, hint="name a database of Everbell, or a backup")
            if moved.schema_of(db.pragma("user_version")) < migrations()[-1][0]:
                db = _newer_copy(db)
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
    return db


def _newer_copy(old: apsw.Connection) -> apsw.Connection:
    new = apsw.Connection(":memory:")
    with new.backup("main", old, "main") as copying:
        copying.step()
    old.close()
    new.execute(f"PRAGMA user_version = {moved.schema_of(new.pragma('user_version'))}")
    migrate(new)
    return new


def _check_directory(path: str) -> None:
    if path == ":memory:":
        return
    parent = Path(path).absolute().parent
    try:
        exists = parent.is_dir()
        is_file = not Path(path).is_dir()
    except OSError as error:
        message = f"the database {path} can't be reached: {error.strerror}"
        raise StoreUnavailable(message, hint="check the rights of its directory") from error
    if not exists:
        message = f"the directory of the database does not exist: {parent}"
        raise StoreUnavailable(message, hint=f"create it: mkdir -p {parent}")
    if not is_file:
        message = f"the database's path is a directory: {path}"
        raise StoreUnavailable(message, hint="name a file inside it, for example everbell.db")


def _prepare(db: apsw.Connection, path: str, synchronous: str, busy_timeout_s: float) -> None:
    db.set_busy_timeout(int(busy_timeout_s * 1000))
    _check_header(db, path)
    moved.refuse(db, path)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA cache_size = -64000")
    if path != ":memory:":
        _use_log(db, busy_timeout_s)
        db.execute("PRAGMA wal_autocheckpoint = 4000").fetchall()
        db.execute("PRAGMA journal_size_limit = 67108864").fetchall()
    db.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[synchronous]}")
    migrate(db)


def _use_log(db: apsw.Connection, busy_timeout_s: float) -> None:
    """Turn the write-ahead log on. SQLite itself does not wait here for others who do the same."""
    for left in range(int(busy_timeout_s / LOG_PAUSE_S), -1, -1):
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
        except apsw.BusyError:
            if not left:
                raise
            apsw.sleep(int(LOG_PAUSE_S * 1000))
        else:
            return


def _check_header(db: apsw.Connection, path: str) -> None:
    """Refuse a file that is damaged, somebody else's, or of a newer version."""
    with db:  # one look: another process may be making the tables
        version = moved.schema_of(db.pragma("user_version"))
        owner = db.pragma("application_id")
        tables = db.execute("SELECT count(*) FROM sqlite_schema").get
    if owner != APPLICATION_ID and (owner != 0 or version != 0 or tables):
        message = f"{path} is the database of another program"
        raise StoreCorrupt(message, hint="name another file in the configuration")
    newest = migrations()[-1][0]
    if version > newest:
        message = f"{path} has schema version {version}, this Everbell knows {newest}"
        raise StoreCorrupt(message, hint="use the newer everbell, or a backup from before it")
    pages = db.pragma("page_count") * db.pragma("page_size")
    if tables and pages <= QUICK_CHECK_MAX_BYTES:
        found = db.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            what = str(found).removeprefix("*** in database main ***").strip()
            raise StoreCorrupt(f"{path} is damaged: {what}", hint=RESTORE)


def migrate(db: apsw.Connection, upto: int | None = None) -> None:
    """Apply the migrations that are missing, each in its own transaction.

    Several processes may do this at once: the version is read again inside the transaction.
    """
    for number, sql in migrations():
        if upto is not None and number > upto:
            break
        if db.pragma("user_version") >= number:
            continue
        db.execute("BEGIN IMMEDIATE")
        try:
            if db.pragma("user_version") < number:
                db.execute(sql)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

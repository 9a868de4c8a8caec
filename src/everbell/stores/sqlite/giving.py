"""The source of a move: a database that nobody else has open, read as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from everbell.domain.errors import ConflictError, NotFoundError, StoreCorrupt
from everbell.domain.moving import COUNTED, DAY_US, PARTS, Move, Row, Shape
from everbell.ports.moving import Numbers, Source
from everbell.stores.sqlite import moved
from everbell.stores.sqlite.checkup import users_of
from everbell.stores.sqlite.connection import APPLICATION_ID, migrate, migrations
from everbell.stores.sqlite.errors import translated

ROWS = 5000
BYTES = 4_000_000
"""A part of a table that is read ends with either."""
DAYS = 400
"""So many days get partitions of their own, the newest: each costs the target locks."""
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table'"
_LAST = "SELECT name, seq FROM sqlite_sequence"
_HEAVY = frozenset({"definitions", "job_versions", "output", "remembered", "audit"})


def look(path: Path, now_us: int) -> Source:
    """Look at a database that is to be moved, also while nodes use it; changes nothing.

    Raises NotFoundError, StoreCorrupt, StoreUnavailable.
    """
    db = _connected(path)
    try:
        with translated(str(path)):
            schema = _schema(db, str(path))
            tables = {str(name) for (name,) in db.execute(_TABLES)}
            rows = {
                part.table: int(db.execute(f"SELECT count(*) FROM {part.table}").get)
                for part in PARTS
                if part.table in tables
            }
            alive = db.execute(
                "SELECT name FROM nodes WHERE lease_until_us >= ? AND state NOT IN"
                " ('dead', 'left') ORDER BY name",
                (now_us,),
            ).fetchall()
            active = "SELECT count(*) FROM runs WHERE state IN ('claimed', 'running')"
            check = "SELECT value FROM meta WHERE key = 'secret_check'"
            return Source(
                where=f"sqlite:///{path}",
                schema=schema,
                newest=migrations()[-1][0],
                rows=rows,
                active=int(db.execute(active).get),
                queued=int(db.execute("SELECT count(*) FROM runs WHERE state = 'queued'").get),
                nodes=tuple(str(name) for (name,) in alive),
                users=tuple(users_of(path)),
                secret_check=str(db.execute(check).get or ""),
                move=moved.stored(db),
            )
    finally:
        db.close()


def _connected(path: Path) -> apsw.Connection:
    if not path.is_file():
        hint = "name the database of the installation to be moved: sqlite:///everbell.db"
        raise NotFoundError(f"no database {path}", hint=hint)
    with translated(str(path)):
        return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


def _schema(db: apsw.Connection, path: str) -> int:
    if db.pragma("application_id") != APPLICATION_ID:
        message = f"{path} is no database of Everbell"
        raise StoreCorrupt(message, hint="name the one that database.url of its node names")
    newest, version = migrations()[-1][0], moved.schema_of(db.pragma("user_version"))
    if version > newest:
        message = f"{path} has schema version {version}, this Everbell knows {newest}"
        raise StoreCorrupt(message, hint="use the newer everbell that wrote it")
    return version


class SqliteGiver:
    """Implements ``everbell.ports.moving.Giver``; the obligations are written there."""

    def __init__(self, db: apsw.Connection, path: str) -> None:
        self._db = db
        self._path = path
        self.where = f"sqlite:///{path}"

    @classmethod
    def open(cls, path: Path) -> SqliteGiver:
        """Open a file for itself and bring an older schema up to date.

        Raises NotFoundError, ConflictError (a node runs, or another program has it open; also if
        it is only paused), StoreCorrupt, StoreUnavailable.
        """
        made = cls(_connected(path), str(path))
        try:
            with translated(str(path)):
                made._prepare()
        except BaseException:
            made.close()
            raise
        return made

    def _prepare(self) -> None:
        db, path = self._db, self._path
        db.set_busy_timeout(500)
        _schema(db, path)
        try:
            # The log can be folded in only if nobody else has the file open, and then the file
            # stays ours until it is closed: what starts meanwhile finds it locked.
            db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            mode = db.execute("PRAGMA journal_mode = DELETE").get
            db.execute("BEGIN EXCLUSIVE")
            db.execute("COMMIT")
        except apsw.BusyError:
            mode = "busy"
        if mode != "delete":
            message = f"{path} is in use: a node runs, or another program has it open"
            hint = "stop every node (`everbell status` lists them), then move"
            raise ConflictError(message, hint=hint)
        db.execute("PRAGMA synchronous = EXTRA")
        if not moved.is_moved(db):
            migrate(db)

    def move(self) -> Move | None:
        """See Giver."""
        with translated(self._path):
            found = moved.stored(self._db)
            if moved.is_moved(self._db) and found is None:
                message = f"{self._path} is marked as moved, and nothing says where to"
                raise StoreCorrupt(message, hint="restore its newest backup")
            return found

    def begin(self, move: Move) -> None:
        """See Giver."""
        with translated(self._path):
            self._db.execute("BEGIN EXCLUSIVE")
            moved.store(self._db, move)
            self._db.execute("COMMIT")
            self._db.execute("BEGIN EXCLUSIVE")

    def columns(self) -> dict[str, list[str]]:
        """See Giver."""
        with translated(self._path):
            tables = self._db.execute(_TABLES).fetchall()
            return {
                str(table): [
                    str(name)
                    for (name,) in self._db.execute(
                        "SELECT name FROM pragma_table_info(?)", (table,)
                    )
                ]
                for (table,) in tables
            }

    def count(self, shape: Shape) -> int:
        """See Giver."""
        part = shape.part
        with translated(self._path):
            return int(
                self._db.execute(f"SELECT count(*) FROM {part.source} WHERE {part.where}").get
            )

    def rows(self, shape: Shape) -> Iterator[list[Row]]:
        """See Giver."""
        part = shape.part
        named = ", ".join(
            part.renamed[name][0] if name in part.renamed else f'"{name}"' for name in shape.columns
        )
        query = f"SELECT {named} FROM {part.source} WHERE {part.where} ORDER BY {part.order}"
        batch: list[Row] = []
        size = 0
        heavy = part.name in _HEAVY
        with translated(self._path):
            for row in self._db.execute(query):
                batch.append(row)
                if heavy:
                    size += sum(len(value) for value in row if isinstance(value, str | bytes))
                if len(batch) >= ROWS or size >= BYTES:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch

    def days(self, until_us: int) -> list[int]:
        """See Giver."""
        with translated(self._path):
            found = self._db.execute(
                f"SELECT DISTINCT slot_us / {DAY_US} FROM runs WHERE slot_us BETWEEN ? AND ?"
                " ORDER BY 1 DESC LIMIT ?",
                (0, until_us, DAYS),
            ).fetchall()
            days: list[Any] = [day for (day,) in found]
            return sorted(days)

    def numbers(self) -> Numbers:
        """See Giver."""
        with translated(self._path):
            token = self._db.execute("SELECT token FROM fence").get
            last = {name: seq for name, seq in self._db.execute(_LAST)}  # noqa: C416  (typed)
            ids = {name: int(last.get(name) or 0) for name in COUNTED}
            return Numbers(token=int(token or 0), ids=ids)

    def leave(self, move: Move) -> None:
        """See Giver."""
        with translated(self._path) as watch:
            moved.store(self._db, move)
            watch.committing = True
            self._db.execute("COMMIT")

    def close(self) -> None:
        """See Giver."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.close()

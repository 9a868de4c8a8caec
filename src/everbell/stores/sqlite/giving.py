"""The source of a move: a database that nobody else has open, read as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw

from everbell.domain.errors import ConflictError, NotFoundError, StoreCorrupt
from everbell.domain.moving import COUNTED, Move, Row, Shape
from everbell.ports.moving import Numbers
from everbell.stores.sqlite import moved
from everbell.stores.sqlite.connection import APPLICATION_ID, migrate, migrations
from everbell.stores.sqlite.errors import translated

ROWS = 5000
BYTES = 4_000_000
"""A part of a table that is read ends with either."""
_LAST = "SELECT name, seq FROM sqlite_sequence"
_HEAVY = frozenset({"definitions", "job_versions", "output", "remembered", "audit"})


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
        if not path.is_file():
            hint = "name the database of the installation to be moved: sqlite:///everbell.db"
            raise NotFoundError(f"no database {path}", hint=hint)
        with translated(str(path)):
            db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        made = cls(db, str(path))
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
        if db.pragma("application_id") != APPLICATION_ID:
            message = f"{path} is no database of Everbell"
            raise StoreCorrupt(message, hint="name the one that database.url of its node names")
        newest, version = migrations()[-1][0], moved.schema_of(db.pragma("user_version"))
        if version > newest:
            message = f"{path} has schema version {version}, this Everbell knows {newest}"
            raise StoreCorrupt(message, hint="use the newer everbell that wrote it")
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
            tables = self._db.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table'"
            ).fetchall()
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

"""The mark of a database that was moved away: nobody may go on with it, everybody is sent on."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import apsw

from everbell.domain.errors import ConfigError
from everbell.domain.moving import MARK, Move, decode_move, encode_move

MOVED = 1_000_000
"""Added to the schema's number, so that versions that know of no mark refuse the file too."""


def schema_of(version: int) -> int:
    """Return the schema's number of a database, moved or not."""
    return version % MOVED


def is_moved(db: apsw.Connection) -> bool:
    """Return whether the database was moved away."""
    return int(db.pragma("user_version")) >= MOVED


def stored(db: apsw.Connection) -> Move | None:
    """Return the mark, whatever its state."""
    with contextlib.suppress(apsw.SQLError):  # no such table: the file is new
        return decode_move(db.execute("SELECT value FROM meta WHERE key = ?", (MARK,)).get)
    return None


def store(db: apsw.Connection, move: Move) -> None:
    """Write the mark; the caller commits."""
    db.execute("REPLACE INTO meta (key, value) VALUES (?, ?)", (MARK, encode_move(move)))
    if move.state == "moved" and not is_moved(db):
        db.execute(f"PRAGMA user_version = {MOVED + db.pragma('user_version')}")


def refuse(db: apsw.Connection, path: str) -> None:
    """Raise ConfigError if the database was moved away."""
    if not is_moved(db):
        return
    move = stored(db)
    target = move.target if move is not None else "another database"
    at = datetime.fromtimestamp((move.at_us if move else 0) / 1e6, UTC)
    message = f"{path} was moved to {target} on {at:%Y-%m-%dT%H:%M:%SZ}"
    hint = f'use it: database.url = "{target}", with its password'
    raise ConfigError(message, hint=hint)

"""Turns PostgreSQL's and the driver's errors into ours, each with what to do next."""

from __future__ import annotations

import asyncio
import ssl

import asyncpg

from everbell.domain.errors import (
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreUnknownOutcome,
    UserError,
    ValidationError,
)

AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,  # another node has just brought the schema up to date
    asyncpg.CheckViolationError,  # the day of this row was made while it went to the rest
)
"""Nothing was done, and the same again can do it at once."""

# SQLSTATE, or its class: what it means, and what to do. The longest match counts.
_STATES: dict[str, tuple[str, str]] = {
    "08": (
        "the connection to the database was lost",
        "nodes try again by themselves; see the server's log: it may refuse database.tls.cert",
    ),
    "28": (
        "the database refuses the login",
        "check database.url (database.username and password), database.tls, and pg_hba.conf",
    ),
    "28P01": (
        "the database refuses the password",
        "check the password in database.url, or database.password",
    ),
    "3D000": (
        "the database does not exist",
        "make it with CREATE DATABASE, or change the name in database.url, or database.name",
    ),
    "42501": (
        "the role lacks a right",
        "grant it: the role must own the schema everbell, or may use all of its tables",
    ),
    "25006": (
        "the server is a standby, which can't be written to",
        "name the primary in database.url (or database.addr), or several hosts with commas",
    ),
    "53": ("the server is out of a resource", "see the server's log: disk, memory, connections"),
    "53100": ("the server's disk is full", "free space on it; nothing acknowledged is lost"),
    "53200": (
        "the server is out of memory, or of locks",
        "raise its max_locks_per_transaction (kept days take some), or lower engine.history_days",
    ),
    "53300": (
        "the server has no connection left",
        "raise max_connections, or lower database.connections",
    ),
    "55P03": (
        "another transaction holds a lock",
        "end it (see pg_stat_activity), or raise database.busy_timeout",
    ),
    "57": ("the server stops, starts or ended the statement", "it is tried again by itself"),
    "58": ("the server's disk failed to read or write", "check that machine and its log"),
}
# The driver's own state may be what a lost connection breaks first.
_LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InternalClientError,
)
_UNREACHABLE = "check that it runs, and the host in database.url, or database.addr"
_UNTRUSTED = (
    "check database.tls.ca, and that the server's certificate has the host's name as it stands in"
    " database.url (database.addr)"
)
READ_ONLY = "25006"
"""The primary became a standby under our connections: nothing was done, and they are of no use."""
RESTORE = "restore the newest backup of the database, or name an empty one"


def is_unsent(error: BaseException | None) -> bool:
    """Return whether the driver itself refused: the server has heard nothing of it."""
    refused = isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError)
    return refused and not isinstance(error, asyncpg.ProtocolError)


def is_lost(error: BaseException, *, closed: bool) -> bool:
    """Return whether the connection is gone, so that nobody can tell what the server did."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith("08") or state in {"57P01", "57P02", READ_ONLY}
    return isinstance(error, _LOST) or (closed and isinstance(error, asyncpg.InterfaceError))


def translate(error: BaseException, where: str, *, unknown: bool) -> StoreError | UserError:
    """Return what ``error`` means to a caller of the store at ``where``.

    ``unknown``: the connection was lost where the work may have been kept.
    """
    if unknown and getattr(error, "sqlstate", "") != READ_ONLY:
        message = f"the connection to {where} was lost while it was writing ({_short(error)})"
        return StoreUnknownOutcome(message, hint="read again before trying again")
    if isinstance(error, asyncpg.DataError | UnicodeEncodeError | OverflowError):
        message = f"a value can't be stored: {_short(error)}"
        hint = "texts are valid UTF-8 without NUL, whole numbers below 2**63"
        return ValidationError(message, hint=hint)
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        for length in (5, 2):
            if (found := _STATES.get(state[:length])) is not None:
                return StoreUnavailable(f"{found[0]}: {where} ({_short(error)})", hint=found[1])
        if isinstance(error, AGAIN):
            hint = "it is tried again by itself"
            return StoreUnavailable(f"others write the same: {where} ({_short(error)})", hint=hint)
        message = f"{where} does not have the shape that this version expects ({_short(error)})"
        return StoreCorrupt(message, hint="was it changed by hand? " + RESTORE)
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        message, hint = _STATES[READ_ONLY]
        return StoreUnavailable(f"{message}: {where}", hint=hint)
    if isinstance(error, ssl.SSLError):
        message = f"no trusted connection to the database: {where} ({_short(error)})"
        return StoreUnavailable(message, hint=_UNTRUSTED)
    message = f"the database can't be reached: {where} ({_short(error)})"
    return StoreUnavailable(message, hint=_UNREACHABLE)


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""Turns SQLite's errors into ours, each with what to do next."""

from __future__ import annotations

from types import TracebackType

import apsw

from everbell.domain.errors import (
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreUnknownOutcome,
    ValidationError,
)

_UNAVAILABLE: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (
        apsw.BusyError,
        "the database is locked by another process",
        "a long transaction of another program holds it; end that program or raise busy_timeout",
    ),
    (
        apsw.LockedError,
        "a table of the database is locked",
        "end the program that holds it, then try again",
    ),
    (
        apsw.FullError,
        "the disk that holds the database is full",
        "free space on that disk; nothing that was acknowledged is lost",
    ),
    (
        apsw.CantOpenError,
        "the database can't be opened",
        "check that its directory exists and may be written to by this user",
    ),
    (
        apsw.ReadOnlyError,
        "the database is read-only",
        "check the owner and the mode of the file and of its directory",
    ),
    (
        apsw.PermissionsError,
        "access to the database is denied",
        "check the owner and the mode of the file and of its directory",
    ),
    (
        apsw.IOError,
        "the disk that holds the database failed to read or write",
        "check the disk and the system log; then run `PRAGMA integrity_check`",
    ),
    (apsw.NoMemError, "SQLite is out of memory", "free memory, then try again"),
    (apsw.InterruptError, "the database call was interrupted", "try again"),
    (
        apsw.ConnectionClosedError,
        "the database is closed",
        "the node is stopping; start it again",
    ),
)

RESTORE = "restore the newest backup of the file, or move it away to start with an empty one"


class translated:  # noqa: N801  (reads as a statement: `with translated(path):`)
    """The one place where an error of SQLite becomes one of ours.

    ``committing`` True: an input/output error leaves it unknown whether the work was kept.
    """

    __slots__ = ("committing", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.committing = False

    def __enter__(self) -> translated:
        """Begin to watch."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise what the error means."""
        if error is None:
            return
        if isinstance(error, apsw.Error):
            raise translate(error, self.path, committing=self.committing) from error
        if isinstance(error, OverflowError):
            message = "a number is larger than 64 bits"
            raise ValidationError(message, hint="use whole numbers below 2**63") from error
        if isinstance(error, UnicodeEncodeError):
            message = "a text holds a character that UTF-8 can't carry (half a surrogate pair)"
            raise ValidationError(message, hint="send valid UTF-8 text") from error


def translate(error: apsw.Error, path: str, *, committing: bool = False) -> StoreError:
    """Return what ``error`` means to a caller of the store."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreCorrupt(f"{path} is damaged or no SQLite database ({error})", hint=RESTORE)
    if committing and isinstance(error, apsw.IOError):
        return StoreUnknownOutcome(
            f"the disk failed while {path} was being written ({error})",
            hint="read again before trying again",
        )
    for kind, message, hint in _UNAVAILABLE:
        if isinstance(error, kind):
            return StoreUnavailable(f"{message}: {path} ({error})", hint=hint)
    return StoreCorrupt(
        f"{path} does not have the shape that this version expects ({error})",
        hint="was the file changed by hand? " + RESTORE,
    )

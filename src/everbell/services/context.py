"""What every use case needs, and who asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from everbell.config.schema import Settings
from everbell.domain.errors import ConflictError, ForbiddenError, NotFoundError
from everbell.domain.job import Action, Record
from everbell.domain.records import SCOPES, Scope
from everbell.ports.clock import Clock, Entropy
from everbell.ports.observer import Change, Hints
from everbell.ports.store import Store


class VersionMismatch(ConflictError):
    """The caller's version of the job is not the stored one: read again, then decide."""

    code = "version_mismatch"
    status = 412


class NoHints:
    """For processes without an engine: changes are found by polling the store."""

    def changed(self, change: Change) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Services:
    """The wiring of all use cases. ``checks`` holds one refusal check per action kind.

    ``secret_key`` keys the hashes of credentials; it never leaves the process. ``counts`` caches
    when (monotonic, s) a project's jobs were counted, and how many there are at most.
    """

    store: Store
    clock: Clock
    entropy: Entropy
    settings: Settings
    secret_key: bytes
    checks: Mapping[str, Callable[[Action], None]] = field(default_factory=dict)
    hints: Hints = field(default_factory=NoHints)
    counts: dict[int, tuple[float, int]] = field(default_factory=dict)


class Actor(Record, frozen=True, kw_only=True):
    """Who asks. ``project_id`` None = every project; else nothing outside of it exists.

    ``address`` and ``request_id`` tell the audit log where a change came from.
    """

    name: str
    scopes: tuple[Scope, ...]
    project_id: int | None = None
    credential_id: int = 0
    address: str = ""
    request_id: str = ""

    def require(self, scope: Scope) -> None:
        """Raise ForbiddenError unless the actor has the scope (``admin`` has them all)."""
        if scope in self.scopes or "admin" in self.scopes:
            return
        raise ForbiddenError(
            f"this credential lacks the scope {scope!r}",
            hint=f"it has: {', '.join(self.scopes) or 'none'}; ask an admin for another one",
        )

    def require_all_projects(self, what: str) -> None:
        """Raise ForbiddenError if the actor is bound to one project."""
        if self.project_id is not None:
            raise ForbiddenError(
                f"a credential bound to one project can't {what}",
                hint="use a credential that is not bound to a project",
            )

    def sees(self, project_id: int) -> bool:
        """Whether things of this project exist for the actor."""
        return self.project_id is None or self.project_id == project_id

    @property
    def project_ids(self) -> tuple[int, ...] | None:
        """The filter that lists need; None = no filter."""
        return None if self.project_id is None else (self.project_id,)


LOCAL = Actor(name="local", scopes=SCOPES)
"""The process itself: command line and dashboard after their own login."""


def missing(kind: str, key: object) -> NotFoundError:
    """Return the one error for absent and for hidden things, so that neither can be told apart."""
    return NotFoundError(f"no {kind} {str(key)[:80]!r}", hint=f"list what there is: GET /{kind}s")


def as_key(text: int | str) -> int | str:
    """Read an id in text: an integer stays an integer, all else (uuid, name, key) text."""
    if isinstance(text, int):
        return text
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    return text

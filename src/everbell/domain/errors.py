"""Every error that Everbell raises on purpose.

::

    EverbellError
    |-- UserError                bad input: shown with what, where, why and what next
    |   |-- ScheduleError        a schedule text that can't be read (position and hint)
    |   |-- ValidationError      one or more fields are wrong
    |   |-- NotFoundError        no such project, job, run, credential, node, hold
    |   |-- ConflictError        the name is taken, the version is old, the state forbids it
    |   |-- AuthenticationError  no key, wrong key, revoked or expired key
    |   |-- ForbiddenError       the key's scopes or project do not allow it
    |   |-- LimitError           larger, longer or more than allowed
    |   `-- ConfigError          a configuration key or file that can't be used
    |-- StoreError
    |   |-- StoreUnavailable     not done, try again (locked, full, gone)
    |   |-- StoreConflict        lost against someone else: re-read
    |   |-- StoreCorrupt         the data can't be trusted: restore
    |   `-- StoreUnknownOutcome  the answer was lost: re-read by key
    |-- RefusedError             an executor must not do this (address, interpreter, limits)
    `-- Bug                      a broken promise inside: stop the node
"""

from __future__ import annotations


class EverbellError(Exception):
    """Base of all errors raised on purpose. ``code`` is stable, for programs to branch on."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FieldProblem:
    """One wrong field: where (JSON pointer), what, and what to do."""

    __slots__ = ("code", "hint", "message", "pointer")

    def __init__(
        self, pointer: str, message: str, *, hint: str = "", code: str = "invalid"
    ) -> None:
        self.pointer = pointer
        self.message = message
        self.hint = hint
        self.code = code


class UserError(EverbellError):
    """Input that can't be accepted. Nothing was changed."""

    code = "bad_request"
    status = 400

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        problems: tuple[FieldProblem, ...] = (),
        suggestions: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems
        self.suggestions = suggestions


class ScheduleError(UserError):
    """A schedule text that can't be read, with the position of the first wrong character."""

    code = "invalid_schedule"
    status = 422

    def __init__(self, message: str, *, text: str, position: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.position = position

    def __str__(self) -> str:
        """Show the message, the text with a caret under the position, and the hint."""
        lines = [self.message, f"  {self.text}", "  " + " " * self.position + "^"]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class ValidationError(UserError):
    """One or more fields are wrong; ``problems`` names each."""

    code = "validation_failed"
    status = 422


class NotFoundError(UserError):
    """No such thing, or not one that this credential may see."""

    code = "not_found"
    status = 404


class ConflictError(UserError):
    """The name is taken, the version is old, or the state forbids it."""

    code = "conflict"
    status = 409


class AuthenticationError(UserError):
    """No credential, or one that is wrong, archived or expired."""

    code = "unauthenticated"
    status = 401


class ForbiddenError(UserError):
    """The credential is good, but its scopes do not allow this."""

    code = "forbidden"
    status = 403


class LimitError(UserError):
    """Larger, longer or more than the configured limit."""

    code = "limit_exceeded"
    status = 413


class ConfigError(UserError):
    """A configuration key, value or file that can't be used."""

    code = "invalid_config"
    status = 422


class StoreError(EverbellError):
    """The store could not do it."""

    code = "store_error"
    status = 503


class StoreUnavailable(StoreError):
    """Nothing was done; the same call may work later (locked, disk full, connection lost)."""

    code = "store_unavailable"


class StoreConflict(StoreError):
    """Somebody else was faster: read again, then decide."""

    code = "store_conflict"
    status = 409


class StoreCorrupt(StoreError):
    """The data or its schema can't be trusted; the store stays closed."""

    code = "store_corrupt"
    status = 500


class StoreUnknownOutcome(StoreError):
    """The answer was lost: it may or may not be done. Read again by key."""

    code = "store_unknown_outcome"


class RefusedError(EverbellError):
    """An executor must not do this: the run fails and is not retried."""

    code = "refused"
    status = 422


class Bug(EverbellError):
    """A broken promise inside Everbell: the node stops loudly."""

    code = "bug"


def too_many_jobs(count: int, most: int) -> LimitError:
    """Return the error of jobs that a project has no room for."""
    return LimitError(
        f"a project would have {count} jobs",
        hint=f"at most {most} (setting api.max_jobs); delete some, or use another project",
    )


def no_such(kind: str, key: object) -> NotFoundError:
    """Return the error of a thing that a store does not have."""
    return NotFoundError(f"no {kind} {key!r}", hint=f"`everbell {kind} list` shows them")


def job_name_taken(name: str) -> ConflictError:
    """Return the error of two jobs of a project with one name."""
    message = f"the project has a job named {name!r} already"
    return ConflictError(message, hint="choose another name, or change that job")


def project_name_taken(name: str) -> ConflictError:
    """Return the error of two projects with one name."""
    message = f"there is a project named {name!r} already"
    return ConflictError(message, hint="choose another name")


def job_changed(job_id: int, version: int, expected: int) -> StoreConflict:
    """Return the error of a job that somebody else changed first."""
    return _reread("job", f"job {job_id} is at version {version}, not {expected}")


def slots_decided(job_id: int) -> StoreConflict:
    """Return the error of an edit whose slots the engine decided first."""
    return _reread("job", f"slots of job {job_id} were decided meanwhile")


def credential_taken() -> ConflictError:
    """Return the error of two credentials with one key."""
    message = "there is a credential with this API key or uuid already"
    return ConflictError(message, hint="create it again: keys are drawn at random")


def project_changed(project_id: int) -> StoreConflict:
    """Return the error of a project that somebody else changed first."""
    return _reread("project", f"project {project_id} was changed meanwhile")


def _reread(kind: str, message: str) -> StoreConflict:
    return StoreConflict(message, hint=f"read the {kind} again and repeat the change")


def project_in_use() -> ConflictError:
    """Return the error of a project that can't be deleted yet."""
    return ConflictError("the project still has jobs", hint="delete its jobs first")


def node_alive(name: str, node_id: str) -> ConflictError:
    """Return the error of a node that can't be removed yet."""
    message = f"node {name} ({node_id}) is alive"
    return ConflictError(message, hint="stop it first: `everbell stop` on its machine")


def unreadable_definition() -> ConflictError:
    """Return the error of a change that would keep a definition which can't be read."""
    message = "the stored definition of this job can't be read"
    return ConflictError(message, hint="give it a whole new definition, or delete it")

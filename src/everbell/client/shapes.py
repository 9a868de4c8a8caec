"""What is sent: jobs, their actions and policies.

A field that is not given is not sent: the server's default holds, or, in a change, what is stored
stays. None restores the default. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

Key = int | str
"""An id or a uuid; of jobs and projects also the name."""

Fields = Mapping[str, Any]
"""A part of a shape, for a change that leaves the part's other fields as they are."""


class Action:
    """What a run does: HttpAction, CommandAction, ScriptAction, PythonAction, QueueAction or
    OtherAction.
    """

    __slots__ = ()


class HttpAction(Action, msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="http"):
    """An HTTP request. Success is a status in ``success`` (``2xx`` or single codes).

    ``batch``: runs that start together and agree in all of this share one request.
    """

    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    success: tuple[str, ...] = ("2xx",)
    batch: bool = False


class CommandAction(
    Action, msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="command"
):
    """A program with its arguments, started without a shell, on the node."""

    argv: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = {}
    user: str | None = None


class ScriptAction(
    Action, msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="script"
):
    """A text that is stored with the job and given to an interpreter of the node."""

    text: str
    interpreter: str = "sh"
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = {}
    user: str | None = None


class PythonAction(
    Action, msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="python"
):
    """A Python function, named as ``module:function``; args and kwargs are JSON values.

    ``mode`` is auto, thread, inline or subprocess. ``app`` is the program that registered it;
    ``retired`` tells why its code no longer has it.
    """

    function: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    mode: str = "auto"
    app: str = ""
    retired: str = ""


class QueueAction(Action, msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="queue"):
    """A message for other programs, on the queue of ``driver``, one that the server lists.

    ``data`` replaces the job's. ``max_length``: messages in the queue above which the run fails
    instead of adding; 0 = no limit, None = the server's setting.
    """

    driver: str
    data: Any = None
    max_length: int | None = None


class OtherAction(Action):
    """An action of a kind that this version of the client does not know; kept as it came."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        self.fields = dict(fields)

    @property
    def kind(self) -> str:
        """Its kind, as the server names it."""
        return str(self.fields.get("kind", ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OtherAction) and other.fields == self.fields

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return f"OtherAction({self.fields!r})"


KNOWN_ACTIONS = HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction
ACTION_KINDS = ("http", "command", "script", "python", "queue")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of parts of a job."""


class Dst(Shape, frozen=True):
    """What a slot does in the hour that clocks leave out (``gap``) or repeat (``overlap``)."""

    gap: str = "run_after"
    overlap: str = "first"


class Misfire(Shape, frozen=True):
    """What becomes of slots that no node was there to start: skip, latest or all."""

    policy: str = "latest"
    window: float = 3600.0
    max_catch_up: int = 100


class Retry(Shape, frozen=True):
    """Further attempts; ``delay`` and ``cap`` in seconds."""

    max: int = 0
    delay: float = 1.0
    multiplier: float = 1.0
    cap: float = 3600.0
    jitter: float = 0.0
    on: tuple[str, ...] = ("failed", "timed_out")


class OnFailure(Shape, frozen=True):
    """Park the job after so many failures in a row; 0 = never."""

    park_after: int = 0


class Then(Shape, frozen=True):
    """A job to be started when a run ends; ``on`` is success, failure or always."""

    job: Key
    on: str = "success"
    delay: float = 0.0


class JobIn(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be stored. Only name and action must be given."""

    name: str
    action: Action | Fields
    project: Key | UnsetType | None = UNSET
    description: str | UnsetType = UNSET
    schedule: str | UnsetType | None = UNSET
    timezone: str | UnsetType = UNSET
    start_at: datetime | str | UnsetType | None = UNSET
    end_at: datetime | str | UnsetType | None = UNSET
    anchor_at: datetime | str | UnsetType | None = UNSET
    override: str | UnsetType | None = UNSET
    exclude: Sequence[str] | UnsetType = UNSET
    repeat: bool | UnsetType = UNSET
    jitter: float | UnsetType = UNSET
    dst: Dst | Fields | UnsetType = UNSET
    week_start: str | UnsetType = UNSET
    misfire: Misfire | Fields | UnsetType = UNSET
    overlap: str | UnsetType = UNSET
    max_running: int | UnsetType = UNSET
    retry: Retry | Fields | UnsetType | None = UNSET
    timeout: float | UnsetType | None = UNSET
    on_failure: OnFailure | Fields | UnsetType = UNSET
    delivery: str | UnsetType = UNSET
    data: Any = UNSET
    check: Action | Fields | UnsetType | None = UNSET
    then: Sequence[Then | Fields] | UnsetType = UNSET
    limits: Sequence[str] | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    tags: Sequence[str] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class JobPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a job. None restores the default; ``data`` is replaced whole.

    A part given as a record replaces that part; as a mapping, it is merged into it.
    """

    name: str | UnsetType = UNSET
    action: Action | Fields | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    schedule: str | UnsetType | None = UNSET
    timezone: str | UnsetType | None = UNSET
    start_at: datetime | str | UnsetType | None = UNSET
    end_at: datetime | str | UnsetType | None = UNSET
    anchor_at: datetime | str | UnsetType | None = UNSET
    override: str | UnsetType | None = UNSET
    exclude: Sequence[str] | UnsetType | None = UNSET
    repeat: bool | UnsetType | None = UNSET
    jitter: float | UnsetType | None = UNSET
    dst: Dst | Fields | UnsetType | None = UNSET
    week_start: str | UnsetType | None = UNSET
    misfire: Misfire | Fields | UnsetType | None = UNSET
    overlap: str | UnsetType | None = UNSET
    max_running: int | UnsetType | None = UNSET
    retry: Retry | Fields | UnsetType | None = UNSET
    timeout: float | UnsetType | None = UNSET
    on_failure: OnFailure | Fields | UnsetType | None = UNSET
    delivery: str | UnsetType | None = UNSET
    data: Any = UNSET
    check: Action | Fields | UnsetType | None = UNSET
    then: Sequence[Then | Fields] | UnsetType | None = UNSET
    limits: Sequence[str] | UnsetType | None = UNSET
    owner: str | UnsetType | None = UNSET
    tags: Sequence[str] | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET

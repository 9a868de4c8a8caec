"""What generated schemas can't say by themselves: older names, partial bodies, rules of fields."""

from __future__ import annotations

from typing import Any

from everbell.api.aliases import IGNORED
from everbell.api.schemas import HoldIn, JobIn
from everbell.api.schemas_apply import ApplyIn

OLDER_JOB = "OlderJobIn"
JOB_PATCH = "JobPatch"
REF = "#/components/schemas/{name}"

HEADER_SHAPES: dict[str, dict[str, Any]] = {
    "idempotency-key": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
    "if-match": {"type": "string", "pattern": '^(\\*|(W/)?("[0-9A-Za-z]{1,64}"|[0-9]{1,18}))$'},
    "last-event-id": {"type": "string", "pattern": "^([0-9]{1,7}-)?[0-9]{1,18}$"},
}
"""JSON schemas of the request headers that operations take."""


EVENT: dict[str, Any] = {
    "type": "object",
    "description": "One server-sent event: output, end, or error.",
    "properties": {
        "event": {"enum": ["output", "end", "error"]},
        "id": {"type": "string"},
        "data": {"type": "string"},
    },
}
"""The shape of one server-sent event."""


def complete(components: dict[str, Any]) -> None:
    """Add to generated components what only this module knows."""
    components[OLDER_JOB] = _older_job(components[JobIn.__name__])
    components[JOB_PATCH] = _job_patch(components[JobIn.__name__])
    _targets(components[HoldIn.__name__])
    components[ApplyIn.__name__]["properties"]["jobs"]["items"] = job_bodies()


def job_bodies() -> dict[str, Any]:
    """Return the schema of one job, in native or in older names."""
    return {"anyOf": [_ref(JobIn.__name__), _ref(OLDER_JOB)]}


def jobs_body() -> dict[str, Any]:
    """Return the schema of one job or an array of them."""
    many: dict[str, Any] = {"type": "array", "items": job_bodies()}
    return {"anyOf": [*job_bodies()["anyOf"], many]}


def patch_body() -> dict[str, Any]:
    """Return the schema of a change of a job."""
    return _ref(JOB_PATCH)


def job_form() -> dict[str, Any]:
    """Return the schema of a job as a form: the Distributed Scheduler's fields, all text."""
    return {
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "format": "everbell-name",
            },
            "description": {"type": "string", "maxLength": 4000, "format": "everbell-text"},
            "frequency": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
            "startdate": {"type": "string", "maxLength": 100},
            "script": {"type": "string", "pattern": "\\S", "maxLength": 100_000},
            "repeat": {"enum": ["true", "false"]},
        },
        "additionalProperties": False,
        "required": ["name", "frequency", "script"],
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(name=name)}


def _older_job(native: dict[str, Any]) -> dict[str, Any]:
    """Return a job in the names of older schedulers; two names for one thing are refused."""
    own = native["properties"]
    kept = ("name", "description", "timezone", "repeat", "data", "tags")
    url = {"type": "string", "format": "uri", "maxLength": 2048}
    properties: dict[str, Any] = {
        **{name: own[name] for name in kept},
        "spec": {**own["schedule"], "description": "schedule"},
        "frequency": {
            "type": "number",
            "minimum": 1,
            "maximum": 1_000_000_000,
            "description": "Seconds between runs; in place of spec.",
        },
        "callback_url": {**url, "description": "Address of an http action; also callbackUrl."},
        "script": {
            "type": "string",
            "pattern": "\\S",
            "maxLength": 100_000,
            "description": "Text of a script action; in place of callback_url.",
        },
        "interpreter": {
            "enum": ["sh", "bash", "python", "node"],
            "description": "Of script; default: its #! line, or node.",
        },
        "project_uuid": {**own["project"], "description": "project; also projectUuid."},
        "startDate": own["start_at"],
        "endDate": own["end_at"],
        "retryMax": {"type": "integer", "minimum": 0, "maximum": 100},
        "execution_type": {"enum": ["http", "webhook_url"]},
        "status": {"enum": ["active", "inactive"]},
        **{name: {"description": note} for name, note in IGNORED.items()},
    }
    return {
        "title": OLDER_JOB,
        "description": "A job in the names of older schedulers.",
        "type": "object",
        "deprecated": True,
        "properties": properties,
        "additionalProperties": False,
        "required": ["name"],
        "anyOf": [{"required": ["callback_url"]}, {"required": ["script"]}],
    }


def _job_patch(native: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: {"anyOf": [shape, {"type": "null"}]} for name, shape in native["properties"].items()
    }
    # Merged into what is there: an action of the same kind needs only what changes.
    properties["action"] = {"type": "object", "description": "Merged into the action."}
    properties["name"] = native["properties"]["name"]
    # It may repeat the job's own project; a job stays where it is.
    del properties["project"]
    return {
        "title": JOB_PATCH,
        "description": "What to change of a job; null restores the default. Read-only names that an"
        " answer shows are ignored.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _targets(hold: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {"type": "null"}
    hold["anyOf"] = [
        {"properties": {"scope": {"const": "all"}, "target": nothing, "project": nothing}},
        {
            "properties": {
                "scope": {"enum": ["project", "job"]},
                "target": {"type": ["integer", "string"]},
            },
            "required": ["target"],
        },
    ]

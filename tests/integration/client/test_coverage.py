"""The client against the API's description: every operation, parameter and property.

A failure here after a change of the API means: add a row to ``everbell/client/operations.py``, a
method in ``everbell/client/aio``, its row below, the field in ``records.py`` or ``shapes.py``; then
``scripts/gen_client.py``. The JavaScript client has a test of the same kind.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import msgspec
import pytest

from everbell.client import cluster, errors, records, shapes
from everbell.client.operations import OPERATIONS
from everbell.client.shapes import (
    CommandAction,
    Dst,
    HttpAction,
    JobIn,
    JobPatch,
    Misfire,
    OnFailure,
    Retry,
    Then,
)

ROOT = Path(__file__).resolve().parents[3]
SPEC = json.loads((ROOT / "docs/reference/openapi.json").read_text())
SCHEMAS = SPEC["components"]["schemas"]
NOON = datetime(2027, 3, 28, 12, tzinfo=UTC)
PATH = "/api/v1"

POLICIES = {
    "description": "all that can be said",
    "schedule": "0 5 * * *",
    "timezone": "Europe/Berlin",
    "start_at": NOON,
    "end_at": NOON,
    "anchor_at": NOON,
    "override": "@daily",
    "exclude": ["--12-25"],
    "repeat": True,
    "jitter": 1.5,
    "dst": Dst(),
    "week_start": "monday",
    "misfire": Misfire(),
    "overlap": "skip",
    "max_running": 2,
    "retry": Retry(max=2),
    "timeout": 30.0,
    "on_failure": OnFailure(park_after=3),
    "delivery": "at_least_once",
    "data": {"any": ["thing"]},
    "check": CommandAction(argv=("true",)),
    "then": [Then(job="next")],
    "limits": ["database"],
    "owner": "jobs.toml",
    "tags": ["night"],
    "enabled": False,
}
# What a checkout's description does not have yet is not sent in it.
KNOWN = {k: v for k, v in POLICIES.items() if k in SCHEMAS["JobIn"]["properties"]}
JOB = JobIn(name="nightly", project="ops", action=HttpAction(url="http://x.example/"), **KNOWN)
PATCH = JobPatch(name="nightly", action=HttpAction(url="http://x.example/"), **KNOWN)
WHOLE = {"project": "ops", "if_match": '"3"'}

# method of the client: the operation that it asks for, and a call with all that can be given.
METHODS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "projects.create": (
        "projects_create",
        lambda c: c.projects.create("ops", description="x", idempotency_key="k"),
    ),
    "projects.list": ("projects_list", lambda c: c.projects.list(limit=2, offset=4)),
    "projects.get": ("projects_get", lambda c: c.projects.get("ops")),
    "projects.replace": (
        "projects_replace",
        lambda c: c.projects.replace(1, "ops", description="x", if_match='"a"'),
    ),
    "projects.change": (
        "projects_change",
        lambda c: c.projects.change(1, name="ops", description="x", if_match='"a"'),
    ),
    "projects.delete": ("projects_delete", lambda c: c.projects.delete(1, if_match='"a"')),
    "credentials.create": (
        "credentials_create",
        lambda c: c.credentials.create(
            name="ci", scopes=["run"], project=1, expires_at=NOON, expires_in=60
        ),
    ),
    "credentials.list": ("credentials_list", lambda c: c.credentials.list(limit=2, offset=4)),
    "credentials.get": ("credentials_get", lambda c: c.credentials.get(1)),
    "credentials.revoke": ("credentials_revoke", lambda c: c.credentials.revoke(1)),
    "credentials.rotate": ("credentials_rotate", lambda c: c.credentials.rotate(1, grace=60)),
    "jobs.create": ("jobs_create", lambda c: c.jobs.create(JOB, idempotency_key="k")),
    "jobs.apply": (
        "jobs_apply",
        lambda c: c.jobs.apply(
            [JOB], owner="f", project=1, prune=False, take_over=True, plan=True, days=3
        ),
    ),
    "jobs.list": (
        "jobs_list",
        lambda c: c.jobs.list(
            project="ops", name="a", search="b", enabled=True, parked=False, limit=2, offset=4
        ),
    ),
    "jobs.get": ("jobs_get", lambda c: c.jobs.get("nightly", project="ops")),
    "jobs.replace": ("jobs_replace", lambda c: c.jobs.replace("nightly", JOB, **WHOLE)),
    "jobs.change": ("jobs_change", lambda c: c.jobs.change("nightly", PATCH, **WHOLE)),
    "jobs.delete": ("jobs_delete", lambda c: c.jobs.delete("nightly", **WHOLE)),
    "jobs.enable": ("jobs_enable", lambda c: c.jobs.enable("nightly", **WHOLE)),
    "jobs.disable": ("jobs_disable", lambda c: c.jobs.disable("nightly", **WHOLE)),
    "jobs.resolve": ("jobs_resolve", lambda c: c.jobs.resolve("nightly", **WHOLE)),
    "jobs.skip_next": (
        "jobs_skip_next",
        lambda c: c.jobs.skip_next("nightly", slot=NOON, reason="x", **WHOLE),
    ),
    "jobs.run_instead": (
        "jobs_run_instead",
        lambda c: c.jobs.run_instead("nightly", slot=NOON, at=NOON, reason="x", **WHOLE),
    ),
    "jobs.hold": (
        "jobs_hold",
        lambda c: c.jobs.hold("nightly", reason="x", until=NOON, then="skip", project="ops"),
    ),
    "jobs.next": ("jobs_next", lambda c: c.jobs.next("nightly", n=3, project="ops")),
    "jobs.why": ("jobs_why", lambda c: c.jobs.why("nightly", at=NOON, project="ops")),
    "jobs.backfill": (
        "jobs_backfill",
        lambda c: c.jobs.backfill(
            "nightly", start=NOON, end=NOON, max=3, dry_run=True, reason="x", project="ops"
        ),
    ),
    "jobs.simulate": (
        "simulate",
        lambda c: c.jobs.simulate(
            "02:00-05:00",
            date=NOON.date(),
            zone="UTC",
            job="a",
            project="ops",
            takes=60,
            limit=2,
            cursor="1",
        ),
    ),
    "jobs.run": (
        "jobs_run",
        lambda c: c.jobs.run("nightly", reason="x", project="ops", idempotency_key="k"),
    ),
    "runs.list": (
        "runs_list",
        lambda c: c.runs.list(
            job="nightly",
            project="ops",
            state=["failed", "lost"],
            trigger="manual",
            start=NOON,
            end=NOON,
            node="n1",
            limit=2,
            cursor="1-2",
        ),
    ),
    "runs.get": ("runs_get", lambda c: c.runs.get("1-2")),
    "runs.output": ("runs_output", lambda c: c.runs.output("1-2", attempt=1, offset=9)),
    "runs.cancel": ("runs_cancel", lambda c: c.runs.cancel("1-2")),
    "runs.retry": ("runs_retry", lambda c: c.runs.retry("1-2")),
    "runs.verify": (
        "verify",
        lambda c: c.runs.verify(job="a", project="ops", start=NOON, end=NOON, cursor="1"),
    ),
    "holds.create": (
        "holds_create",
        lambda c: c.holds.create(
            "job", "nightly", project="ops", reason="x", until=NOON, then="once"
        ),
    ),
    "holds.list": ("holds_list", lambda c: c.holds.list()),
    "holds.release": ("holds_release", lambda c: c.holds.release(1, "once")),
    "limits.list": (
        "limits_list",
        lambda c: c.limits.list(project="ops", limit=2, offset=4),
    ),
    "limits.get": ("limits_get", lambda c: c.limits.get("db", project="ops")),
    "limits.set": ("limits_set", lambda c: c.limits.set("db", 3, project="ops")),
    "limits.delete": ("limits_delete", lambda c: c.limits.delete("db", project="ops")),
    "schedules.preview": (
        "schedules_preview",
        lambda c: c.schedules.preview(
            "0 5 * * *",
            timezone="Europe/Berlin",
            n=3,
            after=NOON,
            start_at=NOON,
            end_at=NOON,
            exclude=["--12-25"],
            dst=Dst(),
            week_start="monday",
        ),
    ),
    "nodes.list": ("nodes_list", lambda c: c.nodes.list()),
    "nodes.drain": ("nodes_drain", lambda c: c.nodes.drain("n1", reason="new kernel")),
    "nodes.resume": ("nodes_resume", lambda c: c.nodes.resume("n1")),
    "nodes.remove": ("nodes_remove", lambda c: c.nodes.remove("n1")),
    "nodes.cluster": ("cluster_get", lambda c: c.nodes.cluster()),
    "audit.list": ("audit_list", lambda c: c.audit.list(limit=2, cursor=9)),
    "health.live": ("health_live", lambda c: c.health.live()),
    "health.ready": ("health_ready", lambda c: c.health.ready()),
    "health.openapi": ("openapi", lambda c: c.health.openapi()),
}
BUILT_ON_OTHERS = {"runs.follow", "runs.wait"}
# Older words for what has a word already, and what `follow` sends.
LEFT_OUT = {
    "jobs_list": {"projectId"},
    "runs_output": {"follow", "last-event-id"},
}
RECORDS = {
    "Problem": errors.Problem,
    "ProblemField": errors.FieldError,
    "ProjectOut": records.Project,
    "CredentialOut": records.Credential,
    "JobOut": records.Job,
    "JobIn": shapes.JobIn,
    "JobPatch": shapes.JobPatch,
    "HttpAction": shapes.HttpAction,
    "CommandAction": shapes.CommandAction,
    "ScriptAction": shapes.ScriptAction,
    "PythonAction": shapes.PythonAction,
    "QueueAction": shapes.QueueAction,
    "Dst": shapes.Dst,
    "MisfireIn": shapes.Misfire,
    "RetryIn": shapes.Retry,
    "ThenIn": shapes.Then,
    "OnFailure": shapes.OnFailure,
    "HoldOut": records.Hold,
    "SkippedOut": records.Skipped,
    "VerifyOut": records.Verification,
    "FindingOut": records.Finding,
    "WhyOut": records.Why,
    "SlotToldOut": records.SlotTold,
    "BackfillOut": records.Backfill,
    "FilledSlot": records.FilledSlot,
    "SimulateOut": records.Simulation,
    "OutageOut": records.Outage,
    "JobFateOut": records.JobFate,
    "FateOut": records.Fate,
    "LimitOut": records.Limit,
    "PlanOut": records.Plan,
    "StepOut": records.Step,
    "FieldOut": records.FieldChange,
    "MovesOut": records.Moves,
    "SeamOut": records.Seam,
    "LoadOut": records.Load,
    "SlotOut": records.Slot,
    "RunOut": records.Run,
    "AttemptOut": records.Attempt,
    "PreviewOut": records.Preview,
    "ClockChangeOut": records.ClockChange,
    "NodeOut": cluster.Node,
    "ClusterOut": cluster.Cluster,
    "AuditOut": records.AuditEntry,
    "Health": records.Health,
    "PageOut": records.Page,
}
# Bodies that are arguments of a method: compared with what the method sends.
ARGUMENTS = {
    "ProjectIn", "ProjectPatch", "CredentialIn", "RotateIn", "JobHoldIn", "RunNow", "HoldIn",
    "ReleaseIn", "PreviewIn", "SkipIn", "InsteadIn", "ApplyIn",
    "LimitIn", "BackfillIn", "DrainIn",
}  # fmt: skip
OLDER_WORDS = {"OlderJobIn"}


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        one["operationId"]: (method.upper(), path, one)
        for path, methods in SPEC["paths"].items()
        for method, one in methods.items()
    }


class Sent(Exception):
    """Ends a call where its request would leave."""


class Recorder:
    """A transport that sends nothing."""

    def __init__(self, kind: str) -> None:
        self.requests: list[Any] = []
        self.send = self._wait if kind == "async" else self._send

    def _send(self, request: Any) -> Any:
        self.requests.append(request)
        raise Sent

    async def _wait(self, request: Any) -> Any:
        self._send(request)

    def close(self) -> Any:
        return self._closed() if self.send == self._wait else None

    async def _closed(self) -> None:
        pass


def sent_by(make_face: Any, call: Callable[[Any], Any]) -> Any:
    recorder = Recorder(make_face.kind)
    face = make_face("http://h", "key", "secret", transport=recorder)
    with pytest.raises(Sent):
        face.do(call)
    (request,) = recorder.requests
    return request


def test_every_operation_has_a_row_and_one_method() -> None:
    wanted = {name: (method, path) for name, (method, path, _) in operations().items()}
    assert {n: (o.method, o.path) for n, o in OPERATIONS.items()} == wanted
    asked = [operation for operation, _ in METHODS.values()]
    assert sorted(asked) == sorted(wanted)


def test_every_method_is_in_the_table(make_face: Any) -> None:
    client = make_face("http://h", transport=Recorder(make_face.kind)).client
    public = {
        f"{group}.{name}"
        for group, it in vars(client).items()
        if not group.startswith("_")
        for name in dir(it)
        if not name.startswith("_")
    }
    assert public == set(METHODS) | BUILT_ON_OTHERS


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sends_all_that_its_operation_takes(make_face: Any, method: str) -> None:
    name, call = METHODS[method]
    verb, path, operation = operations()[name]
    request = sent_by(make_face, call)
    parts = urlsplit(request.url)
    assert request.method == verb
    begin, _, end = (PATH + path).partition("{id}")
    assert parts.path.startswith(begin)
    assert parts.path.endswith(end)
    assert parts.path.count("/") == (PATH + path).count("/")
    taken: dict[str, set[str]] = {"query": set(), "header": set()}
    for one in operation["parameters"]:
        if one["in"] != "path" and one["name"] not in LEFT_OUT.get(name, ()):
            taken[one["in"]].add(one["name"])
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    assert set(query) == taken["query"]
    own = {"accept", "user-agent", "content-type", "x-api-key", "x-secret-key"}
    assert set(request.headers) - own == taken["header"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sends_a_body_of_the_right_shape(make_face: Any, method: str) -> None:
    name, call = METHODS[method]
    operation = operations()[name][2]
    request = sent_by(make_face, call)
    if "requestBody" not in operation:
        assert request.body is None
        return
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    body = json.loads(request.body)
    jsonschema_rs.validator_for({**schema, "components": SPEC["components"]}).validate(body)
    reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]
    assert set(body) == set(SCHEMAS[reference.rpartition("/")[2]]["properties"])


def test_jobs_that_are_sent_as_a_list(make_face: Any) -> None:
    request = sent_by(make_face, lambda c: c.jobs.create([JOB, {"name": "b", "spec": "@daily"}]))
    first, second = json.loads(request.body)
    assert first["dst"] == {"gap": "run_after", "overlap": "first"}
    assert first["start_at"] == "2027-03-28T12:00:00Z"
    assert second == {"name": "b", "spec": "@daily"}
    assert len(request.headers["idempotency-key"]) == 32


def test_what_is_not_given_is_not_sent(make_face: Any) -> None:
    request = sent_by(make_face, lambda c: c.jobs.change(1, JobPatch(retry=None, tags=["a"])))
    assert json.loads(request.body) == {"retry": None, "tags": ["a"]}
    request = sent_by(make_face, lambda c: c.jobs.change(1, JobPatch(dst={"gap": "skip"})))
    assert json.loads(request.body) == {"dst": {"gap": "skip"}}


def fields(kind: type) -> set[str]:
    tag = kind.__struct_config__.tag_field
    return {one.encode_name for one in msgspec.structs.fields(kind)} | ({tag} if tag else set())


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_property_is_known(name: str) -> None:
    if name in ARGUMENTS | OLDER_WORDS:
        return
    assert set(SCHEMAS[name]["properties"]) - fields(RECORDS[name]) == set()


def test_no_kind_of_action_is_left_out() -> None:
    kinds = SCHEMAS["JobOut"]["properties"]["action"]["anyOf"]
    tags = [SCHEMAS[k["$ref"].rpartition("/")[2]]["properties"]["kind"]["enum"][0] for k in kinds]
    assert sorted(tags) == sorted(shapes.ACTION_KINDS)


def test_the_final_states_are_the_domains() -> None:
    from everbell.domain.run import FINAL

    assert frozenset(FINAL) == records.FINAL_STATES


def test_the_sync_client_is_the_async_one_without_waiting() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gen_client.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout

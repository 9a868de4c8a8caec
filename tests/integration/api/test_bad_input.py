"""Every face answers bad input with what, where, why and what next; nothing is half-written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everbell.api.aliases import unify
from everbell.domain.errors import StoreUnavailable, ValidationError

HOOK = {"kind": "http", "url": "http://example.com/hook"}
JOB = {"name": "n", "schedule": "@hourly", "action": HOOK}


def problem(answer, status, code=None):
    assert answer.status == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    assert body["success"] is False
    assert body["status"] == status
    assert body["title"] and body["detail"] and body["type"].endswith(body["code"])
    assert body["request_id"] == answer.headers["x-request-id"]
    if code:
        assert body["code"] == code
    return body


async def nothing_was_stored(world):
    assert (await world.local.get("/jobs")).json()["page"]["total"] == 0


BAD_FIELDS = [
    ({"name": ""}, "/name"),
    ({"name": "   "}, "/name"),
    ({"name": "x" * 201}, "/name"),
    ({"name": "a\u0000b"}, "/name"),
    ({"name": "a\nb"}, "/name"),
    ({"name": "abc\u202edef"}, "/name"),
    ({"name": 5}, "/name"),
    ({"name": None}, "/name"),
    ({"description": "x" * 4001}, "/description"),
    ({"schedule": ""}, "/schedule"),
    ({"schedule": "61 * * * *"}, "/schedule"),
    ({"schedule": "* * * *"}, "/schedule"),
    ({"schedule": "0 0 30 2 *"}, "/schedule"),
    ({"schedule": "@every 0s"}, "/schedule"),
    ({"schedule": "@every -1m"}, "/schedule"),
    ({"schedule": "x" * 5000}, "/schedule"),
    ({"schedule": 5}, "/schedule"),
    ({"schedule": "@at 2020-01-01T00:00:00Z"}, "/schedule"),
    ({"timezone": "Mars/Olympus"}, "/timezone"),
    ({"timezone": ""}, "/timezone"),
    ({"timezone": None}, "/timezone"),
    ({"timezone": "../../etc/passwd"}, "/timezone"),
    ({"timeout": 0}, "/timeout"),
    ({"timeout": -1}, "/timeout"),
    ({"timeout": 1e300}, "/timeout"),
    ({"retry": {"max": 101}}, "/retry/max"),
    ({"retry": {"max": -1}}, "/retry/max"),
    ({"retry": {"maximum": 1}}, "/retry/maximum"),
    ({"retry": {"jitter": 2}}, "/retry/jitter"),
    ({"max_running": 0}, "/max_running"),
    ({"misfire": {"policy": "never"}}, "/misfire/policy"),
    ({"misfire": {"window": -1}}, "/misfire/window"),
    ({"overlap": "maybe"}, "/overlap"),
    ({"week_start": "someday"}, "/week_start"),
    ({"tags": ["x" * 65]}, "/tags/0"),
    ({"tags": "a"}, "/tags"),
    ({"start_at": "tomorrow"}, "/start_at"),
    ({"start_at": "2026-03-01T00:00:00"}, "/start_at"),
    ({"start_at": "2027-01-01T00:00:00Z", "end_at": "2026-12-01T00:00:00Z"}, "/end_at"),
    ({"data": "x" * 20_000}, "/data"),
    ({"action": {"kind": "ftp"}}, "/action/kind"),
    ({"action": {}}, "/action/kind"),
    ({"action": None}, "/action"),
    ({"action": {"kind": "http"}}, "/action/url"),
    ({"action": {**HOOK, "methd": "GET"}}, "/action/methd"),
    ({"action": {"kind": "http", "url": "ftp://example.com"}}, "/action/url"),
    ({"action": {"kind": "http", "url": "http://"}}, "/action/url"),
    ({"action": {"kind": "http", "url": "javascript:alert(1)"}}, "/action/url"),
    ({"action": {"kind": "http", "url": "http://a/\r\nx: y"}}, "/action/url"),
    ({"action": {"kind": "http", "url": "http://[::1"}}, "/action/url"),
    ({"action": {"kind": "http", "url": "http://a:99999/"}}, "/action/url"),
    ({"action": {"kind": "http", "url": "http://169.254.169.254/latest"}}, "/action"),
    ({"action": {**HOOK, "headers": {"a b": "c"}}}, "/action/headers/a b"),
    ({"action": {**HOOK, "headers": {"a": "b\r\nc: d"}}}, "/action/headers/a"),
    ({"action": {**HOOK, "headers": {"Host": "b"}}}, "/action/headers/Host"),
    ({"action": {**HOOK, "success": ["9xx"]}}, "/action/success/0"),
    ({"action": {"kind": "command", "argv": []}}, "/action/argv"),
    ({"action": {"kind": "command", "argv": ["a\u0000"]}}, "/action/argv/0"),
    ({"action": {"kind": "command", "argv": ["absent-program"]}}, "/action"),
    ({"action": {"kind": "command", "argv": ["true"], "env": {"1A": ""}}}, "/action/env/1A"),
    ({"action": {"kind": "command", "argv": ["true"], "cwd": "tmp"}}, "/action/cwd"),
    ({"action": {"kind": "script", "text": "x", "interpreter": "perl"}}, "/action"),
    ({"action": {"kind": "script", "text": " "}}, "/action/text"),
    ({"shedule": "@daily"}, "/shedule"),
    ({"dst": {"gap": "jump"}}, "/dst/gap"),
]


@pytest.mark.parametrize(("change", "pointer"), BAD_FIELDS)
async def test_a_wrong_field_is_named(world, change, pointer):
    body = problem(await world.local.post("/jobs", {**JOB, **change}), 422)
    assert body["errors"][0]["pointer"] == pointer, body
    assert body["errors"][0]["message"]
    assert body["errors"][0]["hint"], body
    assert body["hint"]
    listed = await world.local.post("/jobs", [{**JOB, "name": "good"}, {**JOB, **change}])
    body = problem(listed, 422)
    assert body["errors"][0]["pointer"] == "/1" + pointer
    await nothing_was_stored(world)


async def test_all_wrong_fields_are_named_at_once(world):
    body = problem(
        await world.local.post(
            "/jobs", {**JOB, "name": "", "timeout": 0, "schedule": "x", "max_running": 0}
        ),
        422,
        "validation_failed",
    )
    pointers = {one["pointer"] for one in body["errors"]}
    assert pointers == {"/name", "/timeout", "/schedule", "/max_running"}


async def test_a_bad_schedule_tells_the_position(world):
    body = problem(
        await world.local.post("/jobs", {**JOB, "schedule": "0 25 * * *"}), 422, "invalid_schedule"
    )
    assert body["text"] == "0 25 * * *"
    assert body["position"] == 2
    body = problem(await world.local.post("/schedules/preview", {"schedule": "0 25 * * *"}), 422)
    assert (body["code"], body["position"]) == ("invalid_schedule", 2)
    assert body["errors"][0]["pointer"] == "/schedule"


async def test_unknown_fields_and_parameters_suggest_the_right_name(world):
    body = problem(await world.local.post("/jobs", {**JOB, "shedule": "@daily"}), 422)
    assert "'schedule'" in body["errors"][0]["hint"]
    body = problem(await world.local.post("/projects", {"nam": "x"}), 422)
    assert "'name'" in body["errors"][0]["hint"]
    body = problem(await world.local.get("/runs?stat=failed"), 400, "unknown_parameter")
    assert body["suggestions"][0] == "state"
    body = problem(await world.local.get("/runs?state=faild"), 400, "invalid_parameter")
    assert body["suggestions"] == ["failed"]
    body = problem(await world.local.get("/job"), 404)
    assert "/jobs" in body["suggestions"]


@pytest.mark.parametrize(
    "target",
    [
        "/jobs?limit=0",
        "/jobs?limit=x",
        "/jobs?offset=-1",
        "/jobs?enabled=maybe",
        "/jobs?limit=1&limit=2",
        "/runs?from=yesterday",
        "/runs?from=2026-01-01T00:00:00",
        "/runs?cursor=zzz",
        "/runs?trigger=magic",
    ],
)
async def test_a_bad_parameter_is_refused(world, target):
    problem(await world.local.get(target), 400)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b'{"name": }', "line 1, column 10"),
        (b'{"name": "a",\n "x" 1}', "line 2"),
        (b"{", "not JSON"),
        (b"", "empty"),
        (b"\xff\xfe", "JSON"),
        (b'{"name": "\xff"}', ""),
        (b'{"name": "\\ud800"}', ""),
        (b"[" * 100_000, ""),
        (b'{"timeout": NaN}', "not JSON"),
    ],
)
async def test_bad_json_tells_where(world, raw, where):
    headers = {"content-type": "application/json"}
    answer = await world.local.post("/jobs", headers=headers, chunks=[raw])
    body = problem(answer, 400, "invalid_json")
    assert where in body["detail"]


@pytest.mark.parametrize("raw", [b"null", b"5", b'"a"', b"[5]", b"[[]]", b"true"])
async def test_json_of_the_wrong_shape_is_refused(world, raw):
    headers = {"content-type": "application/json"}
    problem(await world.local.post("/jobs", headers=headers, chunks=[raw]), 422)
    problem(await world.local.post("/projects", headers=headers, chunks=[raw]), 422)
    problem(await world.local.post("/holds", headers=headers, chunks=[raw]), 422)


async def test_numbers_beyond_64_bits_do_not_break_anything(world):
    raw = json.dumps({**JOB, "data": 10**30, "max_running": 10**30}).encode()
    headers = {"content-type": "application/json"}
    problem(await world.local.post("/jobs", headers=headers, chunks=[raw]), 422)
    raw = json.dumps({**JOB, "project": 10**30}).encode()
    answer = await world.local.post("/jobs", headers=headers, chunks=[raw])
    assert answer.status in (404, 422), answer.text


async def test_other_content_types_are_refused(world):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        problem(await world.local.post("/projects", JOB, headers={"content-type": kind}), 415)
    for kind in ("text/plain", "multipart/form-data"):
        answer = await world.local.post("/jobs", JOB, headers={"content-type": kind})
        problem(answer, 415, "unsupported_media_type")
    fine = {"content-type": "application/json; charset=utf-8"}
    assert (await world.local.post("/jobs", JOB, headers=fine)).status == 201


async def test_a_long_body_is_refused_while_it_comes(world):
    part = b'"' + b"x" * 50_000
    sent = []

    def parts():
        for index in range(100):
            sent.append(index)
            yield part

    headers = {"content-type": "application/json"}
    declared = {**headers, "content-length": "999999999"}
    problem(
        await world.local.post("/jobs", headers=declared, chunks=[b"{}"]), 413, "limit_exceeded"
    )
    answer = await world.local.post("/jobs", headers=headers, chunks=[part] * 100)
    problem(answer, 413, "limit_exceeded")


async def test_too_many_jobs_at_once_are_refused(world):
    batch = [{**JOB, "name": f"n{index}"} for index in range(21)]
    problem(await world.local.post("/jobs", batch), 413, "limit_exceeded")
    await nothing_was_stored(world)
    assert (await world.local.post("/jobs", [])).status == 201


async def test_other_methods_are_refused_with_those_allowed(world):
    answer = await world.local.request("DELETE", "/jobs")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


async def test_the_store_failing_is_503_and_to_be_repeated(world, monkeypatch):
    async def locked(*_, **__):
        raise StoreUnavailable("the database is locked", hint="try again")

    monkeypatch.setattr(type(world.store), "list_jobs", locked)
    answer = await world.local.get("/jobs")
    problem(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"]


async def test_an_unexpected_error_tells_no_detail(world, monkeypatch):
    async def broken(*_, **__):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(world.store), "list_jobs", broken)
    answer = await world.local.get("/jobs")
    body = problem(answer, 500, "internal")
    assert "secret detail" not in answer.text
    assert body["request_id"] in body["hint"]


HOSTILE = [
    "'; DROP TABLE jobs; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "名前 ☃ é",
    "%s%n%d",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "x" * 200,
    "12345",
    "null",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_only_names(world, name):
    from urllib.parse import quote

    project = await world.local.post("/projects", {"name": name, "description": name})
    assert project.status == 201, project.text
    job = await world.job(name=name, project=project.data["uuid"], data={name: name})
    assert job["name"] == job["project"] == name
    listed = await world.local.get(f"/jobs?name={quote(name)}&project={quote(name)}")
    assert [one["uuid"] for one in listed.data] == [job["uuid"]]
    hold = await world.local.post(f"/jobs/{job['id']}/hold", {"reason": name})
    assert hold.data["reason"] == name


@pytest.mark.parametrize(
    "key", ["0", "-1", "999999999999999999", "9" * 30, "x" * 3000, "%00", "a%2Fb", "١"]
)
@pytest.mark.parametrize("path", ["jobs", "runs", "projects", "credentials"])
async def test_strange_ids_are_not_found(world, path, key):
    problem(await world.local.get(f"/{path}/{key}"), 404)


async def test_conflicting_names_for_one_thing_are_refused(world):
    for extra, pointer in (
        ({"spec": "@daily"}, "/spec"),
        ({"frequency": 5}, "/frequency"),
        ({"callback_url": "http://a"}, "/callback_url"),
        ({"script": "x"}, "/script"),
        ({"project": "a", "project_uuid": "b"}, "/project_uuid"),
        ({"retry": {"max": 1}, "retryMax": 2}, "/retryMax"),
    ):
        body = problem(await world.local.post("/jobs", {**JOB, **extra}), 422)
        assert body["errors"][0]["pointer"] == pointer
        assert "only one" in body["errors"][0]["message"]
    await nothing_was_stored(world)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "name",
        "spec",
        "frequency",
        "script",
        "callback_url",
        "repeat",
        "retryMax",
        "status",
        "execution_type",
        "interpreter",
        "project_id",
        "data",
        "startdate",
        "retry",
    ]
)


@settings(max_examples=200)
@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_unify_takes_or_refuses_any_json(body):
    try:
        unify(body)
    except ValidationError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ('{"name": "a", "schedule": "@hourly", "name": "b"}', "name"),
        ('[{"name": "a"}, {"name": "b", "data": {"x": [{"y": 1, "y": 1}]}}]', "y"),
        ('{"name": "a", "n\\u0061me": "b"}', "name"),
        ('{"ä": 1, "ä": 2}', "ä"),
    ],
)
async def test_a_key_that_stands_twice_is_named(world, raw, key):
    headers = {"content-type": "application/json"}
    answer = await world.local.request("POST", "/jobs", chunks=[raw.encode()], headers=headers)
    assert f'the key "{key}" stands twice' in problem(answer, 400, "invalid_json")["detail"]
    await nothing_was_stored(world)


async def test_numbers_that_python_refuses_are_no_reason_to_refuse_a_body(world):
    raw = json.dumps({**JOB, "data": {"n": 0}}).replace("0}", "1" + "0" * 5000 + "e0}")
    headers = {"content-type": "application/json"}
    answer = await world.local.request("POST", "/jobs", chunks=[raw.encode()], headers=headers)
    assert answer.status in {201, 400, 422}

"""The JavaScript client: checked against the API's description, and run against a real node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from everbell_e2e_nodes import NodeProcess

from everbell.testing.free_ports import free_port

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "javascript"
SPEC = json.loads((ROOT / "docs/reference/openapi.json").read_text())
SCHEMAS = SPEC["components"]["schemas"]
HEAD = f"import * as api from {json.dumps((CLIENT / 'everbell.js').as_uri())}\n"
OLDER_WORDS = {"jobs_list": {"projectId"}}
SENT_BY_FOLLOW = {"follow", "last-event-id"}
BUILT_ON_OTHERS = {"runs.wait"}

# Method, operation, call with all that can be given: a body is made of the schema named by `full`.
CALLS = """
const noon = new Date('2027-03-28T12:00:00Z')
const where = { project: 'ops', ifMatch: '"3"' }
const calls = [
  ['projects.create', c => c.projects.create(full('ProjectIn'), { idempotencyKey: 'k' })],
  ['projects.list', c => c.projects.list({ limit: 2, offset: 4 }).first()],
  ['projects.get', c => c.projects.get('ops')],
  ['projects.replace', c => c.projects.replace(1, full('ProjectIn'), where)],
  ['projects.change', c => c.projects.change({ id: 1 }, full('ProjectPatch'), where)],
  ['projects.delete', c => c.projects.delete(1, where)],
  ['credentials.create', c => c.credentials.create(full('CredentialIn'))],
  ['credentials.list', c => c.credentials.list({ limit: 2, offset: 4 }).first()],
  ['credentials.get', c => c.credentials.get(1)],
  ['credentials.revoke', c => c.credentials.revoke(1)],
  ['credentials.rotate', c => c.credentials.rotate(1, full('RotateIn'))],
  ['jobs.create', c => c.jobs.create(full('JobIn'), { idempotencyKey: 'k' })],
  ['jobs.apply', c => c.jobs.apply(full('ApplyIn'))],
  ['jobs.list', c => c.jobs.list({ project: { id: 1 }, name: 'a', search: 'b', enabled: true,
    parked: false, limit: 2, offset: 4 }).first()],
  ['jobs.get', c => c.jobs.get('nightly', where)],
  ['jobs.replace', c => c.jobs.replace('nightly', full('JobIn'), where)],
  ['jobs.change', c => c.jobs.change('nightly', full('JobPatch'), where)],
  ['jobs.delete', c => c.jobs.delete('nightly', where)],
  ['jobs.enable', c => c.jobs.enable('nightly', where)],
  ['jobs.disable', c => c.jobs.disable('nightly', where)],
  ['jobs.resolve', c => c.jobs.resolve('nightly', where)],
  ['jobs.skipNext', c => c.jobs.skipNext('nightly', { ...where, ...full('SkipIn') })],
  ['jobs.runInstead', c => c.jobs.runInstead('nightly', { ...where, ...full('InsteadIn') })],
  ['jobs.hold', c => c.jobs.hold('nightly', { project: 1, ...full('JobHoldIn') })],
  ['jobs.next', c => c.jobs.next('nightly', { project: 1, n: 3 })],
  ['jobs.why', c => c.jobs.why('nightly', { project: 1, at: noon })],
  ['jobs.backfill', c => c.jobs.backfill('n', { project: 1, ...full('BackfillIn') })],
  ['jobs.simulate', c => c.jobs.simulate({ down: '02:00-05:00', date: '2027-03-28', zone: 'UTC',
    job: 'a', project: 1, takes: 60, limit: 2, cursor: '1' })],
  ['jobs.run', c => c.jobs.run('n', { project: 1, idempotencyKey: 'k', ...full('RunNow') })],
  ['runs.list', c => c.runs.list({ job: { id: 3 }, project: 1, state: ['failed', 'lost'],
    trigger: 'manual', from: noon, to: noon, node: 'n1', limit: 2, cursor: '1-2' }).first()],
  ['runs.verify', c => c.runs.verify({ job: 'a', project: 1, from: noon, to: noon, cursor: '1' })],
  ['runs.get', c => c.runs.get('1-2')],
  ['runs.output', c => c.runs.output('1-2', { attempt: 1, offset: 9 })],
  ['runs.cancel', c => c.runs.cancel({ id: '1-2' })],
  ['runs.retry', c => c.runs.retry('1-2')],
  ['runs.follow', c => c.runs.follow('1-2', { attempt: 2, after: '2-9' }).next()],
  ['holds.create', c => c.holds.create(full('HoldIn'))],
  ['holds.list', c => c.holds.list().first()],
  ['holds.release', c => c.holds.release({ id: 1 }, full('ReleaseIn'))],
  ['limits.list', c => c.limits.list({ project: 1, limit: 2, offset: 4 }).first()],
  ['limits.get', c => c.limits.get('db', where)],
  ['limits.set', c => c.limits.set('db', full('LimitIn'), where)],
  ['limits.delete', c => c.limits.delete('db', where)],
  ['schedules.preview', c => c.schedules.preview(full('PreviewIn'))],
  ['nodes.list', c => c.nodes.list().first()],
  ['nodes.drain', c => c.nodes.drain('n1', full('DrainIn'))],
  ['nodes.resume', c => c.nodes.resume('n1')],
  ['nodes.remove', c => c.nodes.remove('n1')],
  ['nodes.cluster', c => c.nodes.cluster()],
  ['audit.list', c => c.audit.list({ limit: 2, cursor: 9 }).first()],
  ['health.live', c => c.health.live()],
  ['health.ready', c => c.health.ready()],
  ['health.openapi', c => c.health.openapi()]
]
const schemas = JSON.parse(process.argv[2])
const full = name => Object.fromEntries(schemas[name].map(field => [field, null]))
const seen = []
for (const [method, call] of calls) {
  const fetch = async (url, init) => {
    seen.push({ method, url, verb: init.method, headers: init.headers, body: init.body ?? null })
    throw new api.EverbellError('sent')
  }
  const client = new api.Everbell({ url: 'http://h', apiKey: 'k', apiSecret: 's', fetch })
  await call(client).catch(error => { if (error.message !== 'sent') throw error })
}
const client = new api.Everbell({ url: 'http://h' })
const methods = Object.entries(client).filter(([, it]) => typeof it === 'object').flatMap(
  ([group, it]) => Object.getOwnPropertyNames(Object.getPrototypeOf(it))
    .filter(name => name !== 'constructor').map(name => `${group}.${name}`))
console.log(JSON.stringify({ seen, methods, operations: api.OPERATIONS,
  final: [...api.FINAL_STATES], names: Object.keys(api) }))
"""


def node_runs(program: str, *words: str, **environment: str) -> str:
    done = subprocess.run(
        ["node", "--input-type=module", "-", *words],
        input=HEAD + program,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told() -> Any:
    fields = {name: list(shape["properties"]) for name, shape in SCHEMAS.items()}
    return json.loads(node_runs(CALLS, json.dumps(fields)))


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        one["operationId"]: (method.upper(), path, one)
        for path, methods in SPEC["paths"].items()
        for method, one in methods.items()
    }


def operation_of(verb: str, path: str) -> str:
    """Return the operation that an address belongs to; words win over ``{id}``."""
    found = [
        (given.count("{"), name)
        for name, (method, given, _) in operations().items()
        if method == verb and re.fullmatch(re.sub(r"{\w+}", "[^/]+", "/api/v1" + given), path)
    ]
    return min(found)[1]


@pytest.mark.parametrize("file", ["everbell.js", "examples/first.mjs"])
def test_it_is_javascript(file: str) -> None:
    subprocess.run(["node", "--check", str(CLIENT / file)], check=True, timeout=30)


def test_the_types_are_those_of_the_description() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "gen_js_types.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_operation_has_a_row_and_one_method(told: Any) -> None:
    wanted = {name: [verb, path] for name, (verb, path, _) in operations().items()}
    assert {name: row[:2] for name, row in told["operations"].items()} == wanted
    keyed = {name for name, row in told["operations"].items() if row[2:] == ["key"]}
    assert keyed == {
        name
        for name, (_, _, one) in operations().items()
        if any(p["name"] == "idempotency-key" for p in one["parameters"])
    }
    asked = [
        operation_of(one["verb"], urlsplit(one["url"]).path)
        for one in told["seen"]
        if one["method"] != "runs.follow"
    ]
    assert sorted(asked) == sorted(wanted)
    called = {one["method"] for one in told["seen"]}
    assert set(told["methods"]) == called | BUILT_ON_OTHERS


def test_a_method_sends_all_that_its_operation_takes(told: Any) -> None:
    for one in told["seen"]:
        parts = urlsplit(one["url"])
        name = operation_of(one["verb"], parts.path)
        operation = operations()[name][2]
        taken: dict[str, set[str]] = {"query": set(), "header": set(), "path": set()}
        for parameter in operation["parameters"]:
            taken[parameter["in"]].add(parameter["name"])
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        own = {"accept", "content-type", "x-api-key", "x-secret-key"}
        headers = set(one["headers"]) - own
        left_out = set(OLDER_WORDS.get(name, ()))
        if name == "runs_output":
            left_out |= {"offset"} if one["method"] == "runs.follow" else SENT_BY_FOLLOW
        assert set(query) == taken["query"] - left_out, one["method"]
        assert headers == taken["header"] - left_out, one["method"]
        assert ("requestBody" in operation) == (one["body"] is not None), one["method"]
        if one["body"] is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]
            properties = SCHEMAS[reference.rpartition("/")[2]]["properties"]
            assert set(json.loads(one["body"])) == set(properties), one["method"]


def test_every_name_has_a_type(told: Any) -> None:
    types = (CLIENT / "everbell.d.ts").read_text()
    declared = set(re.findall(r"export (?:class|const) (\w+)", types))
    assert declared == set(told["names"]) - {"default"}
    for group in re.findall(r"readonly (\w+): [A-Z]\w+\n", types):
        body = re.search(rf"export interface {group.capitalize()} {{\n(.*?)\n}}", types, re.DOTALL)
        assert body is not None, group
        methods = set(re.findall(r"^  (\w+) \(", body[1], re.MULTILINE))
        real = {name.partition(".")[2] for name in told["methods"] if name.startswith(group + ".")}
        assert methods == real, group


def test_the_final_states_are_the_domains(told: Any) -> None:
    from everbell.domain.run import FINAL

    assert set(told["final"]) == set(FINAL)


# --- against a server that fails -----------------------------------------------------------------


class Server:
    """Answers by a script: (status, headers, body), or None to break off."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], str] | None] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.seen.append((self.command, {k.lower(): v for k, v in self.headers.items()}))
                self.close_connection = True
                given = outer.script.pop(0)
                if given is None:
                    return
                status, headers, body = given
                self.send_response(status)
                for name, value in {"connection": "close", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

            def log_message(self, format: str, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server() -> Any:
    it = Server()
    yield it
    it.close()


def problem(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"code": code, "detail": "so it is", "hint": "wait"})


def good(data: Any, **headers: str) -> tuple[int, dict[str, str], str]:
    return 200, headers, json.dumps({"data": data, "success": True})


def said_by(server: Server, expression: str, options: str = "{}") -> Any:
    program = f"""
const client = new api.Everbell({{ url: {json.dumps(server.url)}, ...{options} }})
const told = error => ({{ name: error.name, message: error.message, code: error.code }})
const answer = await (async () => {{ {expression} }})().catch(told)
console.log(JSON.stringify(answer ?? null))
"""
    return json.loads(node_runs(program))


def test_a_creation_is_repeated_under_one_key(server: Server) -> None:
    server.script = [None, problem(503, "store_unknown_outcome", retry_after="0"), good({"id": 3})]
    assert said_by(server, "return client.projects.create({ name: 'ops' })") == {"id": 3}
    assert len(server.seen) == 3
    assert len({headers["idempotency-key"] for _, headers in server.seen}) == 1


@pytest.mark.parametrize(
    "call",
    [
        "client.runs.retry('1-2')",
        "client.credentials.create()",
        "client.jobs.skipNext(1)",
        """client.jobs.change(1, { timeout: 1 }, { ifMatch: '"3"' })""",
    ],
)
def test_what_might_be_done_twice_is_not_repeated(server: Server, call: str) -> None:
    server.script = [None]
    assert said_by(server, f"return {call}")["name"] == "AnswerLost"
    assert len(server.seen) == 1


def test_what_was_not_done_is_repeated(server: Server) -> None:
    server.script = [problem(429, "rate_limited", retry_after="0"), good({"id": "1-3"})]
    assert said_by(server, "return client.runs.retry('1-2')") == {"id": "1-3"}


def test_a_deletion_whose_answer_was_lost_is_done(server: Server) -> None:
    server.script = [None, problem(404, "not_found")]
    assert said_by(server, "return client.jobs.delete(1)") is None


def test_errors_say_what_and_what_next(server: Server) -> None:
    server.script = [problem(404, "not_found")]
    assert said_by(server, "return client.jobs.get(1)") == {
        "name": "NotFound",
        "message": "so it is\nhint: wait",
        "code": "not_found",
    }
    server.script = [(200, {}, "<html>")]
    assert said_by(server, "return client.jobs.get(1)")["name"] == "AnswerUnreadable"
    server.script = [(302, {"location": server.url}, "")]
    assert said_by(server, "return client.jobs.get(1)")["name"] == "ApiError"
    server.script = [problem(503, "not_ready", retry_after="3600")]
    assert said_by(server, "return client.jobs.get(1)")["name"] == "ServerFailed"
    assert len(server.seen) == 4
    for name in ("", ".", "..", "a/enable"):
        call = f"return client.jobs.get({json.dumps(name)})"
        assert said_by(server, f"await null; {call}")["name"] == "TypeError"
    gone = f"http://127.0.0.1:{free_port()}"
    call = "return client.runs.retry('1')"
    assert said_by(server, call, f"{{ url: '{gone}', retries: 1 }}")["name"] == "Unreachable"


def events(*given: tuple[str, Any, str]) -> tuple[int, dict[str, str], str]:
    body = ": hello\n\n"
    for name, data, number in given:
        body += f"event: {name}\n" + (f"id: {number}\n" if number else "")
        body += f"data: {json.dumps(data)}\n\n"
    size = str(len(body.encode()) + 100)  # more was to come
    return 200, {"content-type": "text/event-stream", "content-length": size}, body


def test_a_stream_goes_on_where_it_broke(server: Server) -> None:
    trouble = {"code": "store_unavailable", "detail": "x"}
    server.script = [
        events(("output", {"text": "one"}, "1-3")),
        None,
        problem(503, "store_unavailable", retry_after="0"),
        events(("output", {"text": "two"}, "1-6"), ("error", trouble, "")),
        events(("end", {"state": "succeeded"}, "")),
    ]
    follow = "const seen = []; for await (const e of client.runs.follow('1')) seen.push(e); "
    seen = said_by(server, follow + "return seen")
    assert [one.get("text") for one in seen] == ["one", "two", None]
    assert seen[-1] == {"type": "end", "run": {"state": "succeeded"}}
    places = [headers["last-event-id"] for _, headers in server.seen]
    assert places == ["1-0", "1-3", "1-3", "1-3", "1-6"]
    server.script = [events(("error", {"code": "unauthenticated", "detail": "revoked"}, ""))]
    assert said_by(server, follow)["name"] == "Unauthenticated"


def test_the_secret_is_not_printed() -> None:
    program = """
const client = new api.Everbell({ url: 'http://h', apiKey: 'key-1', apiSecret: 'secret-1' })
console.log(client, JSON.stringify(client))
"""
    assert "secret-1" not in node_runs(program)


# --- against a node ------------------------------------------------------------------------------

STORY = """
const client = new api.Everbell()
const made = await client.jobs.create([1, 2, 3].map(n => (
  { name: `j${n}`, action: { kind: 'script', text: 'echo grüße; exit 1' } })))
const names = []
for await (const job of client.jobs.list({ limit: 2 })) names.push(job.name)
const job = await client.jobs.get('j1')
const changed = await client.jobs.change(job, { timeout: 9 }, { ifMatch: job.etag })
const late = await client.jobs.change(job, { timeout: 8 }, { ifMatch: made[0].etag }).catch(e => e)
const again = await client.jobs.replace(job, job)
const key = { idempotencyKey: 'once' }
const [run, same] = [await client.jobs.run(job, key), await client.jobs.run(job, key)]
const done = await client.runs.wait(run, { timeoutMs: 20_000 })
const seen = await client.schedules.preview({ schedule: '0 25 * * *' }).catch(e => e)
const sleep = { kind: 'command', argv: ['sleep', '9'] }
const slow = await client.jobs.create({ name: 's', action: sleep })
const running = await client.jobs.run(slow)
const timeout = await client.runs.wait(running, { timeoutMs: 100 }).catch(e => e)
await client.runs.cancel(running)
console.log(JSON.stringify({
  names, timeout: [changed.timeout, again.timeout], late: late.name, same: run.id === same.id,
  state: done.state, output: await client.runs.output(run),
  wrong: [seen.name, seen.position, seen.where],
  waited: timeout.name, cancelled: (await client.runs.wait(running)).state
}))
"""


def environment(node: NodeProcess) -> dict[str, str]:
    return {
        "EVERBELL_SERVER": f"http://127.0.0.1:{node.port}",
        "EVERBELL_API_KEY": node.headers["x-api-key"],
        "EVERBELL_API_SECRET": node.headers["x-secret-key"],
    }


def test_against_a_node(new_node: Callable[..., NodeProcess]) -> None:
    node = new_node()
    node.start()
    assert json.loads(node_runs(STORY, **environment(node))) == {
        "names": ["j1", "j2", "j3"],
        "timeout": [9, None],
        "late": "VersionMismatch",
        "same": True,
        "state": "failed",
        "output": "grüße\n",
        "wrong": ["InvalidSchedule", 2, ["/schedule"]],
        "waited": "WaitTimeout",
        "cancelled": "cancelled",
    }
    done = subprocess.run(
        ["node", str(CLIENT / "examples" / "first.mjs")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment(node)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["page 1", "page 2", "page 3", "succeeded", "manual try"]
    assert [p["name"] for p in node.call("GET", "/projects")[1]["data"]] == ["default"]

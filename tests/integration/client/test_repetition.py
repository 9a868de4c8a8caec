"""What the clients do when connections break and servers are busy: over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from everbell.client import (
    AnswerLost,
    AnswerUnreadable,
    ApiError,
    End,
    JobPatch,
    RateLimited,
    ServerFailed,
    Unreachable,
)

pytestmark = pytest.mark.timeout(60)
SCRIPT = list[bytes | None]


class Server:
    """Answers each request with the next bytes of a script; None = break off without an answer."""

    def __init__(self) -> None:
        self.script: SCRIPT = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.times: list[float] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                self._one(connection, lines)

    def _one(self, connection: socket.socket, lines: Any) -> None:
        first = lines.readline().decode().strip()
        if not first:
            return
        headers: dict[str, str] = {}
        while line := lines.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = lines.read(int(headers.get("content-length", 0)))
        self.seen.append((first, headers, body))
        self.times.append(time.monotonic())
        answer = self.script.pop(0)
        if answer is not None:
            connection.sendall(answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.close()


def answer(status: int, value: Any, **headers: str) -> bytes:
    body = json.dumps(value).encode()
    more = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
    return head.encode() + body


def problem(status: int, code: str, **headers: str) -> bytes:
    return answer(status, {"code": code, "detail": "so it is", "hint": "wait"}, **headers)


PROJECT = {
    "id": 1, "uuid": "u", "name": "ops", "description": "",
    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
MADE = answer(201, {"data": PROJECT, "success": True}, etag='"a"')
RUN = {
    "id": "1-2", "job_id": 1, "job_uuid": "u", "job": "j", "project_id": 1,
    "slot": "2026-01-01T00:00:00Z", "trigger": "manual", "state": "succeeded", "reason": "",
    "attempt": 2, "token": 1, "node": "n", "due_at": "2026-01-01T00:00:00Z", "claimed_at": None,
    "started_at": None, "finished_at": None, "duration_ms": None, "lateness_ms": None, "code": 0,
    "error": "", "output_bytes": 0, "truncated": False, "until": None, "count": 1,
    "cancel_requested": False, "from_a_newer_server": [1],
}  # fmt: skip


def face_of(make_face: Any, server: Server, **options: Any) -> Any:
    return make_face(server.url, "key", "secret", **options)


def test_a_creation_is_repeated_under_one_key(make_face: Any, server: Server) -> None:
    server.script = [None, problem(503, "store_unknown_outcome", retry_after="0"), MADE]
    project = face_of(make_face, server).do(lambda c: c.projects.create("ops"))
    assert (project.name, project.etag) == ("ops", '"a"')
    keys = {headers["idempotency-key"] for _, headers, _ in server.seen}
    assert len(server.seen) == 3
    assert len(keys) == 1
    assert len({body for _, _, body in server.seen}) == 1


def test_what_might_be_done_twice_is_not_repeated(make_face: Any, server: Server) -> None:
    face = face_of(make_face, server)
    for call in (
        lambda c: c.runs.retry("1-2"),
        lambda c: c.credentials.create(name="x"),
        lambda c: c.jobs.skip_next(1),
        lambda c: c.jobs.change(1, JobPatch(timeout=1), if_match='"3"'),
    ):
        server.script = [None]
        with pytest.raises(AnswerLost, match="read again"):
            face.do(call)
    server.script = [problem(503, "store_unknown_outcome")]
    with pytest.raises(ServerFailed):
        face.do(lambda c: c.runs.retry("1-2"))
    assert len(server.seen) == 5


def test_what_was_not_done_is_repeated_whatever_it_is(make_face: Any, server: Server) -> None:
    made = answer(201, {"data": RUN, "success": True})
    server.script = [problem(429, "rate_limited", retry_after="1"), made]
    run = face_of(make_face, server).do(lambda c: c.runs.retry("1-2"))
    assert run.state == "succeeded"
    assert server.times[1] - server.times[0] >= 1.0


def test_a_deletion_whose_answer_was_lost_is_done(make_face: Any, server: Server) -> None:
    server.script = [None, problem(404, "not_found")]
    assert face_of(make_face, server).do(lambda c: c.jobs.delete(1)) is None


def test_patience_ends(make_face: Any, server: Server) -> None:
    face = face_of(make_face, server, retries=1)
    server.script = [problem(429, "rate_limited", retry_after="0")] * 2
    with pytest.raises(RateLimited) as caught:
        face.do(lambda c: c.jobs.get(1))
    assert (caught.value.retry_after_s, caught.value.hint) == (0.0, "wait")
    server.script = [problem(503, "not_ready", retry_after="3600")]
    with pytest.raises(ServerFailed):
        face.do(lambda c: c.jobs.get(1))
    assert len(server.seen) == 3


def test_nobody_listens(make_face: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(Unreachable, match="is the server running"):
        make_face(url, retries=1).do(lambda c: c.runs.retry("1-2"))


def test_a_server_that_is_silent(make_face: Any, server: Server) -> None:
    server.script = [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12"]
    with pytest.raises(AnswerLost):
        face_of(make_face, server, retries=0, timeout=0.5).do(lambda c: c.jobs.get(1))


@pytest.mark.parametrize("body", ["<html>", {"data": {"id": "one"}}, [], {"data": None}])
def test_an_answer_of_something_else(make_face: Any, server: Server, body: Any) -> None:
    server.script = [answer(200, body)]
    with pytest.raises(AnswerUnreadable, match="Everbell server"):
        face_of(make_face, server).do(lambda c: c.jobs.get(1))


def test_redirects_are_not_followed_with_the_key(make_face: Any, server: Server) -> None:
    server.script = [answer(302, "", location=server.url + "/elsewhere")]
    with pytest.raises(ApiError) as caught:
        face_of(make_face, server).do(lambda c: c.jobs.get(1))
    assert caught.value.status == 302
    assert len(server.seen) == 1


def stream(*events: tuple[str, Any, str]) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
    body = ": hello\n\n"
    for name, data, number in events:
        body += f"event: {name}\n" + (f"id: {number}\n" if number else "")
        body += f"data: {json.dumps(data)}\n\n"
    size = len(body.encode()) + 100  # more was to come
    return head + f"content-length: {size}\r\n\r\n".encode() + body.encode()


def piece(attempt: int, offset: int, text: str) -> tuple[str, Any, str]:
    data = {"attempt": attempt, "offset": offset, "stream": "out", "text": text}
    return "output", data, f"{attempt}-{offset + len(text)}"


def test_a_stream_goes_on_where_it_broke(make_face: Any, server: Server) -> None:
    server.script = [
        stream(piece(1, 0, "one")),
        None,
        stream(),
        problem(503, "store_unavailable", retry_after="0"),
        stream(piece(1, 3, "two"), ("error", {"code": "store_unavailable", "detail": "x"}, "")),
        stream(piece(2, 0, "three"), ("end", RUN, "")),
    ]
    *pieces, end = face_of(make_face, server).do(lambda c: c.runs.follow("1-2"))
    assert [one.text for one in pieces] == ["one", "two", "three"]
    assert isinstance(end, End)
    resumed = [headers["last-event-id"] for _, headers, _ in server.seen]
    assert resumed == ["1-0", "1-3", "1-3", "1-3", "1-3", "1-6"]
    assert all(h["accept"] == "text/event-stream" for _, h, _ in server.seen)


def test_a_stream_of_a_key_that_was_revoked_ends(make_face: Any, server: Server) -> None:
    server.script = [stream(("error", {"code": "unauthenticated", "detail": "revoked"}, ""))]
    with pytest.raises(ApiError, match="revoked") as caught:
        face_of(make_face, server).do(lambda c: c.runs.follow("1-2"))
    assert caught.value.code == "unauthenticated"


def test_a_stream_that_never_gets_on_ends(make_face: Any, server: Server) -> None:
    server.script = [None, None]
    with pytest.raises(AnswerLost):
        face_of(make_face, server, retries=1).do(lambda c: c.runs.follow("1-2"))

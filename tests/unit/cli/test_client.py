import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from everbell.cli.base import ApiError, Unreachable, UsageError
from everbell.cli.client import RemoteClient, parse_events, seg


class Handler(BaseHTTPRequestHandler):
    seen: list = []

    def do_GET(self):
        Handler.seen.append((self.path, self.headers))
        answers = {
            "/api/v1/ok": (200, b'{"data": 1, "success": true}'),
            "/api/v1/html": (502, b"<html>bad gateway</html>"),
            "/api/v1/text": (200, b"hello"),
            "/api/v1/gone": (404, json.dumps({"detail": "no such", "suggestions": ["x"]}).encode()),
        }
        if self.path.startswith("/api/v1/stall"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"event: output\ndata: 1\n\n")
            self.wfile.flush()
            done.wait(5)
            return
        status, body = answers[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


done = threading.Event()


@pytest.fixture
def server():
    done.clear()
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    done.set()
    running.shutdown()
    thread.join()
    running.server_close()


def test_query_headers_and_prefix(server):
    client = RemoteClient(server + "/api/v1/", {"x-api-key": "k"})
    assert client.call("GET", "/ok", query={"a": "b c", "none": None}) == {
        "data": 1,
        "success": True,
    }
    path, headers = Handler.seen[-1]
    assert path == "/api/v1/ok?a=b+c"
    assert headers["x-api-key"] == "k"
    assert headers["user-agent"].startswith("everbell-cli/")


def test_errors_of_the_api_and_of_others(server):
    client = RemoteClient(server, {})
    with pytest.raises(ApiError) as caught:
        client.call("GET", "/gone")
    assert (caught.value.message, caught.value.status) == ("no such", 404)
    with pytest.raises(ApiError, match="answered 502"):
        client.call("GET", "/html")
    with pytest.raises(Unreachable, match="is this an Everbell server"):
        client.call("GET", "/text")
    assert client.text("/text") == b"hello"


def test_a_stream_that_stalls_ends_in_time(server):
    events = RemoteClient(server, {}).events("/stall", {}, lambda: 0.05)
    assert next(events) == ("output", "1")
    left = iter([0.05, 0.0])
    events = RemoteClient(server, {}).events("/stall", {}, lambda: next(left, 0.0))
    assert next(events) == ("output", "1")
    with pytest.raises(TimeoutError):
        next(events)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", "://"])
def test_strange_addresses(url):
    with pytest.raises(UsageError):
        RemoteClient(url, {})


def test_refused_is_unreachable():
    with pytest.raises(Unreachable, match=r"can't reach the server at http://127\.0\.0\.1:1 "):
        RemoteClient("127.0.0.1:1", {}).call("GET", "/ok")


def test_events_cut_anywhere_read_the_same():
    text = b': hello\n\nevent: output\nid: 3\ndata: {"a":\ndata: 1}\r\n\r\ndata: x\n\nevent: lost\n'
    want = [("output", '{"a":\n1}'), ("message", "x")]
    assert list(parse_events([text])) == want
    assert list(parse_events(bytes([byte]) for byte in text)) == want


def test_segments_are_quoted():
    assert seg("a/b c?") == "a%2Fb%20c%3F"

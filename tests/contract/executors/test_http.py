import asyncio
import gzip
import hashlib
import hmac
import socket
from base64 import b64encode

import msgspec
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from everbell.config.schema import Callbacks
from everbell.domain.errors import ConfigError, RefusedError, ValidationError
from everbell.domain.job import HttpAction
from everbell.executors.http import BODY_LIMIT, HttpExecutor
from everbell.testing.executor_contract import SECRET, ListSink, assignment


class FakeResolver(AbstractResolver):
    """Gives the answers in turn; the last one stays."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked += 1
        hosts = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in hosts
        ]

    async def close(self):
        pass


async def go(executor, action, sink=None, **more):
    return await executor.run(assignment(action, **more), asyncio.Event(), sink or ListSink())


async def test_what_the_target_receives_is_signed_as_sent(http, server):
    await go(http, HttpAction(url=server.url, headers={"X-Mine": "1"}), data={"n": 1})
    seen = server.seen[0]
    stamp = seen.headers["webhook-timestamp"]
    signed = f"{seen.headers['webhook-id']}.{stamp}.".encode() + seen.body
    wanted = "v1," + b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    assert seen.headers["webhook-signature"] == wanted
    assert stamp == "1763712005"
    assert seen.headers["user-agent"] == "everbell/test"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["idempotency-key"] == seen.headers["webhook-id"]
    assert seen.headers["x-mine"] == "1"
    assert msgspec.json.decode(seen.body)["job"]["data"] == {"n": 1}


async def test_get_has_no_body(http, server):
    outcome = await go(http, HttpAction(url=server.url, method="GET"), data={"n": 1})
    assert outcome.state == "succeeded"
    assert server.seen[0].body == b""


@pytest.mark.parametrize(
    ("status", "state", "retryable"),
    [
        (204, "succeeded", True),
        (302, "failed", False),
        (400, "failed", False),
        (404, "failed", False),
        (408, "failed", True),
        (410, "failed", False),
        (425, "failed", True),
        (429, "failed", True),
        (500, "failed", True),
        (502, "failed", True),
    ],
)
async def test_statuses(http, server, status, state, retryable):
    async def reply(request):
        return web.Response(status=status, headers={"location": f"{server.url}/other"})

    server.reply = reply
    outcome = await go(http, HttpAction(url=server.url))
    assert (outcome.state, outcome.code, outcome.retryable) == (state, status, retryable)
    assert len(server.seen) == 1, "a redirect is not followed"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999999999999999", 86400.0),
        ("Fri, 21 Nov 2025 08:01:05 GMT", 60.0),
        ("Fri, 21 Nov 2025 08:00:00 GMT", 0.0),
        ("Fri, 21 Nov 2099 08:00:00 GMT", 86400.0),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
async def test_retry_after(http, server, text, seconds):
    async def reply(request):
        return web.Response(status=429, headers={"retry-after": text})

    server.reply = reply
    assert (await go(http, HttpAction(url=server.url))).retry_after_s == seconds


async def test_the_answer_is_captured_up_to_a_limit(http, server):
    async def reply(request):
        return web.Response(body=b"x" * (4 * BODY_LIMIT))

    server.reply = reply
    sink = ListSink()
    assert (await go(http, HttpAction(url=server.url), sink)).state == "succeeded"
    assert sink.text() == "HTTP 200 OK\n" + "x" * BODY_LIMIT


async def test_a_compressed_answer_is_not_unpacked(http, server):
    bomb = gzip.compress(b"\0" * 10_000_000)

    async def reply(request):
        return web.Response(body=bomb, headers={"content-encoding": "gzip"})

    server.reply = reply
    sink = ListSink()
    assert (await go(http, HttpAction(url=server.url), sink)).state == "succeeded"
    assert b"".join(data for _, data in sink.chunks) == b"HTTP 200 OK\n" + bomb


async def test_cookies_are_not_kept(http, server):
    async def reply(request):
        answer = web.Response()
        answer.set_cookie("a", "b")
        return answer

    server.reply = reply
    await go(http, HttpAction(url=server.url))
    await go(http, HttpAction(url=server.url))
    assert "cookie" not in server.seen[1].headers


async def test_proxies_of_the_environment_are_ignored(http, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await go(http, HttpAction(url=server.url))).state == "succeeded"


async def test_too_large_a_payload_is_refused_before_it_is_sent(server, clock):
    executor = HttpExecutor(Callbacks(payload_max_mb=0.001), clock, "t")
    with pytest.raises(RefusedError, match="bytes"):
        await go(executor, HttpAction(url=server.url), data="x" * 2000)
    assert server.seen == []
    await executor.close()


async def test_words_for_a_refused_connection(http):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        outcome = await go(http, HttpAction(url=f"http://127.0.0.1:{port}/"))
    assert outcome.error == f"connection refused by 127.0.0.1:{port}"
    assert outcome.retryable


async def test_words_for_an_unknown_name(clock):
    class Nowhere(FakeResolver):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            raise OSError(None, "Name or service not known")

    executor = HttpExecutor(Callbacks(), clock, "t", Nowhere([]))
    outcome = await go(executor, HttpAction(url="http://nowhere.example/"))
    assert outcome.error == "no address found for host nowhere.example"
    assert outcome.retryable
    await executor.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
)
async def test_nonsense_is_a_failure_in_words(http, answer):
    async def speak(reader, writer):
        await reader.read(100)
        writer.write(answer)
        writer.close()

    odd = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = odd.sockets[0].getsockname()[1]
    outcome = await go(http, HttpAction(url=f"http://127.0.0.1:{port}/"))
    assert outcome.state == "failed", outcome
    assert f"127.0.0.1:{port}" in outcome.error
    assert outcome.retryable
    odd.close()
    await odd.wait_closed()


async def test_check_does_no_dns(clock):
    resolver = FakeResolver(["169.254.169.254"])
    executor = HttpExecutor(Callbacks(), clock, "t", resolver)
    executor.check(HttpAction(url="http://metadata.example/"))
    assert resolver.asked == 0


async def test_check_names_bad_headers_and_addresses(http):
    with pytest.raises(ValidationError):
        http.check(HttpAction(url="http://x/", headers={"Host": "y"}))
    with pytest.raises(ValidationError):
        http.check(HttpAction(url="http://127.1/"))
    with pytest.raises(ValidationError):
        http.check(HttpAction(url="http://x/", success=("great",)))
    with pytest.raises(RefusedError):
        http.check(HttpAction(url="http://[fe80::1]/"))


async def test_a_bad_network_in_the_settings(clock):
    with pytest.raises(ConfigError, match=r"callbacks\.allow"):
        HttpExecutor(Callbacks(allow=("10.0.0.0/99",)), clock, "t")


async def test_what_was_checked_is_connected_to(server, clock):
    resolver = FakeResolver(["127.0.0.1"])
    executor = HttpExecutor(Callbacks(), clock, "t", resolver)
    url = f"http://callback.example:{server.port}/"
    assert (await go(executor, HttpAction(url=url))).state == "succeeded"
    assert server.seen[0].headers["host"] == f"callback.example:{server.port}"
    assert resolver.asked == 1
    await executor.close()


async def test_a_name_that_is_rebound_between_attempts_is_refused(server, clock):
    resolver = FakeResolver(["127.0.0.1"], ["169.254.169.254"])
    executor = HttpExecutor(Callbacks(), clock, "t", resolver)

    async def reply(request):
        return web.Response(status=503, headers={"connection": "close"})

    server.reply = reply
    action = HttpAction(url=f"http://rebound.example:{server.port}/")
    assert (await go(executor, action)).code == 503
    with pytest.raises(RefusedError, match=r"169\.254\.169\.254"):
        await go(executor, action, attempt=3)
    assert resolver.asked == 2
    assert len(server.seen) == 1
    await executor.close()


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["10.0.0.1"], ["fe80::1%lo"]],
)
async def test_one_bad_answer_spoils_a_name(server, clock, answers):
    callbacks = Callbacks(private_addresses="deny")
    executor = HttpExecutor(callbacks, clock, "t", FakeResolver(answers))
    with pytest.raises(RefusedError):
        await go(executor, HttpAction(url=f"http://mixed.example:{server.port}/"))
    assert server.seen == []
    await executor.close()


async def test_private_addresses_denied_also_as_literals(server, clock):
    executor = HttpExecutor(Callbacks(private_addresses="deny"), clock, "t")
    with pytest.raises(RefusedError):
        await go(executor, HttpAction(url=server.url))
    listed = Callbacks(private_addresses="deny", allow=("127.0.0.1/32",))
    allowed = HttpExecutor(listed, clock, "t")
    assert (await go(allowed, HttpAction(url=server.url))).state == "succeeded"
    assert len(server.seen) == 1
    await executor.close()
    await allowed.close()


async def test_a_name_is_looked_up_by_the_system(http, server):
    outcome = await go(http, HttpAction(url=f"http://localhost:{server.port}/"))
    assert outcome.state == "succeeded", outcome
    refused = HttpAction(url="http://nowhere.invalid/")
    assert (await go(http, refused)).error == "no address found for host nowhere.invalid"


async def test_words_for_a_server_without_tls(http):
    async def speak(reader, writer):
        writer.close()

    plain = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    outcome = await go(http, HttpAction(url=f"https://127.0.0.1:{port}/"))
    assert outcome.state == "failed"
    assert f"127.0.0.1:{port}" in outcome.error
    plain.close()
    await plain.wait_closed()

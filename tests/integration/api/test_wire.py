"""Over real sockets: half requests, two lengths, callers who leave, many at once."""

import asyncio

import pytest
import uvicorn

from everbell.api.app import create_app
from everbell.config.schema import Api, Settings
from everbell.services.context import Services
from everbell.stores.memory import MemoryStore
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.testing.asgi import AsgiClient

HOOK = {"kind": "http", "url": "http://example.com/hook"}


class Site:
    """The API at a port, with one job and one run that nobody takes."""

    async def open(self):
        services = Services(
            store=MemoryStore(),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            settings=Settings(api=Api(max_body=100_000, body_timeout=0.3)),
            secret_key=b"k" * 32,
            checks={"http": lambda action: None},
        )
        self.app = create_app(services)
        self.local = AsgiClient(self.app, local=True)
        made = (await self.local.post("/credentials", {"scopes": ["admin"]})).data
        self.login = f"x-api-key: {made['api_key']}\r\nx-secret-key: {made['api_secret']}\r\n"
        await self.local.post("/jobs", {"name": "j", "action": HOOK})
        self.run = (await self.local.post("/jobs/j/runs")).data["id"]
        config = uvicorn.Config(self.app, port=0, lifespan="off", log_config=None)
        self.server = uvicorn.Server(config)
        self.task = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    async def close(self):
        self.server.should_exit = True
        await self.task

    async def connect(self, head, body=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = head.replace("\n", "\r\n") + f"host: x\r\n{self.login}\r\n"
        writer.write(head.encode("latin-1") + body)
        return reader, writer

    async def say(self, head, body=b""):
        """Send, and return all that comes until the other side closes or is silent."""
        reader, writer = await self.connect(head, body)
        found = b""
        try:
            while part := await asyncio.wait_for(reader.read(65536), 2.0):
                found += part
        except (TimeoutError, ConnectionResetError):
            pass
        writer.close()
        return found


@pytest.fixture
async def site():
    opened = await Site().open()
    yield opened
    await opened.close()


async def jobs(site):
    return (await site.local.get("/jobs")).json()["page"]["total"]


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_body_that_stops_half_way_is_408_and_the_connection_ends(site):
    head = "POST /jobs HTTP/1.1\ncontent-type: application/json\ncontent-length: 90\n"
    found = await site.say(head, b'{"name": "half", ')
    assert found.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in found.lower()
    assert await jobs(site) == 1


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (
            "POST /jobs HTTP/1.1\ncontent-length: 5\ntransfer-encoding: chunked\n",
            b"0\r\n\r\nGET / ",
        ),
        ("POST /jobs HTTP/1.1\ncontent-length: 5\ncontent-length: 6\n", b"{}    "),
        ("POST /jobs HTTP/1.1\ncontent-length: -1\n", b"{}"),
        ("POST /jobs HTTP/1.1\ntransfer-encoding: chunked\n", b"zz\r\n{}\r\n"),
        ("GET /jobs\x00 HTTP/1.1\n", b""),
        ("GET /jobs HTTP/1.1\nx: a\n folded: b\n", b""),
        ("NONSENSE\n", b""),
    ],
)
async def test_what_is_no_clear_request_changes_nothing_and_the_server_lives(site, head, body):
    found = await site.say(head, body)
    assert not found.startswith(b"HTTP/1.1 5"), found
    assert not found.startswith(b"HTTP/1.1 201"), found
    assert found.count(b"HTTP/1.1 ") <= 1, "one request, one answer"
    assert await jobs(site) == 1
    assert (await site.say("GET /healthz HTTP/1.1\nconnection: close\n")).startswith(
        b"HTTP/1.1 200"
    )


async def test_long_headers_are_refused(site):
    found = await site.say("GET /jobs HTTP/1.1\nx-long: " + "y" * 100_000 + "\n")
    assert found.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


async def test_a_body_beyond_the_limit_is_413_before_it_is_read(site):
    head = "POST /jobs HTTP/1.1\ncontent-type: application/json\ncontent-length: 99999999\n"
    assert (await site.say(head, b"{")).startswith(b"HTTP/1.1 413")


async def test_a_follower_who_leaves_frees_the_seat(site):
    limits = site.app.state.limits
    head = f"GET /runs/{site.run}/output?follow=1 HTTP/1.1\n"
    opened = [await site.connect(head) for _ in range(20)]
    for reader, _ in opened:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await until(lambda: limits.followers == 20)
    for _, writer in opened:
        writer.close()
    await until(lambda: limits.followers == 0)


async def test_many_connections_at_once_are_all_answered(site):
    head = "GET /jobs/j HTTP/1.1\nconnection: close\n"
    found = await asyncio.gather(*(site.say(head) for _ in range(300)))
    assert all(one.startswith(b"HTTP/1.1 200") for one in found)

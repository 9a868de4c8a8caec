"""A node that lives as long as an ASGI application does."""

import asyncio
import contextlib

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from everbell import Everbell, EverbellMiddleware
from everbell.domain.errors import ConfigError, StoreError
from everbell.services import credentials
from everbell.services.context import LOCAL
from everbell.testing.asgi import AsgiClient


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = Everbell("shop", database="sqlite:///shop.db")

    @app.job
    def one():
        return 1

    return app


class Lifespan:
    """What a server does with an application's lifespan."""

    def __init__(self, asgi):
        self.asgi = asgi
        self.inbox, self.sent = asyncio.Queue(), asyncio.Queue()

    async def __aenter__(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.task = asyncio.ensure_future(self.asgi(scope, self.inbox.get, self.sent.put))
        await self.inbox.put({"type": "lifespan.startup"})
        self.started = await asyncio.wait_for(self.sent.get(), 10)
        return self

    async def __aexit__(self, *_):
        if self.started["type"] == "lifespan.startup.complete":
            await self.inbox.put({"type": "lifespan.shutdown"})
            self.stopped = await asyncio.wait_for(self.sent.get(), 10)
            assert self.stopped["type"] == "lifespan.shutdown.complete"
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.task, 10)


def wrapped(inner, app):
    return EverbellMiddleware(inner, app)


async def bare(scope, receive, send):
    """An application without a lifespan, as Django's."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])


def added(app):
    inner = Starlette()
    inner.add_middleware(EverbellMiddleware, everbell=app)
    return inner


WAYS = {
    "fastapi": lambda app: FastAPI(lifespan=app.lifespan),
    "starlette": lambda app: Starlette(lifespan=app.lifespan),
    "middleware": lambda app: app.middleware(FastAPI()),
    "added": added,
    "no lifespan": lambda app: app.middleware(bare),
    "alone": lambda app: app.asgi,
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_node_lives_as_long_as_the_application(app, way):
    async with Lifespan(WAYS[way](app)) as life:
        assert life.started["type"] == "lifespan.startup.complete"
        assert await (await app.jobs["one"].run_now()).result(5) == 1
    assert app.node is None
    async with Lifespan(WAYS[way](app)):
        assert app.node is not None


async def test_an_application_that_cannot_start_stops_the_node(app):
    @contextlib.asynccontextmanager
    async def broken(_):
        raise ValueError("no")
        yield

    async with Lifespan(app.middleware(Starlette(lifespan=broken))) as life:
        assert life.started["type"] == "lifespan.startup.failed"
    assert app.node is None


async def test_a_node_that_cannot_start_fails_the_start(app, tmp_path):
    (tmp_path / "shop.db").write_text("this is no database, and long enough to be told apart")
    for way in ("middleware", "alone"):
        async with Lifespan(WAYS[way](app)) as life:
            assert life.started["type"] == "lifespan.startup.failed"
            assert life.started["message"]
    with pytest.raises((ConfigError, StoreError)):
        async with app.running():
            pass


async def test_the_api_can_be_mounted(app):
    outer = FastAPI(lifespan=app.lifespan)
    outer.mount("/everbell", app.asgi)
    client = AsgiClient(outer)
    assert (await client.request("GET", "/everbell/api/v1/jobs")).status == 503
    async with Lifespan(outer):
        assert (await client.request("GET", "/everbell/api/v1/jobs")).status == 401
        made, secret = await credentials.create(app.services, LOCAL, name="me", scopes=("read",))
        client.headers = {"x-api-key": made.api_key, "x-secret-key": secret}
        answer = await client.request("GET", "/everbell/api/v1/jobs")
        assert [job["name"] for job in answer.data] == ["one"]
        assert answer.data[0]["action"]["function"].endswith("one")

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from aiohttp import web

from everbell.config.schema import Callbacks, Execution
from everbell.executors.command import CommandExecutor
from everbell.executors.http import HttpExecutor
from everbell.executors.script import ScriptExecutor


class FixedClock:
    def __init__(self, now_us=1_763_712_005_000_000):
        self.now = now_us

    def now_us(self):
        return self.now

    def monotonic(self):
        return self.now / 1e6

    async def sleep(self, seconds):
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def execution():
    return Execution(kill_grace=0.1)


@pytest.fixture
async def server():
    """A real server on loopback; `seen` keeps requests, `reply` is what it does."""
    state = SimpleNamespace(seen=[], reply=None, release=asyncio.Event())

    async def handle(request):
        body = await request.read()
        state.seen.append(SimpleNamespace(request=request, headers=request.headers, body=body))
        if state.reply is not None:
            return await state.reply(request)
        return web.Response(text="done")

    async def fail(request):
        return web.Response(status=503, text="busy")

    async def hang(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"ready")
        with contextlib.suppress(ConnectionError):
            await state.release.wait()
        return answer

    app = web.Application()
    app.router.add_route("*", "/fail", fail)
    app.router.add_route("*", "/hang", hang)
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state.port = site._server.sockets[0].getsockname()[1]
    state.url = f"http://127.0.0.1:{state.port}"
    yield state
    state.release.set()
    await runner.cleanup()


@pytest.fixture
async def http(clock):
    executor = HttpExecutor(Callbacks(), clock, "everbell/test")
    yield executor
    await executor.close()


@pytest.fixture
def command(execution):
    return CommandExecutor(execution)


@pytest.fixture
def script(execution):
    return ScriptExecutor(execution)

import asyncio
import contextlib
import logging

import pytest
from aiohttp import web
from yarl import URL

from everbell.config.schema import Callbacks
from everbell.domain.job import HttpAction
from everbell.executors import http_gate
from everbell.executors.http import HttpExecutor
from everbell.executors.http_gate import Gate
from everbell.telemetry.clock import SystemClock
from everbell.testing.executor_contract import ListSink, assignment
from everbell.testing.free_ports import free_port


class HandClock(SystemClock):
    """Time passes for the breaker only when the test says so."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@contextlib.asynccontextmanager
async def executor(clock=None, **settings):
    made = HttpExecutor(Callbacks(**settings), clock or SystemClock(), "everbell/test")
    try:
        yield made
    finally:
        await made.close()


async def go(http, url, **more):
    return await http.run(assignment(HttpAction(url=url), **more), asyncio.Event(), ListSink())


async def test_it_is_left_alone_then_tried_once_then_called_again(server, caplog):
    caplog.set_level(logging.INFO)
    clock, status = HandClock(), 500

    async def reply(request):
        return web.Response(status=status)

    server.reply = reply
    async with executor(clock, breaker_failures=3, breaker_open=20) as http:
        for _ in range(3):
            assert (await go(http, server.url)).code == 500
        clock.now += 5
        outcome = await go(http, server.url)
        assert (outcome.state, outcome.retryable, outcome.code) == ("failed", True, None)
        assert outcome.retry_after_s == 15
        assert outcome.error == (
            f"not sent: 127.0.0.1:{server.port} failed too often and is left alone for 15.0 s more"
            " (setting callbacks.breaker_failures)"
        )
        assert len(server.seen) == 3
        assert http.destinations()[0].breaker == "open"
        clock.now += 15
        status = 200
        assert (await go(http, server.url)).state == "succeeded"
        assert http.destinations()[0].breaker == "closed"
        assert (await go(http, server.url)).state == "succeeded"
    told = [record.getMessage() for record in caplog.records if "callbacks to" in record.message]
    name = f"http://127.0.0.1:{server.port}"
    assert told == [
        f"callbacks to {name} stop for 20 s: 3 requests in a row failed",
        f"callbacks to {name}: one request tries whether it answers again",
        f"callbacks to {name} go on: it answers again",
    ]


async def test_only_one_probe_at_a_time(server):
    clock = HandClock()
    async with executor(clock, breaker_failures=1, breaker_open=20) as http:
        assert (await go(http, f"{server.url}/fail")).code == 503
        clock.now += 20
        cancel, sink = asyncio.Event(), ListSink()
        hanging = assignment(HttpAction(url=f"{server.url}/slow"))
        gone = asyncio.Event()

        async def reply(request):
            gone.set()
            await server.release.wait()
            return web.Response()

        server.reply = reply
        probe = asyncio.ensure_future(http.run(hanging, cancel, sink))
        await gone.wait()
        outcome = await go(http, f"{server.url}/ok")
        assert outcome.retry_after_s == 20
        assert http.destinations()[0].breaker == "half_open"
        cancel.set()
        assert (await probe).state == "cancelled"
        server.reply = None
        assert (await go(http, f"{server.url}/ok")).state == "succeeded"


async def test_other_destinations_are_called(server):
    async with executor(HandClock(), breaker_failures=1) as http:
        refused = f"http://127.0.0.1:{free_port()}/"
        assert "refused" in (await go(http, refused)).error
        assert "left alone" in (await go(http, refused)).error
        assert (await go(http, server.url)).state == "succeeded"
        assert [one.breaker for one in http.destinations()] == ["closed", "open"]


@pytest.mark.parametrize("status", [200, 301, 404, 408, 429])
async def test_who_answers_lives(server, status):
    async def reply(request):
        return web.Response(status=status)

    async with executor(HandClock(), breaker_failures=2) as http:
        for _ in range(2):
            await go(http, f"{server.url}/fail")
            server.reply = reply
            assert (await go(http, f"{server.url}/ok")).code == status
        assert http.destinations()[0].failures == 0


async def test_no_answer_in_time_is_a_failure_of_the_destination(server):
    async def reply(request):
        await server.release.wait()

    server.reply = reply
    async with executor(HandClock(), breaker_failures=2) as http:
        assert (await go(http, server.url, timeout_s=0.05)).state == "timed_out"
        assert http.destinations()[0].failures == 1
        # An answer that began in time shows that the destination lives.
        assert (await go(http, f"{server.url}/hang", timeout_s=0.2)).state == "timed_out"
        assert http.destinations()[0].failures == 0
        batch = assignment(HttpAction(url=server.url, batch=True), timeout_s=0.05)
        assert (await http.run(batch, asyncio.Event(), ListSink())).state == "timed_out"
        assert http.destinations()[0].failures == 1


async def test_a_rate_is_kept_in_order(server):
    async with executor(rate=50, burst=2) as http:
        loop = asyncio.get_running_loop()
        started = loop.time()
        runs = [asyncio.ensure_future(go(http, f"{server.url}/{n}")) for n in range(12)]
        await asyncio.sleep(0)
        outcomes = await asyncio.gather(*runs)
        took = loop.time() - started
    assert {one.state for one in outcomes} == {"succeeded"}
    assert took >= 10 / 50 * 0.95
    order = [int(seen.request.path[1:]) for seen in server.seen]
    assert sorted(order[:2]) == [0, 1]
    assert order[2:] == list(range(2, 12))


async def test_waiting_is_inside_the_timeout_and_blocks_nobody_else(server):
    async with executor(rate=0.5, burst=1) as http:
        assert (await go(http, server.url)).state == "succeeded"
        outcome = await go(http, server.url, timeout_s=1)
        assert (outcome.state, outcome.retryable) == ("failed", True)
        assert 1.5 < outcome.retry_after_s <= 2
        assert "callbacks.rate" in outcome.error
        cancel = asyncio.Event()
        waiting = asyncio.ensure_future(
            http.run(assignment(HttpAction(url=server.url)), cancel, ListSink())
        )
        other = f"http://localhost:{server.port}/"
        assert (await go(http, other)).state == "succeeded"
        lines = {one.destination: one.waiting for one in http.destinations()}
        assert lines == {server.url: 1, other.rstrip("/"): 0}
        cancel.set()
        assert (await waiting).state == "cancelled"
        assert {one.waiting for one in http.destinations()} == {0}
    assert len(server.seen) == 2


async def test_destinations_are_bounded(monkeypatch):
    monkeypatch.setattr(http_gate, "MAX_DESTINATIONS", 3)
    gate = Gate(Callbacks(rate=1, burst=1), HandClock())
    for number in range(10):
        await gate.enter(URL(f"http://h{number}/"), 1)
    assert [one.destination for one in gate.destinations()] == [
        "http://h9:80",
        "http://h8:80",
        "http://h7:80",
    ]


async def test_off_means_off(server):
    async with executor() as http:
        for _ in range(3):
            await go(http, f"{server.url}/fail")
        assert http.destinations() == []

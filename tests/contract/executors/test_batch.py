import asyncio
import contextlib
import hashlib
import hmac
from base64 import b64encode

import msgspec
import pytest
from aiohttp import web

from everbell.config.schema import Callbacks
from everbell.domain.errors import RefusedError, ValidationError
from everbell.domain.job import HttpAction
from everbell.domain.run import RunKey
from everbell.executors.batch import BATCH_KEEP
from everbell.executors.http import HttpExecutor
from everbell.telemetry.clock import SystemClock
from everbell.testing.executor_contract import SECRET, SLOT_US, ListSink, assignment


@contextlib.asynccontextmanager
async def executor(clock=None, **settings):
    made = HttpExecutor(Callbacks(**settings), clock or SystemClock(), "everbell/test")
    try:
        yield made
    finally:
        await made.close()


def work(action, number, **more):
    return assignment(action, key=RunKey(SLOT_US, number), **more)


async def together(http, works, sinks=None):
    sinks = sinks or [ListSink() for _ in works]
    pairs = zip(works, sinks, strict=True)
    return await asyncio.gather(*(http.run(one, asyncio.Event(), sink) for one, sink in pairs))


def ids(seen):
    return [one["run"]["id"] for one in msgspec.json.decode(seen.body)]


async def test_one_request_for_all_that_start_together(server):
    action = HttpAction(url=f"{server.url}/x", headers={"X-Mine": "1"}, batch=True)
    sinks = [ListSink() for _ in range(5)]
    async with executor() as http:
        works = [work(action, number, data={"n": number}) for number in range(5)]
        outcomes = await together(http, works, sinks)
    assert {(one.state, one.code) for one in outcomes} == {("succeeded", 200)}
    assert [sink.text() for sink in sinks] == ["HTTP 200 OK\ndone"] * 5
    assert len(server.seen) == 1
    told = msgspec.json.decode(server.seen[0].body)
    assert [one["job"]["data"]["n"] for one in told] == list(range(5))
    assert told[0]["run"] == {
        "id": f"0-{SLOT_US}",
        "slot": "2025-11-21T08:00:00Z",
        "attempt": 2,
        "token": 42,
        "trigger": "schedule",
        "scheduled_at": "2025-11-21T08:00:00Z",
    }


async def test_a_chunk_is_signed_and_named(server, clock):
    action = HttpAction(url=server.url, headers={"X-Mine": "1"}, batch=True)
    async with executor(clock) as http:
        await together(http, [work(action, number) for number in range(3)])
        await together(http, [work(action, number, attempt=3) for number in range(3)])
    names = [seen.headers["x-payload-chunk-id"] for seen in server.seen]
    assert len(set(names)) == 2
    seen = server.seen[0]
    signed = f"{names[0]}.1763712005.".encode() + seen.body
    wanted = "v1," + b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    assert seen.headers["webhook-signature"] == wanted
    assert seen.headers["webhook-id"] == seen.headers["idempotency-key"] == names[0]
    assert seen.headers["x-mine"] == "1"
    assert seen.headers["user-agent"] == "everbell/test"
    assert "everbell-token" not in seen.headers


async def test_a_single_run_is_an_array_too(server):
    async with executor() as http:
        await together(http, [work(HttpAction(url=server.url, batch=True), 7)])
    assert ids(server.seen[0]) == [f"7-{SLOT_US}"]


async def test_only_what_agrees_goes_together(server):
    url = server.url
    base = work(HttpAction(url=f"{url}/a", batch=True), 1)
    others = [
        work(HttpAction(url=f"{url}/b", batch=True), 2),
        work(HttpAction(url=f"{url}/a", method="PUT", batch=True), 3),
        work(HttpAction(url=f"{url}/a", headers={"X": "1"}, batch=True), 4),
        work(HttpAction(url=f"{url}/a", success=("200",), batch=True), 5),
        msgspec.structs.replace(base, project_uuid="other", run=work(base.action, 6).run),
        msgspec.structs.replace(base, webhook_secret=b"other", run=work(base.action, 7).run),
        work(HttpAction(url=f"{url}/a"), 8),
    ]
    async with executor() as http:
        await together(http, [base, *others, work(base.action, 9)])
    bodies = [msgspec.json.decode(seen.body) for seen in server.seen]
    sizes = sorted(len(body) for body in bodies if isinstance(body, list))
    assert sizes == [1, 1, 1, 1, 1, 1, 2]
    assert len(bodies) == 8


async def test_chunks_by_number(server):
    action = HttpAction(url=server.url, batch=True)
    async with executor(batch_max=4) as http:
        await together(http, [work(action, number) for number in range(10)])
    assert sorted(len(ids(seen)) for seen in server.seen) == [2, 4, 4]
    assert sorted(one for seen in server.seen for one in ids(seen)) == [
        f"{number}-{SLOT_US}" for number in range(10)
    ]


async def test_chunks_by_bytes(server):
    action = HttpAction(url=server.url, batch=True)
    limit_mb = 4096 / 1024 / 1024
    async with executor(payload_max_mb=limit_mb) as http:
        works = [work(action, number, data="x" * (300 * number)) for number in range(12)]
        await together(http, works)
    assert len(server.seen) > 3
    assert max(len(seen.body) for seen in server.seen) <= 4096
    assert sum(len(ids(seen)) for seen in server.seen) == 12
    assert len({seen.headers["x-payload-chunk-id"] for seen in server.seen}) == len(server.seen)


async def test_one_that_is_too_large_is_refused_alone(server):
    action = HttpAction(url=server.url, batch=True)
    async with executor(payload_max_mb=0.001) as http:
        works = [work(action, number, data="x" * (number == 1) * 2000) for number in range(3)]
        runs = [http.run(one, asyncio.Event(), ListSink()) for one in works]
        good, refused, also = await asyncio.gather(*runs, return_exceptions=True)
    assert good.state == also.state == "succeeded"
    assert isinstance(refused, RefusedError)
    assert "bytes" in refused.message
    assert len(server.seen) == 1


async def test_the_chunks_failure_is_the_failure_of_each(server):
    async def reply(request):
        return web.Response(status=503, text="busy", headers={"retry-after": "7"})

    server.reply = reply
    action = HttpAction(url=server.url, batch=True)
    async with executor() as http:
        outcomes = await together(http, [work(action, number) for number in range(3)])
    assert [(one.state, one.code, one.retry_after_s) for one in outcomes] == [
        ("failed", 503, 7.0)
    ] * 3


async def test_the_answer_is_kept_once_per_run_and_bounded(server):
    async def reply(request):
        return web.Response(body=b"x" * (3 * BATCH_KEEP))

    server.reply = reply
    sinks = [ListSink(), ListSink()]
    action = HttpAction(url=server.url, batch=True)
    async with executor() as http:
        await together(http, [work(action, number) for number in range(2)], sinks)
    assert [sink.text() for sink in sinks] == ["HTTP 200 OK\n" + "x" * BATCH_KEEP] * 2


async def test_cancelling_one_leaves_the_others(server):
    action = HttpAction(url=f"{server.url}/hang", batch=True)
    cancels, sinks = [asyncio.Event() for _ in range(3)], [ListSink() for _ in range(3)]
    async with executor() as http:
        runs = [
            asyncio.ensure_future(http.run(work(action, number), cancels[number], sinks[number]))
            for number in range(3)
        ]
        await sinks[2].seen("ready")
        cancels[1].set()
        outcome = await runs[1]
        assert outcome.state == "cancelled"
        assert "with 2 others" in outcome.error
        server.release.set()
        assert [(await runs[number]).state for number in (0, 2)] == ["succeeded"] * 2


async def test_each_run_keeps_its_own_timeout(server):
    action = HttpAction(url=f"{server.url}/hang", batch=True)
    sinks = [ListSink(), ListSink()]
    async with executor() as http:
        short = http.run(work(action, 1, timeout_s=0.1), asyncio.Event(), sinks[0])
        long = http.run(work(action, 2, timeout_s=30), asyncio.Event(), sinks[1])
        runs = [asyncio.ensure_future(short), asyncio.ensure_future(long)]
        outcome = await runs[0]
        assert outcome.state == "timed_out"
        assert "0.1 s" in outcome.error
        assert not runs[1].done()
        server.release.set()
        assert (await runs[1]).state == "succeeded"


async def gathered(http, count):
    """Let the loop turn until so many runs wait; a timer would let the window pass on the way."""
    while sum(len(chunk.members) for chunk in http._batcher._chunks) < count:
        await asyncio.sleep(0)


async def test_cancelled_in_the_window_is_not_sent(server):
    action = HttpAction(url=server.url, batch=True)
    cancel = asyncio.Event()
    async with executor(batch_window=4) as http:
        runs = [
            asyncio.ensure_future(http.run(work(action, 1), cancel, ListSink())),
            asyncio.ensure_future(http.run(work(action, 2), asyncio.Event(), ListSink())),
        ]
        await gathered(http, 2)
        cancel.set()
        assert (await runs[0]).state == "cancelled"
        assert (await runs[1]).state == "succeeded"
    assert ids(server.seen[0]) == [f"2-{SLOT_US}"]


async def test_when_the_last_one_goes_nothing_is_sent(server):
    action = HttpAction(url=server.url, batch=True)
    cancel = asyncio.Event()
    async with executor(batch_window=4) as http:
        run = asyncio.ensure_future(http.run(work(action, 1), cancel, ListSink()))
        await gathered(http, 1)
        cancel.set()
        assert (await run).state == "cancelled"
    assert server.seen == []


async def test_the_window_is_an_upper_bound(server):
    action = HttpAction(url=server.url, batch=True)
    async with executor(batch_window=1) as http:
        runs = []
        for number in range(1000):
            run = http.run(work(action, number), asyncio.Event(), ListSink())
            runs.append(asyncio.ensure_future(run))
            await asyncio.sleep(0.01 if number else 0)
            if server.seen:
                break
        await asyncio.gather(*runs)
    assert 1 < len(ids(server.seen[0])) < 1000


@pytest.mark.parametrize("window", [0.0, 10.0])
async def test_a_full_chunk_does_not_wait_and_no_window_is_one_turn(server, window):
    action = HttpAction(url=server.url, batch=True)
    async with asyncio.timeout(8), executor(batch_window=window, batch_max=3) as http:
        await together(http, [work(action, number) for number in range(3)])
    assert len(server.seen) == 1


async def test_a_refused_address_refuses_each(server):
    action = HttpAction(url=f"http://localhost:{server.port}/", batch=True)
    async with executor(private_addresses="deny") as http:
        outcomes = await together(http, [work(action, number) for number in range(2)])
    assert {(one.state, one.reason, one.retryable) for one in outcomes} == {
        ("failed", "refused", False)
    }
    assert server.seen == []


async def test_closing_ends_what_waits(server):
    action = HttpAction(url=f"{server.url}/hang", batch=True)
    sink = ListSink()
    async with executor() as http:
        run = asyncio.ensure_future(http.run(work(action, 1), asyncio.Event(), sink))
        await sink.seen("ready")
    assert (await run).state == "cancelled"


async def test_nothing_is_remembered(server):
    async with executor() as http:
        for number in range(5):
            action = HttpAction(url=f"{server.url}/{number}", batch=True)
            await together(http, [work(action, number)])
        assert (http._batcher._open, http._batcher._chunks) == ({}, set())


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_batch_needs_a_body(method):
    async with executor() as http:
        with pytest.raises(ValidationError, match=method):
            http.check(HttpAction(url="http://x/", method=method, batch=True))

"""What Redis servers do to people: flushed, restarted, frozen, given other passwords."""

import asyncio
import logging
import re
import statistics
import time
from pathlib import Path

import pytest

from everbell.config.schema import Redis, RedisTls
from everbell.domain.errors import ConfigError
from everbell.domain.run import RunKey
from everbell.ports.registry import Member
from everbell.queues.redis import open_redis
from everbell.telemetry.clock import SystemClock
from everbell.testing.contracts.queue_hints import Ear, message
from everbell.testing.contracts.queue_offers import flat, gather, run_keys, until
from everbell.testing.free_ports import free_port
from everbell.testing.queue_rigs import RedisRig
from everbell.testing.redis_server import RedisServer


@pytest.fixture
async def own(redis):
    rig = RedisRig(redis)
    yield rig
    redis.thaw()
    await rig.close()


@pytest.fixture(scope="module")
def guarded():
    server = RedisServer(password="se cret", tls=True)
    yield server
    server.close()


def secured(server, **other):
    files = {name: str(server.directory / f"{name}.pem") for name in ("ca",)}
    files |= {"cert": str(server.directory / "node.pem"), "key": str(server.directory / "node.key")}
    files |= other.pop("files", {})
    settings = {"addr": server.addr, "password": server.password, "tls": RedisTls(**files)}
    return Redis(**(settings | other))


async def opened(redis):
    parts = open_redis(redis, SystemClock(), "node-x")
    try:
        await parts.probe()
        return parts.healthy, parts.trouble
    finally:
        await parts.close()


async def test_flushing_costs_nothing_but_what_was_in_it(own):
    scheduler, worker = await own.process(), await own.process()
    await scheduler.offer(run_keys(3))
    await gather(worker, 3)
    waiting = asyncio.ensure_future(worker.take(10, 5.0))
    await asyncio.sleep(0.05)
    own.server.flush()
    await asyncio.sleep(0.05)
    assert scheduler.healthy
    await scheduler.offer(run_keys(2, 10))
    found = flat(await waiting) or await gather(worker, 2)
    assert found == run_keys(2, 10)
    own.server.flush()
    await scheduler.offer(run_keys(2, 20))
    assert await gather(worker, 2) == run_keys(2, 20)


async def test_a_restart_is_over_soon(own):
    scheduler, worker = await own.process(), await own.process()
    await scheduler.offer(run_keys(1))
    await gather(worker, 1)
    own.server.restart()
    key = 100
    async with asyncio.timeout(30):
        while True:
            key += 1
            await scheduler.offer([RunKey(1, key)])
            if await worker.take(10, 0.1):
                break
    assert scheduler.healthy


async def test_an_idle_connection_that_the_server_closed_is_not_used(own):
    queues = await own.messages()
    assert not any(await queues.put([message(1)]))
    own.server.restart()
    await asyncio.sleep(0.05)
    assert not any(await queues.put([message(2)]))


async def test_a_frozen_server_holds_up_nobody(own):
    timeout_s = 0.3
    queue = own.parts(timeout=timeout_s).ready
    await queue.offer(run_keys(1))
    await gather(queue, 1)
    own.server.freeze()
    turns: list[float] = []
    while queue.healthy or len(turns) < 50:
        before = time.monotonic()
        await queue.offer(run_keys(5))
        await asyncio.sleep(0.001)
        turns.append(time.monotonic() - before)
    assert statistics.median(turns) < timeout_s, "offers wait for the server"
    assert "redis.timeout" in queue.trouble
    before = time.monotonic()
    assert await queue.take(1, 0.2) == []
    assert time.monotonic() - before > 0.1, "takers turn in a loop"
    own.server.thaw()
    await until(lambda: queue.healthy)
    await queue.offer(run_keys(1, 70))
    # What was written before the server froze may be carried out once it goes on.
    while run_keys(1, 70)[0] not in await gather(queue, 1):
        pass


async def test_a_paused_server_is_waited_for_within_the_timeout(own):
    queues = own.parts(timeout=10).messages
    own.server.command("CLIENT", "PAUSE", 300, "WRITE")
    assert not any(await queues.put([message(1)]))
    assert queues.trouble == ""


async def test_a_lost_answer_is_not_said_to_be_a_failure(own):
    assert not any(await (await own.messages()).put([message(1)]))
    queues = own.parts(timeout=0.2).messages
    own.server.command("CLIENT", "PAUSE", 600, "WRITE")
    [told] = await queues.put([message(2)])
    assert "may have been stored" in told

    async def stored():
        return not any(await queues.put([message(2)]))

    await until(stored)
    assert queues.trouble == ""
    assert {name for name, _ in await own.stored("builds_a")} == {"1-1", "2-1"}


async def test_a_cancelled_call_leaves_no_answer_behind(own):
    queues, registry = await own.messages(), await own.registry()
    own.server.command("CLIENT", "PAUSE", 200)
    calls = [asyncio.ensure_future(queues.put([message(n)])) for n in range(5)]
    await asyncio.sleep(0.05)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert not any(await queues.put([message(9)]))
    assert list(await registry.members()) == []


async def test_a_listener_hears_again_after_a_restart(own):
    one, two = await own.bell(), await own.bell()
    ear = Ear()
    two.listen(ear)
    await asyncio.sleep(0.1)
    own.server.restart()

    async def heard():
        await one.ring()
        return ear.count > 0

    await until(heard)
    before = ear.count
    await asyncio.sleep(0.1)
    await one.ring()
    await until(lambda: ear.count > before)


async def test_a_listener_notices_a_silent_server(own):
    parts = own.parts(timeout=0.2)
    parts.wakeups._quiet_s = 0.1
    ear = Ear()
    parts.wakeups.listen(ear)
    await asyncio.sleep(0.5)
    await until(lambda: parts.healthy)
    own.server.freeze()
    await until(lambda: not parts.healthy)
    own.server.thaw()
    await until(lambda: parts.healthy and ear.count > 0)


async def test_a_key_of_another_kind_is_said_and_stops_nobody(own):
    own.server.command("SET", "everbell:jobs", "mine")
    queue = await own.process()
    await queue.offer(run_keys(1))
    await until(lambda: not queue.healthy)
    assert "redis.job_store" in queue.trouble
    before = time.monotonic()
    assert await queue.take(1, 0.2) == []
    assert time.monotonic() - before > 0.1
    own.server.command("DEL", "everbell:jobs")
    await queue.offer(run_keys(1))
    await until(lambda: queue.healthy)


async def test_who_only_takes_notices_that_the_stream_can_be_read_again(own):
    own.server.command("SET", "everbell:jobs", "mine")
    worker = await own.process()
    assert await worker.take(10, 0.2) == []
    assert not worker.healthy
    own.server.command("DEL", "everbell:jobs")
    await worker.take(10, 0.2)
    assert (worker.healthy, worker.trouble) == (True, "")


async def test_entries_that_are_no_offers_are_removed(own):
    queue = await own.process()
    assert await queue.take(1, 0.01) == []
    own.server.command("XADD", "everbell:jobs", "*", "keys", "what is this")
    own.server.command("XADD", "everbell:jobs", "*", "other", "1-1")
    await queue.offer(run_keys(1))
    assert await gather(queue, 1) == run_keys(1)
    await until(lambda: own.server.command("XLEN", "everbell:jobs") == ":0")
    assert own.server.command("XPENDING", "everbell:jobs", "everbell:processed").startswith(
        "*4\r\n:0"
    )


async def test_nothing_stays_behind_in_the_stream_or_the_group(own):
    scheduler, worker = await own.process(), await own.process()
    await scheduler.offer(run_keys(1000))
    await gather(worker, 1000)
    await until(lambda: own.server.command("XLEN", "everbell:jobs") == ":0")
    await worker.close()
    await scheduler.close()
    group = own.server.command("XINFO", "CONSUMERS", "everbell:jobs", "everbell:processed")
    assert group == "*0"


async def test_offers_that_nobody_takes_are_bounded(own):
    queue = await own.process()
    for _ in range(3):
        await queue.offer(run_keys(100_000))
        await queue._telling.finish(30)
    await until(lambda: int(own.server.command("XLEN", "everbell:jobs")[1:]) > 0)
    for _ in range(12_000 // 50):
        queue._keys.extend(run_keys(1))
    assert int(own.server.command("XLEN", "everbell:jobs")[1:]) <= 10_200


async def test_a_server_that_is_not_there_is_no_error(caplog):
    caplog.set_level(logging.WARNING)
    parts = open_redis(
        Redis(addr=f"127.0.0.1:{free_port()}", password="hidden-word"), SystemClock(), "x"
    )
    await parts.ready.offer(run_keys(1))
    await until(lambda: not parts.healthy)
    assert "redis.addr" in parts.trouble
    assert "hidden-word" not in parts.trouble + caplog.text
    assert len(caplog.records) == 1
    assert all(await parts.messages.put([message(1)]))
    await parts.close()


async def test_a_wrong_password_names_the_setting(guarded, caplog):
    healthy, trouble = await opened(secured(guarded, password="wrong-word"))
    assert not healthy
    assert "redis.password" in trouble
    healthy, trouble = await opened(secured(guarded, password=""))
    assert not healthy
    assert "redis.password" in trouble
    assert "wrong-word" not in caplog.text + trouble


async def test_tls_verifies_both_sides(guarded):
    assert await opened(secured(guarded)) == (True, "")
    parts = open_redis(secured(guarded), SystemClock(), "node-x")
    assert not any(await parts.messages.put([message(1)]))
    await parts.close()


@pytest.mark.parametrize("what", ["authority", "name", "plain", "nobody"])
async def test_a_server_that_is_not_the_one_is_refused(guarded, what):
    files, addr = {}, guarded.addr
    if what == "authority":
        files = {"ca": str(guarded.directory / "other.pem")}
    if what == "name":
        addr = f"127.0.0.1:{guarded.port}"
    if what == "nobody":
        files = {"cert": "", "key": ""}
    redis = secured(guarded, files=files, addr=addr, timeout=1.0)
    if what == "plain":
        redis = Redis(addr=addr, timeout=1.0)
    healthy, trouble = await opened(redis)
    assert not healthy
    assert "redis." in trouble


async def test_files_that_cannot_be_used_are_named(guarded):
    for name in ("ca", "cert", "key"):
        with pytest.raises(ConfigError, match=rf"redis\.tls\.{name}"):
            open_redis(secured(guarded, files={name: "/nowhere.pem"}), SystemClock(), "x")
    with pytest.raises(ConfigError, match=r"redis\.tls\.key"):
        open_redis(secured(guarded, files={"key": ""}), SystemClock(), "x")
    other = {"key": str(guarded.directory / "server.key")}
    with pytest.raises(ConfigError, match=r"redis\.tls\.cert and redis\.tls\.key"):
        open_redis(secured(guarded, files=other), SystemClock(), "x")
    with pytest.raises(ConfigError, match=r"redis\.addr"):
        open_redis(Redis(addr="http://x"), SystemClock(), "x")


async def test_every_form_of_the_address(redis):
    for addr in (
        redis.addr,
        f"redis://{redis.addr}/3",
        str(redis.socket_path),
        f"unix://{redis.socket_path}",
    ):
        assert await opened(Redis(addr=addr)) == (True, "")


async def test_a_user_with_the_documented_rights_can_do_all(own):
    page = (Path(__file__).parents[3] / "docs/how-to/redis.md").read_text()
    rights = re.search(r"`(\+@stream [^`]*)`", page)[1].split()
    keys = ("~everbell:*", "~builds_*", "&everbell:*")
    own.server.command("ACL", "SETUSER", "node", "on", ">word", *keys, *rights)
    try:
        login = {"username": "node", "password": "word"}
        one, two = own.parts(**login), own.parts(**login)
        ear = Ear()
        two.wakeups.listen(ear)
        assert not any(await one.messages.put([message(1), message(2, "builds_b", kind="list")]))
        await one.ready.offer(run_keys(150))
        assert len(await gather(two.ready, 150, limit=20)) == 150
        await one.registry.refresh(Member(name="ann"), 30)
        await until(lambda: own.server.command("SCARD", "everbell:processes") == ":1")
        await one.registry.leave("ann")
        assert await one.registry.members() == []

        async def heard():
            await one.wakeups.ring()
            return ear.count > 0

        await until(heard)
        two.ready._tidy_at = two.ready._look_at = 0
        await two.ready.take(1, 0.01)
        assert (one.trouble, two.trouble) == ("", "")
        [told] = await one.messages.put([message(1, "mine")])
        assert "lacks a right" in told
        await two.ready.close()
    finally:
        own.server.command("ACL", "DELUSER", "node")


async def test_databases_are_apart(redis):
    rig = RedisRig(redis, db=5)
    queues = await rig.messages()
    assert not any(await queues.put([message(1)]))
    assert redis.command("EXISTS", "builds_a") == ":0"
    await rig.close()
    healthy, trouble = await opened(Redis(addr=redis.addr, db=900))
    assert not healthy
    assert "redis.db" in trouble


async def test_the_registry_is_the_set_and_the_hashes_that_are_documented(own):
    registry = await own.registry()
    await registry.refresh(Member(name="ann", pid=7, port=8008, rss=5, cpu=1.5, running=2), 30)
    await until(lambda: own.server.command("SCARD", "everbell:processes") == ":1")
    said = own.server.command(
        "HMGET", "everbell:processes:ann", "pid", "port", "rss", "cpu", "running"
    )
    assert said.split("\r\n")[2::2] == ["7", "8008", "5", "1.5", "2"]
    assert 0 < int(own.server.command("TTL", "everbell:processes:ann")[1:]) <= 30
    own.server.command("SADD", "everbell:processes", "stale")
    registry._sweep_at = 0
    await registry.refresh(Member(name="ann"), 30)
    await until(lambda: own.server.command("SISMEMBER", "everbell:processes", "stale") == ":0")

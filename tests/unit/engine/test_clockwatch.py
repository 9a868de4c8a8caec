"""A node's own judgement of its clock, and what it does about it."""

from __future__ import annotations

import pytest

from everbell.domain.job import US
from everbell.domain.records import Node
from everbell.engine.clockwatch import ClockWatch, MendedClock
from everbell.engine.heartbeat import Heartbeat, Identity, Thresholds
from everbell.ports.cluster import UNSEEN_MAX_S, Pulse
from everbell.testing.hand_clock import BASE_US as BASE
from everbell.testing.hand_clock import HandClock
from everbell.testing.sim.world import SimLoad


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def look(watch: ClockWatch, clock: HandClock, off_s: float | None, lasts_s: float = 0.01) -> str:
    """Ask a store whose clock is ahead of the true one by ``off_s``."""
    clock.go(2.0)
    begun = watch.now()
    clock.go(lasts_s / 2)
    store_us = None if off_s is None else clock.now_us() + round(off_s * US)
    clock.go(lasts_s / 2)
    watch.looked(begun, store_us)
    return watch.trouble


def test_a_clock_that_is_right_or_unknown_is_no_trouble(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    assert [look(watch, clock, off) for off in (0.0, 0.09, -0.09, None)] == [""] * 4
    assert watch.offset_s == pytest.approx(-0.09, abs=0.001)


def test_a_clock_that_is_off_has_to_be_so_twice_and_mends_at_once(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    assert look(watch, clock, 0.0) == ""
    assert look(watch, clock, 0.5) == ""
    trouble = look(watch, clock, 0.5)
    assert trouble.startswith("off by -0.50 s from the database's clock; set the clock (NTP)")
    assert "node.max_clock_offset (0.1)" in trouble
    assert look(watch, clock, 0.05) == ""


def test_at_the_start_the_first_look_decides(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    assert "off by +3.00 s" in look(watch, clock, -3.0)


def test_a_clock_that_was_set_is_in_doubt_until_the_store_tells(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    look(watch, clock, 0.0)
    assert watch.sure()
    clock.wall += 3600 * US
    assert not watch.sure()
    look(watch, clock, -3600.0)
    assert not watch.sure(), "it is an hour ahead of the store's"
    clock.wall -= 3600 * US
    look(watch, clock, None)
    assert not watch.sure(), "nothing was told"
    look(watch, clock, 0.02)
    assert watch.sure()


def test_without_a_clock_of_the_store_the_own_one_is_believed(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    look(watch, clock, None)
    clock.wall += 3600 * US
    assert watch.sure()


def test_a_clock_is_right_once_it_was_judged_and_is_not_off(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    assert not watch.right(), "nobody has looked yet"
    look(watch, clock, 0.0, lasts_s=1.0)
    assert not watch.right(), "the store has a clock, and it is not known yet"
    look(watch, clock, 0.02)
    assert (watch.right(), watch.lag_us()) == (True, 0)
    look(watch, clock, -5.0)
    look(watch, clock, -5.0)
    assert not watch.right()
    assert watch.lag_us() == pytest.approx(-5 * US, abs=10_000)
    look(watch, clock, 0.0)
    assert (watch.right(), watch.lag_us()) == (True, 0)
    alone = ClockWatch(clock, 0.1)
    look(alone, clock, None)
    assert alone.right(), "the store has no clock of its own"


def test_a_slow_answer_tells_only_what_is_certain(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    assert look(watch, clock, 0.2, lasts_s=0.4) == ""
    assert watch.offset_s is None
    assert look(watch, clock, 0.15, lasts_s=0.2) == ""
    late = ClockWatch(clock, 0.1)
    assert "off by -3.00 s" in look(late, clock, 3.0, lasts_s=1.0)


def test_a_wrong_clock_is_not_made_right_by_a_slow_answer(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    assert look(watch, clock, 0.3)
    assert look(watch, clock, 0.3, lasts_s=0.6)
    assert look(watch, clock, 0.3)
    for _ in range(4):
        assert look(watch, clock, 0.0, lasts_s=0.6)
    assert look(watch, clock, 0.0, lasts_s=0.6) == "", "it may be right, and all answers are slow"


def test_where_all_answers_are_slow_nodes_judge_after_a_while(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    for _ in range(4):
        look(watch, clock, 0.0, lasts_s=0.4)
        assert not watch.right()
    look(watch, clock, 0.0, lasts_s=0.4)
    assert watch.right()
    clock.wall += 3600 * US
    assert not watch.right()


async def test_a_node_that_was_declared_dead_is_nobody_until_it_has_joined(
    clock: HandClock,
) -> None:
    store = Answers()
    one = heartbeat(store, clock)
    await one.step()
    assert one.trusted()
    store.pulse = Pulse(accepted=False)
    await one.step()
    assert not one.trusted(), "a claim under the new id would be taken for an orphan"
    store.pulse = Pulse(accepted=True, schema=7)
    await one.step()
    assert one.trusted()


def test_a_clock_that_stands_still_is_trouble_until_it_goes(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    look(watch, clock, None)
    clock.stands = True
    assert look(watch, clock, None) == ""
    assert look(watch, clock, None) == "it went 0.0 s in 2.0 s; set the clock (NTP)"
    clock.stands = False
    assert look(watch, clock, None) == ""


def test_a_clock_that_is_set_once_is_mended_not_broken(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    look(watch, clock, None)
    clock.wall += 3600 * US
    assert look(watch, clock, None) == ""
    assert look(watch, clock, None) == ""
    clock.wall -= 3600 * US
    assert look(watch, clock, None) == ""
    clock.wall -= 3600 * US
    assert "it went -3598.0 s" in look(watch, clock, None)


class Answers:
    """A store that answers heartbeats as it is told."""

    unseen_s = 0.0

    def __init__(self) -> None:
        self.pulse = Pulse(accepted=True, schema=7)
        self.seen: list[Node] = []

    async def heartbeat(self, node: Node) -> Pulse:
        self.seen.append(node)
        return self.pulse


def heartbeat(store: Answers, clock: HandClock) -> Heartbeat:
    made = Heartbeat(
        clock,
        lambda name, error: pytest.fail(f"{name}: {error}"),
        store=store,  # type: ignore[arg-type]  # only this verb is asked for
        load=SimLoad(),
        identity=Identity(name="n", host="h", pid=1, version="1", workers=3, tzdata="2026a"),
        thresholds=Thresholds(),
    )
    made.node_id = "id"
    return made


async def test_a_drained_node_says_so_and_hands_back_at_each_beat(clock: HandClock) -> None:
    store = Answers()
    one = heartbeat(store, clock)
    handed: list[int] = []

    async def drain() -> None:
        handed.append(1)

    one.drain = drain
    await one.step()
    assert (store.seen[-1].state, one.drained, handed) == ("up", "", [])
    store.pulse = Pulse(accepted=True, drained="new kernel", schema=7)
    clock.go(2)
    await one.step()
    await one.step()
    assert (store.seen[-1].state, store.seen[-1].reason) == ("draining", "new kernel")
    assert len(handed) == 2
    store.pulse = Pulse(accepted=True, schema=7)
    await one.step()
    await one.step()
    assert (store.seen[-1].state, store.seen[-1].reason) == ("up", "")
    assert len(handed) == 2


async def test_a_wrong_clock_drains_the_node_and_a_right_one_ends_that(clock: HandClock) -> None:
    store = Answers()
    one = heartbeat(store, clock)
    store.pulse = Pulse(accepted=True, store_us=BASE + 5 * US, schema=7)
    await one.step()
    await one.step()
    assert store.seen[-1].state == "draining"
    assert store.seen[-1].reason.startswith("clock: off by -5.00 s")
    clock.wall += 5 * US
    for _ in range(2):
        clock.go(2)
        store.pulse = Pulse(accepted=True, store_us=clock.wall, schema=7)
        await one.step()
    await one.step()
    assert store.seen[-1].state == "up"


@pytest.mark.parametrize("off_s", [5, -5, 60 * 86400])
async def test_a_node_whose_clock_is_off_judges_nobody_and_leases_by_the_stores(
    clock: HandClock, off_s: int
) -> None:
    store = Answers()
    one = heartbeat(store, clock)
    for _ in range(3):
        clock.go(2)
        store.pulse = Pulse(accepted=True, store_us=clock.wall - off_s * US, schema=7)
        await one.step()
        assert not one.calm()
    true_us = clock.wall - off_s * US
    assert store.seen[-1].heartbeat_us == pytest.approx(true_us, abs=1000)
    assert store.seen[-1].lease_until_us == pytest.approx(true_us + 6 * US, abs=1000)


async def test_a_newer_schema_is_told_and_the_node_goes_on(clock: HandClock) -> None:
    store = Answers()
    one = heartbeat(store, clock)
    await one.step()
    assert one.newer_schema == ""
    store.pulse = Pulse(accepted=True, schema=8)
    await one.step()
    assert one.newer_schema == (
        "the database has schema 8, this program was made for 7: upgrade it"
    )
    await one.step()
    assert (store.seen[-1].state, store.seen[-1].schema) == ("up", 7)
    assert store.seen[-1].tzdata == "2026a"
    assert store.seen[-1].cores == 2


def test_a_node_that_others_may_have_seen_die_trusts_no_lease() -> None:
    clock = HandClock()
    store = Answers()
    one = heartbeat(store, clock)
    assert one.trusted()
    store.unseen_s = UNSEEN_MAX_S
    assert not one.trusted()
    store.unseen_s = UNSEEN_MAX_S / 2
    assert one.trusted()


def test_requests_go_by_the_stores_clock_while_the_own_one_is_off(clock: HandClock) -> None:
    watch = ClockWatch(clock, 0.1)
    mended = MendedClock(clock, watch)
    look(watch, clock, 0.05)
    assert mended.now_us() == clock.now_us()
    for _ in range(2):
        look(watch, clock, -3600.0)
    assert mended.now_us() == pytest.approx(clock.now_us() - 3600 * US, abs=10_000)
    assert mended.monotonic() == clock.monotonic()

from __future__ import annotations

from everbell.domain.errors import StoreUnavailable
from everbell.domain.run import RunKey
from everbell.engine.messenger import OFFERS_MAX, Intake, Lines, Messenger
from everbell.ports.queue import Offer
from everbell.testing.engine_bench import BASE_US, SimClock, passes, virtually

KEYS = [RunKey(BASE_US + number, 1) for number in range(4)]


class Queue:
    """Keeps what is offered until it is taken, and what was taken until it is done."""

    def __init__(self) -> None:
        self.healthy = True
        self.trouble = ""
        self.offered: list[tuple[RunKey, ...]] = []
        self.done_ids: list[str] = []
        self.asked: list[int] = []

    async def offer(self, keys):
        if self.healthy:
            self.offered.append(tuple(keys))

    async def take(self, limit, wait_s):
        self.asked.append(limit)
        if not self.offered:
            await SimClock(BASE_US).sleep(wait_s)
            return []
        keys = self.offered.pop(0)
        return [Offer(id=str(len(self.asked)), keys=keys)]

    async def done(self, offers):
        self.done_ids += [offer.id for offer in offers]

    async def close(self):
        return None


class Bell:
    def __init__(self) -> None:
        self.rings = 0

    async def ring(self):
        self.rings += 1

    def listen(self, heard):
        return None

    async def close(self):
        return None


def failed(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


def messenger(queue: Queue | None, bell: Bell | None) -> Messenger:
    one = Messenger(SimClock(BASE_US), failed, Lines(queue, (bell,) if bell else ()))
    one.start()
    return one


def test_keys_of_one_moment_are_one_offer_and_ring_no_bell():
    async def story():
        queue, bell = Queue(), Bell()
        one = messenger(queue, bell)
        one.hand_on(KEYS[:2])
        one.hand_on(KEYS[2:])
        await passes(1)
        assert (queue.offered, bell.rings) == ([tuple(KEYS)], 0)
        await one.stop()

    virtually(story())


def test_workers_are_woken_to_look_where_no_offer_reaches_them():
    async def story():
        queue, bell = Queue(), Bell()
        lost, none = messenger(queue, bell), messenger(None, bell)
        queue.healthy = False
        lost.hand_on(KEYS)
        await passes(1)
        assert bell.rings == 1
        none.hand_on(KEYS)
        await passes(1)
        assert bell.rings == 2
        await lost.stop()
        await none.stop()

    virtually(story())


def test_rings_that_follow_closely_are_one():
    async def story():
        bell = Bell()
        one = messenger(None, bell)
        for _ in range(20):
            one.ring()
            await passes(0.001)
        await passes(1)
        assert 1 <= bell.rings <= 3
        await one.stop()

    virtually(story())


def test_offers_that_wait_are_bounded():
    async def story():
        queue = Queue()
        one = Messenger(SimClock(BASE_US), failed, Lines(queue))
        one.hand_on(RunKey(number, 1) for number in range(OFFERS_MAX + 5))
        one.start()
        await passes(1)
        assert sum(map(len, queue.offered)) == OFFERS_MAX
        await one.stop()

    virtually(story())


def intake(queue: Queue, room: int) -> tuple[Intake, list[RunKey]]:
    one = Intake(SimClock(BASE_US), failed, queue)
    claimed: list[RunKey] = []

    async def claim(keys):
        claimed.extend(keys)

    one.room, one.claim = (lambda: room), claim
    one.start()
    return one, claimed


def test_offers_are_done_once_their_runs_are_claimed():
    async def story():
        queue = Queue()
        one, claimed = intake(queue, 7)
        queue.offered = [tuple(KEYS[:3]), tuple(KEYS[3:])]
        await passes(3)
        assert claimed == KEYS
        assert queue.done_ids == ["1", "2"]
        assert set(queue.asked) == {7}
        await one.stop()

    virtually(story())


def test_what_comes_when_there_is_no_room_any_more_is_offered_to_others():
    async def story():
        queue = Queue()
        one, claimed = intake(queue, 7)
        rooms = [7, 0]
        one.room = lambda: rooms.pop(0) if len(rooms) > 1 else rooms[0]
        queue.offered = [tuple(KEYS)]
        await passes(3)
        assert (claimed, queue.offered, queue.done_ids) == ([], [tuple(KEYS)], ["1"])
        await one.stop()

    virtually(story())


def test_nothing_is_taken_without_room():
    async def story():
        queue = Queue()
        queue.offered = [tuple(KEYS)]
        one, claimed = intake(queue, 0)
        await passes(1)
        assert (claimed, queue.asked) == ([], [])
        await one.stop()

    virtually(story())


def test_an_offer_whose_claim_failed_is_not_done():
    async def story():
        queue = Queue()
        one, _ = intake(queue, 5)

        async def away(_keys):
            raise StoreUnavailable("away")

        one.claim = away
        queue.offered = [tuple(KEYS)]
        await passes(3)
        assert queue.done_ids == []
        assert not queue.offered
        await one.stop()

    virtually(story())

"""Foreign queues, wake-ups and the registry: what every adapter promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from everbell.domain.errors import StoreUnavailable
from everbell.ports.queue import Message, MessageQueues
from everbell.ports.registry import Member, Registry
from everbell.ports.wakeups import WakeUps
from everbell.testing.contracts.queue_offers import until


class HintsRig(Protocol):
    """Several processes on one server."""

    async def messages(self) -> MessageQueues:
        """Return foreign queues as one more process has them."""
        ...

    async def stored(self, key: str) -> Sequence[tuple[str, bytes]]:
        """Return id (empty for lists) and body of what is stored, oldest first."""
        ...

    async def bell(self) -> WakeUps:
        """Return wake-ups as one more process has them."""
        ...

    async def registry(self) -> Registry:
        """Return the registry as one more process has it."""
        ...

    async def lose(self) -> None:
        """Make the server go away."""
        ...

    async def mend(self) -> None:
        """Bring it back."""
        ...


def message(number: int, key: str = "builds_a", **other: object) -> Message:
    """Return a message; ``other`` overrides fields."""
    fields = {"kind": "stream", "id": f"{number}-1", "body": b'{"n":%d}' % number}
    return Message(key=key, **(fields | other))  # type: ignore[arg-type]


class MessageQueuesContract:
    """One test per obligation in ``ports.queue.MessageQueues``."""

    async def test_messages_are_stored_in_order(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        assert list(await queues.put([message(n) for n in range(1200)])) == [""] * 1200
        stored = await rig.stored("builds_a")
        assert [body for _, body in stored] == [b'{"n":%d}' % n for n in range(1200)]
        assert stored[7][0] == "7-1"
        assert list(await queues.put([])) == []

    async def test_queues_are_apart(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        mixed = [message(n, "builds_b" if n % 2 else "builds_a") for n in range(6)]
        assert not any(await queues.put(mixed))
        assert [name for name, _ in await rig.stored("builds_b")] == ["1-1", "3-1", "5-1"]
        assert [name for name, _ in await rig.stored("builds_a")] == ["0-1", "2-1", "4-1"]

    async def test_lists_are_read_from_the_right(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        assert not any(await queues.put([message(n, kind="list") for n in range(3)]))
        bodies = [body for _, body in await rig.stored("builds_a")]
        assert bodies == [b'{"n":0}', b'{"n":1}', b'{"n":2}']

    async def test_a_full_queue_takes_no_more(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        told = await queues.put([message(n, max_length=3) for n in range(5)])
        assert [bool(text) for text in told] == [False, False, False, True, True]
        assert "builds_a" in told[4]
        assert len(await rig.stored("builds_a")) == 3
        assert not any(await queues.put([message(9, "builds_b", max_length=3)]))

    async def test_one_refusal_leaves_the_others_alone(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        await queues.put([message(1, "builds_b", kind="list")])
        told = await queues.put([message(2), message(3, "builds_b"), message(4)])
        assert [bool(text) for text in told] == [False, True, False]
        assert "stream" in told[1]
        assert len(await rig.stored("builds_a")) == 2

    async def test_a_lost_server_is_said(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        await queues.put([message(1)])
        await rig.lose()
        told = await asyncio.wait_for(queues.put([message(2), message(3)]), 5)
        assert all(told)
        assert queues.trouble
        await rig.mend()

        async def stored() -> bool:
            return not any(await queues.put([message(2)]))

        await until(stored)
        assert queues.trouble == ""

    async def test_closed_queues_open_again(self, rig: HintsRig) -> None:
        queues = await rig.messages()
        await queues.put([message(1)])
        await queues.close()
        await queues.close()
        assert not any(await queues.put([message(2)]))


class Ear:
    """Counts what is heard."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class WakeUpsContract:
    """One test per obligation in ``ports.wakeups.WakeUps``."""

    async def _pair(self, rig: HintsRig) -> tuple[WakeUps, WakeUps, Ear, Ear]:
        one, two = await rig.bell(), await rig.bell()
        first, second = Ear(), Ear()
        one.listen(first)
        two.listen(second)

        async def both() -> bool:
            if not second.count:
                await one.ring()
            if not first.count:
                await two.ring()
            await asyncio.sleep(0.01)  # noqa: TID251
            return bool(first.count and second.count)

        await until(both)
        await asyncio.sleep(0.1)  # noqa: TID251
        first.count = second.count = 0
        return one, two, first, second

    async def test_others_hear_and_oneself_does_not(self, rig: HintsRig) -> None:
        one, _, first, second = await self._pair(rig)
        await one.ring()
        await until(lambda: second.count > 0)
        await asyncio.sleep(0.05)  # noqa: TID251
        assert first.count == 0

    async def test_many_rings_are_heard_at_least_once_afterwards(self, rig: HintsRig) -> None:
        one, _, _, second = await self._pair(rig)
        for _ in range(500):
            await one.ring()
        await until(lambda: second.count > 0)
        assert second.count <= 500

    async def test_nothing_is_heard_after_closing(self, rig: HintsRig) -> None:
        one, two, _, second = await self._pair(rig)
        await two.close()
        await one.ring()
        await asyncio.sleep(0.1)  # noqa: TID251
        assert second.count == 0
        await two.close()

    async def test_a_lost_server_costs_only_time(self, rig: HintsRig) -> None:
        one, _, _, second = await self._pair(rig)
        await rig.lose()
        for _ in range(3):
            await asyncio.wait_for(one.ring(), 2)
        await rig.mend()
        second.count = 0

        async def heard() -> bool:
            await one.ring()
            return second.count > 0

        await until(heard)


class RegistryContract:
    """One test per obligation in ``ports.registry.Registry``."""

    async def test_members_show_themselves(self, rig: HintsRig) -> None:
        one, two = await rig.registry(), await rig.registry()
        ben = Member(name="ben", pid=7, port=8008, rss=1 << 30, cpu=12.5, running=3, roles="worker")
        await one.refresh(ben, 5.0)
        await two.refresh(Member(name="ann", host="h:1"), 5.0)
        await until(lambda: _names(one, ["ann", "ben"]))
        assert (await two.members())[1] == ben
        newer = Member(name="ben", pid=7, running=4)
        await one.refresh(newer, 5.0)

        async def seen() -> bool:
            return (await two.members())[1].running == 4

        await until(seen)

    async def test_who_leaves_is_gone_at_once(self, rig: HintsRig) -> None:
        one, two = await rig.registry(), await rig.registry()
        await one.refresh(Member(name="ben"), 5.0)
        await until(lambda: _names(two, ["ben"]))
        await one.leave("ben")
        assert list(await two.members()) == []
        await one.leave("ben")
        await one.leave("nobody")

    async def test_who_dies_is_gone_after_the_lease(self, rig: HintsRig) -> None:
        one, two = await rig.registry(), await rig.registry()
        await one.refresh(Member(name="ben"), 3.0)
        await until(lambda: _names(two, ["ben"]))
        await until(lambda: _names(two, []))

    async def test_a_lost_server_is_no_trouble_for_the_node(self, rig: HintsRig) -> None:
        one = await rig.registry()
        await one.refresh(Member(name="ben"), 5.0)
        await until(lambda: _names(one, ["ben"]))
        await rig.lose()
        await asyncio.wait_for(one.refresh(Member(name="ben"), 5.0), 2)
        await asyncio.wait_for(one.leave("ben"), 5)
        await rig.mend()

        async def back() -> bool:
            await one.refresh(Member(name="ben"), 5.0)
            try:
                return [member.name for member in await one.members()] == ["ben"]
            except StoreUnavailable:
                return False

        await until(back)

    async def test_closing_twice(self, rig: HintsRig) -> None:
        one = await rig.registry()
        await one.refresh(Member(name="ben"), 5.0)
        await one.close()
        await one.close()


async def _names(registry: Registry, wanted: list[str]) -> bool:
    return [member.name for member in await registry.members()] == wanted

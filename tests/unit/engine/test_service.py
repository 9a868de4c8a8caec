from __future__ import annotations

from everbell.domain.errors import StoreUnavailable
from everbell.engine.service import Service
from everbell.testing.engine_bench import BASE_US, SimClock, passes, virtually


class Steps(Service):
    """Does what it is told, one item per step: an error is raised, a number is the pause."""

    name = "steps"

    def __init__(self, *items: BaseException | float) -> None:
        self.failures: list[tuple[str, BaseException]] = []
        super().__init__(SimClock(BASE_US), lambda name, error: self.failures.append((name, error)))
        self.items = list(items)

    async def step(self) -> float:
        item = self.items.pop(0) if self.items else 1000.0
        if isinstance(item, BaseException):
            raise item
        return item


def test_a_service_that_dies_is_told_once_and_does_not_go_on():
    async def story():
        broken = ValueError("a promise inside is broken")
        service = Steps(0.1, broken, 0.1)
        service.start()
        await passes(5)
        assert service.failures == [("steps", broken)]
        assert not service.healthy
        assert service.items == [0.1]
        await service.stop()

    virtually(story())


def test_a_store_that_is_away_is_asked_again_and_kills_nobody():
    async def story():
        service = Steps(*[StoreUnavailable("locked")] * 4, 0.1)
        service.start()
        await passes(0.1)
        assert not service.healthy
        await passes(5)
        assert service.healthy
        assert (service.failures, service.items) == ([], [])
        await service.stop()

    virtually(story())

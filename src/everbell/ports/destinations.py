"""What is known of the places that callbacks go to; read by metrics and health pages."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from everbell.domain.job import Record


class DestinationState(Record, frozen=True):
    """One destination (scheme, host and port, as in ``https://example.com:443``) on this node.

    ``failures``: failed requests in a row. ``waiting``: requests that wait for the rate budget.
    """

    destination: str
    breaker: Literal["closed", "open", "half_open"]
    failures: int
    waiting: int


@runtime_checkable
class DestinationMeter(Protocol):
    """Who knows destinations.

    - ``destinations`` returns at once; it lists those that a breaker or a budget keeps watch over,
      the last used first, none if neither is set.
    """

    def destinations(self) -> list[DestinationState]:
        """Return the state of every known destination."""
        ...

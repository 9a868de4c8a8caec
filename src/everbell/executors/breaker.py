"""A circuit breaker: a target that fails again and again is left alone for a while. Pure.

Times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["closed", "open", "half_open"]


class Permit(NamedTuple):
    """Leave to send one request; its end is told to the breaker that gave it."""

    epoch: int


class Refusal(NamedTuple):
    """No leave; asking again makes sense ``wait_s`` seconds later."""

    wait_s: float


class Breaker:
    """Closed: all may pass. Open: none. Half open: one request tries the target.

    ``failures`` failed requests in a row open it for ``open_s`` seconds; then the first to ask is
    the probe: its success closes the breaker, its failure opens it again. What ends after the
    state has changed counts for nothing: it tells of a time that is over.
    """

    __slots__ = ("_epoch", "_failures", "_open_s", "_probing", "_until_s", "row", "state")

    def __init__(self, failures: int, open_s: float) -> None:
        self._failures = failures
        self._open_s = open_s
        self._until_s = 0.0
        self._epoch = 0
        self._probing = False
        self.state: State = "closed"
        self.row = 0
        """Failed requests in a row."""

    def refusal(self, now_s: float) -> Refusal | None:
        """Return why nothing may pass now, or None; asks for no leave."""
        if self.state == "open" and now_s < self._until_s:
            return Refusal(self._until_s - now_s)
        if self._probing:
            # A whole turn later: attempts are few, and the probe may take its time.
            return Refusal(self._open_s)
        return None

    def ask(self, now_s: float) -> Permit | Refusal:
        """Return leave to send one request now, or for how long there is none."""
        refused = self.refusal(now_s)
        if refused is not None:
            return refused
        if self.state == "open":
            self._change("half_open")
        if self.state == "half_open":
            self._probing = True
        return Permit(self._epoch)

    def succeeded(self, permit: Permit) -> None:
        """Take note that the target answered."""
        if permit.epoch != self._epoch:
            return
        self.row = 0
        if self.state == "half_open":
            self._change("closed")

    def failed(self, permit: Permit, now_s: float) -> None:
        """Take note that the target did not answer, or said that it can't."""
        if permit.epoch != self._epoch:
            return
        self.row += 1
        if self.state == "half_open" or self.row >= self._failures:
            self._until_s = now_s + self._open_s
            self._change("open")

    def dropped(self, permit: Permit) -> None:
        """Take note that a request was given up before it told anything of the target."""
        if permit.epoch == self._epoch:
            self._probing = False

    def _change(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._probing = False

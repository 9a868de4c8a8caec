"""What becomes of runs after the claim, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from everbell.domain.errors import NotFoundError
from everbell.domain.notice import may_cancel
from everbell.domain.run import ACTIVE, FINAL, Attempt, Run, RunKey
from everbell.ports.store import Finish, Finished, Verdict
from everbell.stores.memory.claims import MemoryClaims
from everbell.stores.memory.data import Data


class MemoryLedger(MemoryClaims):
    """Implements the recording half of RunStore; the obligations are written there."""

    async def mark_running(
        self,
        runs: Sequence[tuple[Run, int]],
        now_us: int,  # noqa: ARG002
    ) -> list[Literal["stored", "stale"]]:
        """See RunStore."""
        answers: list[Literal["stored", "stale"]] = []
        for run, started_us in runs:
            found = self._data.fenced(run)
            if found is not None:
                self._data.put(replace(found, state="running", started_us=started_us))
            answers.append("stale" if found is None else "stored")
        return answers

    async def finish(self, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
        """See RunStore."""
        return [_finish(self._data, it, now_us) for it in finishes]

    async def get_run(self, key: RunKey) -> Run:
        """See RunStore."""
        found = self._data.run(key)
        if found is None:
            message = f"no run {key.id!r}"
            raise NotFoundError(message, hint="it may be older than what is kept; see `run list`")
        return found

    async def request_cancel(self, key: RunKey, now_us: int) -> Run:
        """See RunStore."""
        run = await self.get_run(key)
        if may_cancel(run, now_us):
            return self._data.put(
                replace(
                    run,
                    state="cancelled",
                    cancel_requested=True,
                    finished_us=now_us,
                    reason="cancelled before its start",
                )
            )
        return run if run.state in FINAL else self._data.put(replace(run, cancel_requested=True))

    async def hand_back(self, runs: Sequence[Run], now_us: int) -> int:
        """See RunStore."""
        count = 0
        for run in runs:
            found = self._data.fenced(run, ("claimed",))
            if found is not None:
                back = self._data.put(replace(found, state="queued", node="", claimed_us=None))
                self._data.skip_if_disabled(back, self._data.jobs[run.key.job_id], now_us)
                count += 1
        return count

    async def orphans(self, now_us: int, limit: int) -> list[Run]:
        """See RunStore."""
        alive = {
            node.id
            for node in self._data.nodes.values()
            if node.lease_until_us >= now_us and node.state not in {"dead", "left"}
        }
        found = [
            run for run in self._data.unfinished() if run.state in ACTIVE and run.node not in alive
        ]
        return sorted(found, key=lambda run: run.key)[:limit]

    async def recover(self, verdicts: Sequence[Verdict], now_us: int) -> int:
        """See RunStore."""
        count = 0
        for it in verdicts:
            found = self._data.fenced(it.run)
            if found is None:
                continue
            count += 1
            if it.state == "lost":
                self._data.put(replace(found, state="lost", reason=it.reason, finished_us=now_us))
                self._data.follow(it.then, now_us)
            else:
                _hand_over(self._data, found, it.reason, now_us)
        return count

    async def still_claimed(self, claims: Sequence[tuple[RunKey, int]]) -> list[RunKey]:
        """See RunStore."""
        return [
            key
            for key, token in claims
            if (run := self._data.run(key)) and run.state in ACTIVE and run.token == token
        ]

    async def cancel_flags(self, node: str) -> list[RunKey]:
        """See RunStore."""
        return sorted(
            run.key
            for run in self._data.unfinished()
            if run.cancel_requested and run.node == node and run.state in ACTIVE
        )


def _finish(data: Data, it: Finish, now_us: int) -> Finished:
    run = _end(data, it) if it.next_due_us is None else _go_on(data, it, it.next_due_us, now_us)
    if run is None:
        run = _end_of_withdrawn(data, it)
    if run is None:
        return _again(data, it)
    _count(data, it)
    data.follow(it.then, now_us)
    return Finished(outcome="stored", run=run)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _ended(run: Run, it: Finish) -> Run:
    return replace(
        run,
        state=it.state,
        started_us=run.started_us if it.started_us is None else it.started_us,
        finished_us=it.finished_us,
        code=it.code,
        error=_clean(it.error),
        reason=it.reason or run.reason,
        output_bytes=it.output_bytes,
        truncated=it.truncated,
    )


def _end(data: Data, it: Finish) -> Run | None:
    # A claim that was withdrawn to the queue but ran nevertheless still has its token.
    found = data.fenced(it.run, ("claimed", "running", "queued"))
    if found is None or not found.token:
        return None
    return data.put(replace(_ended(found, it), node=it.run.node, claimed_us=it.run.claimed_us))


def _go_on(data: Data, it: Finish, next_due_us: int, now_us: int) -> Run | None:
    found = data.fenced(it.run)
    if found is None:
        return None
    ended = _ended(found, it)
    data.keep_attempt(found, _attempt(ended))
    return data.put(
        replace(
            found,
            state="claimed",
            attempt=found.attempt + 1,
            token=data.next_token(),
            due_us=next_due_us,
            claimed_us=now_us,
            started_us=None,
            finished_us=None,
            code=None,
            error="",
            output_bytes=0,
            truncated=False,
        )
    )


def _attempt(run: Run) -> Attempt:
    return Attempt(
        attempt=run.attempt,
        token=run.token,
        node=run.node,
        state=run.state,
        started_us=run.started_us,
        finished_us=run.finished_us,
        code=run.code,
        error=run.error,
    )


def _end_of_withdrawn(data: Data, it: Finish) -> Run | None:
    run = it.run
    if run.attempt != 1 or run.key.trigger_id or not run.token:
        return None
    if data.run(run.key) is not None or run.key.job_id not in data.jobs:
        return None
    ended = _ended(run, it)
    return data.put(ended if ended.state in FINAL else replace(ended, state="failed"))


def _again(data: Data, it: Finish) -> Finished:
    now = data.run(it.run.key)
    if now is None:
        return Finished(outcome="stale")
    kept = data.kept_attempts.get(now.key, {}).get(it.run.attempt)
    end = (it.run.token, it.state, it.finished_us)
    if it.next_due_us is None:
        same = now.attempt == it.run.attempt and (now.token, now.state, now.finished_us) == end
    else:
        same = (
            kept is not None
            and (kept.token, kept.state, kept.finished_us) == end
            and now.attempt == it.run.attempt + 1
        )
    return Finished(outcome="stored", run=now) if same else Finished(outcome="stale")


def _count(data: Data, it: Finish) -> None:
    job = data.jobs[it.run.key.job_id]
    if it.failures == "reset":
        data.jobs[job.id] = replace(job, failures=0)
    if it.failures != "count":
        return
    job = replace(job, failures=job.failures + 1)
    if 0 < it.park_after <= job.failures and not job.parked:
        reason = f"{job.failures} failed runs in a row"
        job = replace(job, parked=reason, updated_us=it.finished_us)
    data.jobs[job.id] = job


def _hand_over(data: Data, run: Run, reason: str, now_us: int) -> None:
    lost = replace(run, state="lost", finished_us=now_us, error=reason, code=None)
    data.keep_attempt(run, _attempt(lost))
    data.put(
        replace(
            run,
            state="queued",
            attempt=run.attempt + 1,
            crashes=run.crashes + 1,
            reason=reason,
            node="",
            claimed_us=None,
            started_us=None,
        )
    )

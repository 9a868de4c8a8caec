"""The executor of Python functions keeps the contract in each of its modes, and some more."""

import asyncio
import importlib
import logging
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from everbell.config.schema import Execution, Python, Settings
from everbell.domain.errors import StoreUnavailable, ValidationError
from everbell.domain.job import PythonAction
from everbell.executors.python import PythonExecutor
from everbell.ports.functions import Functions, describe
from everbell.testing.contracts.queue_offers import until
from everbell.testing.executor_contract import (
    Claim,
    ExecutorContract,
    ListSink,
    assignment,
    settled,
)

TARGETS = """
import asyncio, logging, os, subprocess, sys, time, threading
import everbell.ports.functions as eb
from everbell.ports.functions import Context, Skip

def told(it: Context):
    print(it.run_id, f"{it.slot:%Y-%m-%dT%H:%M:%SZ}", it.attempt, it.token)

async def atold(context):
    told(context)

def bad(): raise ValueError("no")
async def abad(): raise ValueError("no")

def hang():
    print("ready", flush=True)
    while not eb.stopping(): time.sleep(0.01)

async def ahang():
    print("ready")
    await asyncio.sleep(60)

def phang():
    print("ready", flush=True)
    subprocess.run(["sleep", "60"])

def add(a, b=2): return {"sum": a + b}
async def aadd(a, b=2): return a + b
def odd(): return object()
def large(): return "x" * 100_000
def leave(): sys.exit(3)
def skip(): raise Skip("too early")
def none(): pass
def falsy(): return 0
def stubborn():
    time.sleep(0.8)
    print("too late")
    return "late"
def talk():
    print("to out"); print("to err", file=sys.stderr)
    logging.getLogger("shop").warning("sold %d", 3)
    logging.makeLogRecord({"msg": "a copy"})
def flood():
    for number in range(20_000): print("x" * 100)
def coroutine(): return ahang()
async def threads():
    await asyncio.to_thread(print, "from a thread")
def _private(): pass
GATE, INSIDE, COUNTED = threading.Event(), 0, []
def gated():
    global INSIDE
    INSIDE += 1
    GATE.wait(10)
def count(): COUNTED.append(1)
def wild(): raise asyncio.CancelledError
"""


@pytest.fixture
def targets(tmp_path, monkeypatch):
    (tmp_path / "everbell_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("everbell_targets")
    yield module
    del sys.modules["everbell_targets"]


@pytest.fixture
async def executor(targets):
    functions = Functions()
    for name, value in vars(targets).items():
        if callable(value) and getattr(value, "__module__", "") == targets.__name__:
            functions.add("app", describe(f"everbell_targets:{name}", value))
    functions.add("app", describe("everbell_targets:falsy#check", targets.falsy, check=True))
    settings = Settings(
        execution=Execution(kill_grace=0.2, output_bytes=100_000),
        python=Python(allow=("everbell_targets",), threads=2, result_bytes=1000),
    )
    executor = PythonExecutor(settings, functions)
    yield executor
    await executor.close()


def of(name, **more):
    return PythonAction(function=f"everbell_targets:{name}", app="app", **more)


async def perform(executor, action, timeout_s=10.0, **run):
    sink = ListSink()
    work = assignment(action, timeout_s=timeout_s, **run)
    return await executor.run(work, asyncio.Event(), sink), sink


def told(sink):
    return dict(zip(("id", "slot", "attempt", "token"), sink.text().split(), strict=True))


class TestOnTheLoop(ExecutorContract):
    @pytest.fixture
    def rig(self, executor):
        good, bad, hanging, impossible = of("atold"), of("abad"), of("ahang"), of("missing")
        return SimpleNamespace(
            executor=executor, good=good, bad=bad, hanging=hanging, impossible=impossible, told=told
        )


class TestInThreads(ExecutorContract):
    @pytest.fixture
    def rig(self, executor):
        good, bad, hanging, impossible = of("told"), of("bad"), of("hang"), of("missing")
        return SimpleNamespace(
            executor=executor, good=good, bad=bad, hanging=hanging, impossible=impossible, told=told
        )


class TestInProcesses(ExecutorContract):
    @pytest.fixture
    def rig(self, executor):
        kinds = ("told", "bad", "phang", "missing")
        good, bad, hanging, impossible = (of(name, mode="subprocess") for name in kinds)
        return SimpleNamespace(
            executor=executor, good=good, bad=bad, hanging=hanging, impossible=impossible, told=told
        )


@pytest.mark.parametrize("mode", ["auto", "inline", "subprocess"])
async def test_arguments_and_the_result(executor, mode):
    outcome, sink = await perform(executor, of("add", args=(1,), kwargs={"b": 5}, mode=mode))
    assert outcome.state == "succeeded"
    assert sink.text("result") == '{"sum":6}'


async def test_async_functions_in_a_process(executor):
    _, sink = await perform(executor, of("aadd", args=(1,), mode="subprocess"))
    assert sink.text("result") == "3"


@pytest.mark.parametrize("mode", ["auto", "subprocess"])
@pytest.mark.parametrize(("name", "why"), [("odd", "not kept"), ("large", "100002 bytes")])
async def test_results_that_cannot_be_kept_are_told(executor, mode, name, why):
    outcome, sink = await perform(executor, of(name, mode=mode))
    assert outcome.state == "succeeded"
    assert why in sink.text("err")
    assert sink.text("result") == ""


@pytest.mark.parametrize("mode", ["auto", "inline", "subprocess"])
async def test_a_skip_and_a_check_that_found_nothing(executor, mode):
    outcome, _ = await perform(executor, of("skip", mode=mode))
    assert (outcome.state, outcome.reason) == ("skipped", "too early")
    outcome, _ = await perform(executor, of("falsy#check", mode=mode))
    assert (outcome.state, outcome.reason) == ("skipped", "nothing_to_do")
    assert (await perform(executor, of("falsy", mode=mode)))[0].state == "succeeded"


@pytest.mark.parametrize("mode", ["auto", "subprocess"])
async def test_an_exception_is_shown_with_its_trace(executor, mode):
    outcome, sink = await perform(executor, of("bad", mode=mode))
    assert outcome.error == "ValueError: no"
    assert 'raise ValueError("no")' in sink.text("err")
    assert "python_calls" not in sink.text("err")


async def test_sys_exit_ends_the_run_and_not_the_node(executor):
    assert (await perform(executor, of("leave")))[0].error == "SystemExit: 3"
    outcome, _ = await perform(executor, of("leave", mode="subprocess"))
    assert (outcome.state, outcome.code) == ("failed", 3)


async def test_a_forgotten_async_is_told(executor):
    outcome, _ = await perform(executor, of("coroutine"))
    assert "async def" in outcome.error


@pytest.mark.parametrize("mode", ["auto", "inline"])
async def test_what_is_printed_and_logged_belongs_to_the_run(executor, mode, capsys):
    _, sink = await perform(executor, of("talk", mode=mode))
    assert sink.text("out") == "to out\n"
    assert "to err\n" in sink.text("err")
    assert sink.text("err").count("\n") == 2
    assert "WARNING shop: sold 3" in sink.text("err")
    print("mine")
    logging.getLogger("shop").warning("mine too")
    assert capsys.readouterr().out == "mine\n"
    assert "mine" not in sink.text("out") + sink.text("err")


async def test_two_runs_at_once_do_not_mix(executor):
    pairs = await asyncio.gather(
        *(
            perform(executor, of(name), attempt=number)
            for number in (1, 2)
            for name in ("told", "atold")
        )
    )
    assert [told(sink)["attempt"] for _, sink in pairs] == ["1", "1", "2", "2"]


async def test_a_thread_of_an_async_function_belongs_to_its_run(executor):
    _, sink = await perform(executor, of("threads"))
    assert sink.text() == "from a thread\n"


async def test_a_flood_is_bounded(executor):
    _, sink = await perform(executor, of("flood"))
    assert len(sink.text()) <= 2_020_000
    assert sink.text().endswith("x\n")


async def test_a_thread_cannot_be_killed_and_its_late_result_is_refused(executor):
    outcome, sink = await perform(executor, of("stubborn"), timeout_s=0.05)
    assert outcome.state == "timed_out"
    assert "can't be killed" in outcome.error
    alive = [t for t in threading.enumerate() if t.name.startswith("everbell-python")]
    assert alive
    # Another takes its place: both threads are there for others.
    ends = await asyncio.gather(*(perform(executor, of("none")) for _ in range(5)))
    assert {one.state for one, _ in ends} == {"succeeded"}
    await asyncio.to_thread(time.sleep, 1.0)
    assert sink.text("result") == ""
    assert "late" not in sink.text()


MODES = [("add", "thread"), ("add", "subprocess"), ("aadd", "thread")]


@pytest.mark.parametrize(("name", "mode"), MODES)
async def test_a_function_whose_parameters_were_long_in_coming_waits_for_its_claim(
    executor, name, mode
):
    claim, come = Claim(), asyncio.Event()

    async def inputs(run):
        await come.wait()
        return {"a": 1}

    executor._inputs = inputs
    action = of(name, mode=mode)
    attempt = asyncio.ensure_future(perform(executor, action, holds=claim, trigger="manual"))
    come.set()
    await until(lambda: claim.asked > 3)
    assert not attempt.done()
    claim.sure = True
    outcome, sink = await attempt
    assert outcome.state == "succeeded", outcome
    assert sink.text("result") in {'{"sum":3}', "3"}


@pytest.fixture
async def crowded(executor, targets):
    """Both threads are kept busy until ``targets.GATE`` is set."""
    held = [asyncio.ensure_future(perform(executor, of("gated"))) for _ in range(2)]
    await until(lambda: targets.INSIDE == 2)
    yield executor
    targets.GATE.set()
    await asyncio.gather(*held)


async def test_a_call_that_waited_for_a_thread_waits_for_its_claim(crowded, targets):
    claim = Claim()
    attempt = asyncio.ensure_future(perform(crowded, of("count"), holds=claim))
    await asyncio.sleep(0.1)
    targets.GATE.set()
    await until(lambda: claim.asked > 2)
    assert targets.COUNTED == []
    claim.sure = True
    assert (await attempt)[0].state == "succeeded"
    assert len(targets.COUNTED) == 1
    assert claim.threads == {threading.get_ident()}


@pytest.mark.parametrize("how", ["fence", "cancel", "timeout"])
async def test_what_is_given_up_while_it_waits_for_a_thread_never_begins(crowded, targets, how):
    claim, cancel = Claim(), asyncio.Event()
    work = assignment(of("count"), holds=claim, timeout_s=0.3 if how == "timeout" else 10.0)
    attempt = asyncio.ensure_future(crowded.run(work, cancel, ListSink()))
    await asyncio.sleep(0.1)
    targets.GATE.set()
    if how != "timeout":
        await until(lambda: claim.asked > 1)
    if how == "fence":
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    elif how == "cancel":
        cancel.set()
    claim.sure = how != "timeout"
    if how != "fence":
        outcome = await attempt
        assert outcome.state == {"cancel": "cancelled", "timeout": "timed_out"}[how]
        assert "start" in outcome.error or "not begun" in outcome.error
    claim.sure = True
    ends = await asyncio.gather(*(perform(crowded, of("none")) for _ in range(6)))
    assert {one.state for one, _ in ends} == {"succeeded"}
    assert targets.COUNTED == []


async def test_whatever_a_function_raises_its_thread_goes_on(executor):
    for _ in range(5):
        outcome, _ = await perform(executor, of("wild"))
        assert outcome.state == "failed"
    assert (await perform(executor, of("none")))[0].state == "succeeded"


async def test_a_store_that_is_away_delays_parameters_and_fails_nothing(executor):
    answers = [StoreUnavailable("away"), StoreUnavailable("away"), {"a": 1}]

    async def inputs(run):
        answer = answers.pop(0)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    executor._inputs = inputs
    outcome, sink = await perform(executor, of("add"), trigger="manual")
    assert outcome.state == "succeeded", outcome
    assert sink.text("result") == '{"sum":3}'


async def away(run):
    raise StoreUnavailable("away")


async def hangs(run):
    await asyncio.Event().wait()


@pytest.mark.parametrize("inputs", [away, hangs])
async def test_parameters_that_never_come_end_at_the_timeout_or_the_cancel(executor, inputs):
    executor._inputs = inputs
    outcome, _ = await perform(executor, of("add"), timeout_s=0.3, trigger="manual")
    assert outcome.state == "timed_out"
    assert "parameters" in outcome.error
    cancel = asyncio.Event()
    work = assignment(of("add"), trigger="manual")
    attempt = asyncio.ensure_future(executor.run(work, cancel, ListSink()))
    await asyncio.sleep(0)
    cancel.set()
    assert (await attempt).state == "cancelled"


async def test_threads_are_bounded_and_end(executor):
    count = len(threading.enumerate())
    await asyncio.gather(*(perform(executor, of("add", args=(1,))) for _ in range(50)))
    assert len([t for t in threading.enumerate() if t.name.startswith("everbell-py")]) <= 4
    await executor.close()
    await settled(lambda: len(threading.enumerate()) <= count)


def test_only_registered_or_allowed_functions_may_be_called(executor):
    executor.check(PythonAction(function="everbell_targets:none"))
    for name in ("os:system", "everbell_targets:_private", "everbell_targets:sys",
                 "everbell_targets:Skip", "everbell_targets:time.sleep", "os:fork"):  # fmt: skip
        with pytest.raises(ValidationError) as caught:
            executor.check(PythonAction(function=name))
        assert caught.value.hint
    with pytest.raises(ValidationError, match="no function") as caught:
        executor.check(of("nune"))
    assert "everbell_targets:none" in caught.value.suggestions
    executor.check(of("gone", retired="no longer in the code"))


async def test_parameters_of_a_run_come_before_those_of_the_job(executor):
    async def inputs(run):
        return {"b": 40}

    executor._inputs = inputs
    action = of("add", args=(2,), kwargs={"b": 1})
    assert (await perform(executor, action, trigger="manual"))[1].text("result") == '{"sum":42}'
    assert (await perform(executor, action))[1].text("result") == '{"sum":3}'

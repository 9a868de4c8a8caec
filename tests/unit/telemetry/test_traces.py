import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from everbell.config.schema import Execution, Telemetry
from everbell.domain.errors import ConfigError
from everbell.domain.job import CommandAction, HttpAction, Retry
from everbell.domain.run import Outcome
from everbell.executors import callback
from everbell.executors.surroundings import environment
from everbell.telemetry.traces import Traces
from everbell.testing.engine_bench import (
    BASE_US,
    Bench,
    FakeExecutor,
    FakeStore,
    make_job,
    make_run,
    passes,
    virtually,
)
from everbell.testing.executor_contract import assignment


class Listening(FakeExecutor):
    """Keeps what it was told, and the span that is current inside of it."""

    async def run(self, work, cancel, sink):
        self.told = work.traceparent
        self.current = trace.get_current_span().get_span_context()
        return await super().run(work, cancel, sink)


def traced(executor, *, job=None, sample=1.0, cancel=False):
    exporter = InMemorySpanExporter()
    traces = Traces(Telemetry(traces_sample=sample), node="n", version="1", exporter=exporter)

    async def story():
        bench = Bench(FakeStore(job or make_job()), executor)
        bench.execution.tracer = traces
        bench.execution.start([make_run(attempt=2, due_us=BASE_US - 250_000)])
        await passes(0.5)
        if cancel:
            bench.execution.abandon()
        await passes(5)

    virtually(story())
    traces.close()
    return exporter.get_finished_spans()


def test_an_attempt_is_a_span_with_slot_lateness_and_attempt():
    executor = Listening()
    [span] = traced(executor)
    told = span.attributes
    assert span.name == "run j1"
    assert told["everbell.run.id"] == f"1-{BASE_US}"
    assert told["everbell.run.slot"] == "2027-01-15T08:00:00Z"
    assert told["everbell.run.lateness_s"] == pytest.approx(0.25, abs=0.05)
    assert told["everbell.run.attempt"] == 2
    assert told["everbell.run.state"] == "succeeded"
    assert span.status.is_ok
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(1.0, abs=0.1)
    assert span.resource.attributes["service.name"] == "everbell"


def test_the_target_goes_on_from_the_span():
    executor = Listening()
    [span] = traced(executor)
    known = span.context
    assert executor.told.startswith(f"00-{known.trace_id:032x}-{known.span_id:016x}-")
    assert int(executor.told[-2:], 16) & 1, "sampled"
    assert executor.current.span_id == known.span_id


def test_a_failure_that_is_tried_again_is_an_error():
    failed = FakeExecutor(outcome=Outcome(state="failed", error="exit 3"))
    spans = traced(failed, job=make_job(retry=Retry(max=1)))
    assert not spans[0].status.is_ok
    assert spans[0].status.description == "exit 3"


def test_what_is_given_up_ends_too():
    [span] = traced(FakeExecutor(lasts_s=60), cancel=True)
    assert span.attributes["everbell.run.state"] == "fenced"


def test_what_is_not_sampled_is_told_so():
    executor = Listening()
    assert traced(executor, sample=0.0) == ()
    assert not int(executor.told[-2:], 16) & 1


def test_callbacks_and_commands_are_told():
    told = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    import msgspec

    http = assignment(HttpAction(url="http://x/"))
    with_trace = msgspec.structs.replace(http, traceparent=told)
    own = {"Traceparent": "own", "x-a": "b"}
    assert callback.headers_of(http, own, b"", 0)["Traceparent"] == "own"
    headers = callback.headers_of(with_trace, own, b"", 0)
    assert headers["traceparent"] == told
    assert "Traceparent" not in headers
    command = CommandAction(argv=("x",))
    work = msgspec.structs.replace(assignment(command), traceparent=told)
    assert environment(Execution(), command, work)["TRACEPARENT"] == told
    assert "TRACEPARENT" not in environment(Execution(), command, assignment(command))


def test_without_opentelemetry_the_setting_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError) as caught:
        Traces(Telemetry(), node="n", version="1", exporter=InMemorySpanExporter())
    assert "everbell[otel]" in caught.value.hint

"""A span for each attempt of a run, by OpenTelemetry (the extra ``everbell[otel]``)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from everbell.config.schema import Telemetry
from everbell.domain.errors import ConfigError
from everbell.domain.job import US, Job
from everbell.domain.records import Project
from everbell.domain.run import Run
from everbell.ports.observer import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

NS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GOOD = frozenset({"succeeded", "skipped"})


class Traces:
    """Implements ``ports.observer.Tracer``. What a target does can go on from the span.

    ``exporter`` None = OTLP over HTTP to the configured endpoint. Raises ConfigError if
    OpenTelemetry is not installed.
    """

    def __init__(
        self,
        settings: Telemetry,
        *,
        node: str,
        version: str,
        exporter: SpanExporter | None = None,
    ) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        except ImportError as error:
            raise _missing(error) from error
        about = {
            "service.name": "everbell",
            "service.version": version,
            "service.instance.id": node,
        }
        self._provider = TracerProvider(
            resource=Resource.create(about),
            sampler=ParentBased(TraceIdRatioBased(settings.traces_sample)),
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(exporter or _otlp(settings))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("everbell", version)

    def begin(self, run: Run, job: Job, project: Project, at_us: int) -> Trace:
        """See Tracer. Functions that run in this process find the span as the current one."""
        from opentelemetry import context, trace

        span = self._tracer.start_span(
            f"run {job.name}",
            context=context.Context(),
            start_time=at_us * NS,
            attributes={
                "everbell.run.id": run.id,
                "everbell.run.slot": _iso(run.key.slot_us),
                "everbell.run.lateness_s": max(at_us - run.due_us, 0) / US,
                "everbell.run.attempt": run.attempt,
                "everbell.run.trigger": run.trigger,
                "everbell.run.token": run.token,
                "everbell.job.id": job.id,
                "everbell.job.name": job.name,
                "everbell.project.name": project.name,
            },
        )
        # The attempt's own task, whose context ends with it: nothing is to be put back.
        context.attach(trace.set_span_in_context(span))
        return _Attempt(span)

    def close(self) -> None:
        """Send what waits, for a few seconds at most, and end."""
        self._provider.force_flush(5000)
        self._provider.shutdown()


class _Attempt:
    def __init__(self, span: Span) -> None:
        self._span = span
        known = span.get_span_context()
        self.traceparent = (
            f"00-{known.trace_id:032x}-{known.span_id:016x}-{int(known.trace_flags):02x}"
        )

    def end(self, state: str, error: str, at_us: int) -> None:
        """See Trace."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("everbell.run.state", state)
        if state in _GOOD:
            self._span.set_status(StatusCode.OK)
        else:
            self._span.set_status(StatusCode.ERROR, error or state)
        self._span.end(at_us * NS)


def _otlp(settings: Telemetry) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise _missing(error) from error
    return OTLPSpanExporter(endpoint=settings.traces_endpoint or None)


def _missing(error: ImportError) -> ConfigError:
    message = f"telemetry.traces needs OpenTelemetry: {error}"
    return ConfigError(
        message, hint="pip install 'everbell[otel]', or set telemetry.traces = false"
    )


def _iso(at_us: int) -> str:
    text = (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="auto")
    return text.removesuffix("+00:00") + "Z"

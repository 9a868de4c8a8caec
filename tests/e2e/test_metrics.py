"""A real node, read by what reads it in production: a Prometheus scraper."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from everbell_e2e_nodes import NodeProcess, until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.timeout(120)


def scrape(node: NodeProcess, headers: dict[str, str]) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{node.port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers["content-type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers["content-type"]


def configured(new_node: Callable[..., NodeProcess], text: str) -> NodeProcess:
    node = new_node()
    with (node.directory / "everbell.toml").open("a") as file:
        file.write(text)
    node.start()
    return node


def test_a_scraper_with_a_credential_reads_what_the_node_did(
    new_node: Callable[..., NodeProcess],
) -> None:
    node = configured(new_node, "\n[telemetry]\nmetrics = true\njob_metrics = true\n")
    node.make("/api/v1/projects", {"name": "ops"})
    action = {"kind": "command", "argv": ["true"]}
    node.make(
        "/api/v1/jobs",
        {"name": "tick", "project": "ops", "schedule": "@every 1s", "action": action},
    )
    hook = {"kind": "http", "url": f"http://127.0.0.1:{node.port}/healthz", "method": "GET"}
    node.make("/api/v1/jobs", {"name": "hook", "schedule": "@every 1s", "action": hook})
    until(lambda: len(node.runs("&state=succeeded")) >= 4, 20, "some runs ended")
    pair = ":".join((node.headers["x-api-key"], node.headers["x-secret-key"]))
    basic = {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    status, body, media = scrape(node, basic)
    assert status == 200
    assert media.startswith("text/plain; version=")
    rows = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(body)
        for one in family.samples
    }
    assert rows["everbell_runs_total", ("state", "succeeded"), ("trigger", "schedule")] >= 2
    tick = ("job", "tick"), ("project", "ops"), ("state", "succeeded")
    assert rows["everbell_job_runs_total", *tick] >= 1
    answered = ("answer", "2xx"), ("destination", "loopback")
    assert rows["everbell_callbacks_total", *answered] >= 1
    assert rows["everbell_lateness_seconds_count",] >= 2
    assert rows["everbell_store_seconds_count", ("verb", "decide")] >= 1
    assert rows["everbell_loop_lag_seconds_count",] >= 1
    assert 0 <= rows["everbell_lease_age_seconds",] < 6
    made = ("method", "POST"), ("route", "/jobs"), ("status", "201")
    assert rows["everbell_api_requests_total", *made] == 2
    assert scrape(node, {})[0] == 401
    assert json.loads(scrape(node, {})[1])["hint"]
    words = ["credential", "create", "--project", "ops", "--scope", "read", "--json"]
    bound = json.loads(node.cli(*words))["data"]
    keys = {"x-api-key": bound["api_key"], "x-secret-key": bound["api_secret"]}
    assert scrape(node, keys)[0] == 403
    assert node.stop() == 0


def test_off_by_default_and_open_on_request(new_node: Callable[..., NodeProcess]) -> None:
    closed = configured(new_node, "")
    assert scrape(closed, closed.headers)[0] == 404
    closed.close()
    open_node = new_node("open")
    with (open_node.directory / "everbell.toml").open("a") as file:
        file.write("\n[telemetry]\nmetrics = true\nmetrics_login = false\n")
    open_node.start()
    assert scrape(open_node, {})[0] == 200


def test_spans_reach_a_collector(new_node: Callable[..., NodeProcess]) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    names: list[str] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            raw = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                raw = gzip.decompress(raw)
            sent = ExportTraceServiceRequest.FromString(raw)
            names.extend(
                span.name
                for resource in sent.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        node = configured(
            new_node, f'\n[telemetry]\ntraces = true\ntraces_endpoint = "{address}"\n'
        )
        action = {"kind": "command", "argv": ["sh", "-c", "echo $TRACEPARENT"]}
        job = node.make("/api/v1/jobs", {"name": "traced", "action": action})
        run = node.make(f"/api/v1/jobs/{job['id']}/runs", {})
        path = f"/api/v1/runs/{run['id']}"
        until(lambda: node.call("GET", path)[1]["data"]["state"] == "succeeded", 20, "it ran")
        said = str(node.call("GET", f"{path}/output")[1])
        assert node.stop() == 0
        collector.shutdown()
    assert names == ["run traced"]
    assert said.startswith("00-")

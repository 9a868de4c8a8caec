import contextvars
import io
import json
import logging

import pytest

from everbell.config.schema import Log
from everbell.domain.errors import ConfigError
from everbell.domain.run import Run, RunKey
from everbell.ports.observer import LOG_SUBJECT
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.logs import get_logger, reopen_files, set_up


@pytest.fixture(autouse=True)
def restore():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_json_lines_with_fields_and_exceptions():
    sink = io.StringIO()
    set_up(Log(format="json", level="INFO"), stream=sink)
    get_logger("a.b").info("run %s", 7, extra={"job": 1})
    get_logger("a.b").debug("unseen")
    try:
        raise ValueError("no")
    except ValueError:
        get_logger("a").exception("bad")
    first, second = (json.loads(line) for line in sink.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"], first["job"]) == (
        "run 7",
        "info",
        "a.b",
        1,
    )
    assert "ValueError: no" in second["exception"]


def test_text_levels_and_file(tmp_path):
    sink = io.StringIO()
    set_up(Log(format="text", level="WARN", file="x.log"), tmp_path, stream=sink)
    get_logger("a").info("unseen")
    get_logger("a").warning("seen")
    assert "seen" in sink.getvalue()
    assert "unseen" not in sink.getvalue()
    assert "seen" in (tmp_path / "x.log").read_text()


def test_a_file_that_cannot_be_opened_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="can't write the log file"):
        set_up(Log(file="no/x.log"), tmp_path, stream=io.StringIO())


async def test_clock_and_entropy():
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert clock.now_us() > 1_700_000_000_000_000
    entropy = SystemEntropy()
    assert len(entropy.token_bytes(16)) == 16
    assert entropy.token_bytes(16) != entropy.token_bytes(16)


def test_lines_of_the_http_server_follow_our_form():
    sink, words = io.StringIO(), io.StringIO()
    colored = {"color_message": "Started server process [\x1b[36m%d\x1b[0m]"}
    for stream, form in ((sink, "json"), (words, "text")):
        set_up(Log(format=form), stream=stream)
        logging.getLogger("uvicorn.error").info("Started server process [%d]", 7, extra=colored)
        logging.getLogger("uvicorn.access").info('%s - "%s %s"', "127.0.0.1:1", "GET", "/jobs")
    first, second = (json.loads(line) for line in sink.getvalue().splitlines())
    assert first["event"] == "Started server process [7]"
    assert "color_message" not in first
    assert second["event"] == '127.0.0.1:1 - "GET /jobs"'
    assert "\x1b" not in words.getvalue()
    assert "color_message" not in words.getvalue()


def test_a_line_carries_the_ids_of_what_is_worked_on():
    sink = io.StringIO()
    set_up(Log(format="json"), stream=sink)
    run = Run(key=RunKey(5_000_000, 7), project_id=1, version=1, state="claimed", attempt=2)

    def work(subject):
        LOG_SUBJECT.set(subject)
        get_logger("a").info("said")
        get_logger("a").info("said", extra={"run_id": "another"})

    for subject in (run, "req_1"):
        contextvars.copy_context().run(work, subject)
    get_logger("a").info("said")
    of_run, other, of_request, _, plain = map(json.loads, sink.getvalue().splitlines())
    assert (of_run["run_id"], of_run["job_id"], of_run["attempt"]) == ("7-5000000", 7, 2)
    assert other["run_id"] == "another"
    assert of_request["request_id"] == "req_1"
    assert not {"run_id", "request_id"} & plain.keys()


def test_a_log_file_that_was_moved_away_is_reopened(tmp_path):
    set_up(Log(file="x.log"), tmp_path, stream=io.StringIO())
    get_logger("a").info("before")
    (tmp_path / "x.log").rename(tmp_path / "x.log.1")
    get_logger("a").info("between")
    reopen_files()
    get_logger("a").info("after")
    assert "between" in (tmp_path / "x.log.1").read_text()
    fresh = (tmp_path / "x.log").read_text()
    assert "after" in fresh
    assert "between" not in fresh


def test_a_log_file_that_cannot_be_reopened_goes_on(tmp_path):
    home = tmp_path / "logs"
    home.mkdir()
    set_up(Log(file="logs/x.log"), tmp_path, stream=io.StringIO())
    home.rename(tmp_path / "old")
    reopen_files()
    get_logger("a").info("still here")
    kept = (tmp_path / "old" / "x.log").read_text()
    assert "can't reopen" in kept
    assert "still here" in kept

import io
import json
import logging

import pytest

from everbell.config.schema import Log
from everbell.domain.errors import ConfigError
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.logs import get_logger, set_up


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

"""The demo as its first reader sees it: it starts, every kind of job ends as told, none is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from everbell_e2e_nodes import until

pytestmark = pytest.mark.timeout(120)


def test_the_demo_runs_and_cleans_up(tmp_path: Path) -> None:
    said = (tmp_path / "said").open("wb+")
    env = {**os.environ, "TMPDIR": str(tmp_path), "EVERBELL_DATABASE_URL": "memory:"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "everbell", "demo", "--port", "0"],
        cwd=tmp_path, env=env, stderr=said, stdout=said,
    )  # fmt: skip
    try:
        until(lambda: b"everbell run list" in _read(tmp_path), 30, "it says where to look")
        text = _read(tmp_path).decode()
        found = re.search(r"export EVERBELL_CONFIG=(\S+)", text)
        assert found is not None
        config = found[1]
        assert text.count("everbell ") >= 8
        until(lambda: _ended(config, "flaky"), 50, "the flaky one succeeds at last")
        names = {run["job"]: run["state"] for run in _runs(config)}
        for job in ("hello", "scripted", "own-health"):
            assert "succeeded" in {one["state"] for one in _runs(config, job)}, (job, names)
        assert "failed" in {one["state"] for one in _runs(config, "broken")}
        assert "skipped" in {one["state"] for one in _runs(config, "crowded")}
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait(10)
        said.close()
    assert list(tmp_path.glob("everbell-demo-*")) == []
    assert "Traceback" not in _read(tmp_path).decode()


def _read(home: Path) -> bytes:
    return (home / "said").read_bytes()


def _runs(config: str, *job: str) -> list[dict[str, str]]:
    words = ["run", "list", "--limit", "500", "--json", "-p", "demo"]
    words += ["--job", *job] if job else []
    env = {key: value for key, value in os.environ.items() if not key.startswith("EVERBELL_")}
    done = subprocess.run(
        [sys.executable, "-m", "everbell", *words],
        env={**env, "EVERBELL_CONFIG": config}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)["data"]


def _ended(config: str, job: str) -> bool:
    return any(run["state"] == "succeeded" for run in _runs(config, job))

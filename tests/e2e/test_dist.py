"""What starts a node at boot: the SysVinit script is run, the systemd unit is read."""

from __future__ import annotations

import configparser
import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(120)
DIST = Path(__file__).resolve().parents[2] / "dist"


def test_the_unit_waits_for_readiness_and_watches() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DIST / "everbell.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert int(service["TimeoutStopSec"]) > 30, "execution.shutdown_grace by default"
    assert service["User"] != "root"
    if shutil.which("systemd-analyze"):
        words = ["systemd-analyze", "verify", str(DIST / "everbell.service")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "Unknown" not in done.stderr


@pytest.fixture
def service(
    new_node: Callable[..., NodeProcess], tmp_path: Path
) -> tuple[NodeProcess, Callable[[str], subprocess.CompletedProcess[str]]]:
    """Give a directory for a node, and its init script with the settings of this test."""
    node = new_node()
    program = tmp_path / "everbell"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m everbell "$@"\n')
    program.chmod(0o755)
    script = (DIST / "everbell.init").read_text()
    own = tmp_path / "default"
    own.write_text(
        f"PROGRAM={program}\nDIRECTORY={node.directory}\nRUN_AS={getpass.getuser()}\n"
        f"PIDFILE={tmp_path}/pid\nCONSOLE={node.directory}/node.log\n"
    )
    (tmp_path / "init").write_text(script.replace("/etc/default/$NAME", str(own)))

    def call(word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(tmp_path / "init"), word],
            capture_output=True, text=True, timeout=90, check=False,
            env={**os.environ, "EVERBELL_SERVER_PORT": str(node.port)},
        )  # fmt: skip

    return node, call


def test_the_init_script_starts_reports_and_stops_a_node(service) -> None:
    node, call = service
    assert call("status").returncode == 3
    started = call("start")
    try:
        assert started.returncode == 0, started.stderr
        until(lambda: node.call("GET", "/readyz")[0] == 200, 20, "the node is ready")
        assert "is running (pid" in call("status").stdout
        assert "is running" in call("start").stdout
        assert call("restart").returncode == 0
        until(lambda: node.call("GET", "/readyz")[0] == 200, 20, "the node is ready again")
    finally:
        stopped = call("stop")
    assert stopped.returncode == 0
    assert call("status").returncode == 3
    assert node.log().count("the node stops") == 2
    assert call("dance").returncode == 2


def test_the_init_script_says_why_a_node_does_not_start(service) -> None:
    node, call = service
    (node.directory / "everbell.toml").write_text("[server]\nprot = 1\n")
    done = call("start")
    assert done.returncode == 1
    assert "server.port" in done.stderr
    assert call("status").returncode == 3

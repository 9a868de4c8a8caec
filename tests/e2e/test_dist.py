"""What starts a node at boot: the SysVinit script is run, the systemd unit is read."""

from __future__ import annotations

import configparser
import getpass
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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
    assert service["Restart"] == "always"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # It looks for the program too, which is not where an installation has it.
    text = (
        (DIST / "everbell.service").read_text().replace("/opt/everbell/bin/everbell", "/bin/true")
    )
    unit = tmp_path / "everbell.service"
    unit.write_text(text)
    words = ["systemd-analyze", "verify", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


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


def is_ready(node: NodeProcess) -> bool:
    """Return whether the node answers; the script does not wait for that."""
    try:
        return node.call("GET", "/readyz")[0] == 200
    except OSError:
        return False


def test_the_init_script_starts_reports_and_stops_a_node(service) -> None:
    node, call = service
    assert call("status").returncode == 3
    started = call("start")
    try:
        assert started.returncode == 0, started.stderr
        until(lambda: is_ready(node), 40, "the node is ready")
        assert "is running (pid" in call("status").stdout
        assert "is running" in call("start").stdout
        assert call("restart").returncode == 0
        until(lambda: is_ready(node), 40, "the node is ready again")
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


def test_after_kill_9_the_script_says_dead_and_starts_again(service, tmp_path) -> None:
    node, call = service
    assert call("start").returncode == 0
    try:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        until(lambda: call("status").returncode == 1, 10, "dead, and the number is left")
        assert "is left" in call("status").stdout
        assert call("start").returncode == 0
        until(lambda: is_ready(node), 40, "the node is ready again")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        until(lambda: call("status").returncode == 1, 10, "dead again")
    finally:
        assert call("stop").returncode == 0
    assert call("status").returncode == 3
    assert call("stop").returncode == 0


@pytest.fixture
def stand_in() -> Iterator[tuple[Path, Callable[..., subprocess.CompletedProcess[str]]]]:
    """Give a directory with a program that only waits, and the script for it.

    Any user may read it: the real program may be installed where only its owner can.
    """
    home = Path(tempfile.mkdtemp(prefix="everbell-init-"))
    home.chmod(0o777)
    (home / "everbell").write_text("#!/bin/sh\nid -u > who\nsleep 600 & wait\n")
    (home / "everbell").chmod(0o755)
    (home / ".everbell").write_text("{}")
    other = "nobody" if os.geteuid() == 0 else getpass.getuser()

    def call(word: str, **changed: str) -> subprocess.CompletedProcess[str]:
        values = {
            "PROGRAM": f"{home}/everbell",
            "DIRECTORY": str(home),
            "RUN_AS": other,
            "PIDFILE": f"{home}/pid",
            "CONSOLE": f"{home}/console.log",
            **changed,
        }
        (home / "default").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
        script = (DIST / "everbell.init").read_text()
        (home / "init").write_text(script.replace("/etc/default/$NAME", f"{home}/default"))
        words = ["sh", str(home / "init"), word]
        return subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)

    yield home, call
    call("stop")
    shutil.rmtree(home)


def test_the_program_runs_as_its_own_user(stand_in) -> None:
    home, call = stand_in
    started = call("start")
    assert started.returncode == 0, started.stderr
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    assert int((home / "who").read_text()) == pwd.getpwnam(user).pw_uid
    assert call("start").returncode == 0
    assert call("try-restart").returncode == 0
    assert call("status").returncode == 0


def test_a_number_that_another_program_has_is_not_the_node(stand_in) -> None:
    home, call = stand_in
    other = subprocess.Popen(["sleep", "600"])
    try:
        (home / "pid").write_text(f"{other.pid}\n")
        assert call("status", RUN_AS=getpass.getuser()).returncode == 1
        assert call("reload").returncode == 7
        assert call("stop").returncode == 0
        assert other.poll() is None
        (home / "pid").write_text(f"{other.pid}\n")
        assert call("start").returncode == 0
        assert int((home / "pid").read_text()) != other.pid
        assert call("stop").returncode == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"PROGRAM": "/not/there"}, 5, "/not/there is not there"),
        ({"DIRECTORY": "/not/there"}, 6, "no directory /not/there"),
        ({"DIRECTORY": "/usr"}, 6, "no secrets in /usr"),
        ({"RUN_AS": "nobody-of-this-name"}, 6, "no user nobody-of-this-name"),
    ],
)
def test_what_is_missing_is_told_with_the_code_of_the_lsb(stand_in, changed, code, words) -> None:
    _, call = stand_in
    if os.geteuid() != 0 and "RUN_AS" in changed:
        code, words = 4, "only root"
    done = call("start", **changed)
    assert done.returncode == code
    assert words in done.stderr
    assert call("try-restart", **changed).returncode == 0
    assert call("reload", **changed).returncode == 7

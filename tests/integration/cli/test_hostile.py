"""Closed streams, taken ports, lost secrets, damaged files: an answer, a way on, an exit code."""

import os
import shlex
import socket
import subprocess
import sys

import pytest

from everbell.testing.free_ports import free_port

EVERBELL = shlex.join([sys.executable, "-m", "everbell"])


def sh(home, line, **extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERBELL_", "SCHEDULER0_"))}
    # No node that runs on this machine may stand in the way of `start`.
    kept["EVERBELL_SERVER_PORT"] = str(free_port())
    return subprocess.run(
        ["sh", "-c", line.replace("everbell ", EVERBELL + " ")],
        cwd=home, env={**kept, **extra}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.fixture
def home(tmp_path):
    assert sh(tmp_path, "everbell init").returncode == 0
    return tmp_path


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_harm_neither_command_nor_database(home, closed):
    done = sh(home, f"everbell job create j --every 1h -- true {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "j" in sh(home, "everbell job list -o name").stdout


def test_start_with_closed_streams_still_says_why_by_its_exit_code(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = sh(home, "everbell start >&- 2>&- <&-", EVERBELL_SERVER_PORT=port)
        assert done.returncode == 2
        told = sh(home, "everbell start", EVERBELL_SERVER_PORT=port)
    assert told.returncode == 2
    assert f"can't listen on 127.0.0.1:{port}" in told.stderr
    assert "is a node running already?" in told.stderr


@pytest.mark.parametrize("host", ["203.0.113.5", "nosuch.invalid"])
def test_a_host_that_is_not_here_is_not_called_a_taken_port(home, host):
    done = sh(home, "everbell start", EVERBELL_SERVER_HOST=host, EVERBELL_SERVER_PORT="0")
    assert done.returncode == 2
    assert "must be an address of this machine" in done.stderr
    assert "running already" not in done.stderr


@pytest.mark.parametrize("command", ["start", "job list"])
def test_lost_secrets_are_not_replaced_beside_a_database(home, command):
    (home / ".everbell").unlink()
    done = sh(home, f"everbell {command}")
    assert done.returncode == 2
    assert "restore it from a backup" in done.stderr


@pytest.mark.parametrize("command", ["start", "job list"])
def test_damage_is_told_in_one_line_and_nothing_is_written(home, command):
    file = home / "everbell.db"
    raw = bytearray(file.read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 8192] = b"\xa5" * 8192
    file.write_bytes(raw)
    done = sh(home, f"everbell {command}")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert "is damaged" in lines[0]
    assert "\n*" not in done.stderr
    assert lines[-1].startswith("hint: restore the newest backup")
    assert file.read_bytes() == raw


def test_a_file_changed_by_hand_is_told_once(home):
    import apsw

    with apsw.Connection(str(home / "everbell.db")) as db:
        db.execute("PRAGMA foreign_keys = OFF; DROP TABLE runs")
    done = sh(home, "everbell run list")
    assert done.returncode == 1
    assert done.stderr.count("no such table") == 1
    assert done.stderr.startswith("error: ")

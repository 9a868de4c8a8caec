"""Signals at the worst moments, and what a supervisor is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until

pytestmark = pytest.mark.timeout(120)
Make = Callable[..., NodeProcess]

# Sends itself a signal inside one step of the start, where nothing else could meet it reliably.
STRIKE = textwrap.dedent("""
    import os, signal, sys
    from everbell.bootstrap import storage
    from everbell.api import serving
    from everbell.engine.node import NodeEngine

    def strike(owner, name):
        real = getattr(owner, name)
        async def struck(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            return await real(*args, **kwargs)
        setattr(owner, name, struck)

    {strike}
    from everbell.cli.main import main
    main(["start"])
""")


@pytest.mark.parametrize(
    "strike",
    [
        "strike(storage, 'open_store')",
        "strike(NodeEngine, 'start')",
        "strike(serving.Server, 'startup')",
    ],
)
def test_a_signal_during_the_start_ends_the_node_in_good_order(new_node: Make, strike: str) -> None:
    node = new_node()
    done = subprocess.run(
        [sys.executable, "-c", STRIKE.format(strike=strike)],
        cwd=node.directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the node stops" in done.stderr
    assert "left" in node.cli("node", "list")


def test_systemd_is_told_when_the_node_is_up_and_when_it_stops(
    new_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(20)
        ear.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        node = new_node()
        node.start()
        heard = [ear.recv(200)]
        while heard.count(b"WATCHDOG=1") < 3:
            heard.append(ear.recv(200))
        assert node.stop() == 0
        ear.settimeout(0.2)
        while True:
            try:
                heard.append(ear.recv(200))
            except TimeoutError:
                break
    first_words = [words.partition(b"\n")[0] for words in heard]
    assert first_words.count(b"READY=1") == 1
    assert first_words[-1] == b"STOPPING=1"


def test_logrotate_may_move_the_file_of_a_daemon(new_node: Make) -> None:
    node = new_node()
    with (node.directory / "everbell.toml").open("a") as config:
        config.write('\n[log]\nfile = "own.log"\n')
    node.start()
    log, moved = node.directory / "own.log", node.directory / "own.log.1"
    log.rename(moved)
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGHUP)
    until(log.exists, 10, "the file is opened anew")
    assert node.ready()
    assert node.stop() == 0
    assert "the node stops" in log.read_text()
    assert "the node listens" in moved.read_text()

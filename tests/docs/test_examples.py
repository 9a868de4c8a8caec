"""The examples are programs that run: their own tests pass, and the web programs answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from everbell.testing.free_ports import free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_the_example_tests_pass(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"],
        cwd=home, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


SERVERS = {
    "fastapi": (("-m", "uvicorn", "--port", "{port}", "fastapi_shop:web"), "POST", "3"),
    "wsgi": (("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "wsgi_shop:web"), "GET", "1"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_web_program_asks_for_a_run_and_gets_its_result(home: Path, name: str) -> None:
    words, method, count = SERVERS[name]
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, *(word.format(port=port) for word in words)],
        cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    path = "/restock/bell?count=3" if method == "POST" else "/bell"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        assert f"{count} x bell" in ask(request)
    finally:
        server.terminate()
        server.wait(20)


def ask(request: urllib.request.Request) -> str:
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_alone_until_a_signal(home: Path) -> None:
    program = subprocess.Popen([sys.executable, "shop.py"], cwd=home)
    try:
        end = time.monotonic() + 20
        while not (home / "everbell.db").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        program.terminate()
    assert program.wait(20) == 0

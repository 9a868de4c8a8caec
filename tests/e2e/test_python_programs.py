"""Web programs with Everbell inside, as real servers with many processes over one SQLite file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest
from everbell_e2e_nodes import until

from everbell.testing.free_ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

JOBS = """
import os
from pathlib import Path
from everbell import Everbell, context, every

SETTINGS = {
    "node.heartbeat": 0.3, "node.lease": 1.5, "engine.poll": 0.2,
    "execution.shutdown_grace": 2, "execution.kill_grace": 0.5,
}
app = Everbell("shop", database="sqlite:///shop.db", settings=SETTINGS)
LOG = os.open("ran.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(kind):
    it = context()
    os.write(LOG, f"{kind} {it.slot.timestamp():.0f} {it.attempt} {os.getpid()}\\n".encode())

@app.job(every(1).seconds, overlap="allow", misfire="all", anchor="2026-01-01")
def plain():
    note("plain")

@app.job(every(1).seconds, overlap="allow", misfire="all", anchor="2026-01-01")
async def loop():
    note("loop")
"""

WSGI = (
    JOBS
    + """
def web(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]

app.start_background()
"""
)

FASTAPI = (
    JOBS
    + """
from fastapi import FastAPI
web = FastAPI(lifespan=app.lifespan)
web.mount("/everbell", app.asgi)

@web.get("/")
def home():
    return os.getpid()
"""
)

GUNICORN = ("-m", "gunicorn", "--workers", "4", "--graceful-timeout", "10", "program:web")
CASES = {
    "gunicorn": (WSGI, (*GUNICORN, "--bind", "127.0.0.1:{port}")),
    "gunicorn-preload": (WSGI, (*GUNICORN, "--preload", "--bind", "127.0.0.1:{port}")),
    "uvicorn-fastapi": (
        FASTAPI,
        ("-m", "uvicorn", "--workers", "4", "--port", "{port}", "program:web"),
    ),
}


def rows(home: Path, query: str) -> list[tuple]:
    if not (home / "shop.db").exists():
        return []
    database = sqlite3.connect(f"file:{home / 'shop.db'}?mode=ro", uri=True, timeout=10)
    try:
        return database.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        database.close()


def ran(home: Path) -> list[tuple[str, int, int, int]]:
    path = home / "ran.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(kind, *map(int, rest)) for kind, *rest in map(str.split, lines)]


def slots(home: Path) -> int:
    return len({slot for _, slot, _, _ in ran(home)})


@pytest.mark.parametrize("name", CASES)
def test_many_processes_run_each_slot_once_also_when_one_is_killed(name: str, tmp_path: Path):
    program, words = CASES[name]
    (tmp_path / "program.py").write_text(program)
    port = free_port()
    log = (tmp_path / "server.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, *(word.format(port=port) for word in words)],
        cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    log.close()
    try:
        _kill_one_and_check(server, tmp_path, port)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def _kill_one_and_check(server: subprocess.Popen[bytes], home: Path, port: int) -> None:
    def up() -> list[tuple]:
        said = (home / "server.log").read_text()
        assert server.poll() is None, said
        found = rows(home, "SELECT pid FROM nodes WHERE state = 'up'")
        return found if len(found) >= 4 else []

    nodes = [pid for (pid,) in until(up, 40, "four nodes are up")]
    assert len(set(nodes)) == 4
    assert server.pid not in nodes, "the parent of workers runs no node"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert int(answer.read()) in nodes
    until(lambda: slots(home) >= 3, 20, "slots run")
    victim = ran(home)[-1][3]
    os.kill(victim, signal.SIGKILL)
    before = slots(home)
    until(lambda: slots(home) >= before + 4, 20, "the others go on")
    until(lambda: len(set(up())) >= 4, 20, "the server has replaced the killed one")
    assert psutil.pid_exists(server.pid)
    server.terminate()
    assert server.wait(30) in {0, -signal.SIGTERM}, (home / "server.log").read_text()
    _each_slot_once(home)


def _each_slot_once(home: Path) -> None:
    attempts = Counter((kind, slot, attempt) for kind, slot, attempt, _ in ran(home))
    assert [one for one, count in attempts.items() if count > 1] == []
    assert rows(home, "SELECT count(*) FROM jobs") == [(2,)]
    for job in (1, 2):
        found = rows(home, f"SELECT slot_us, state FROM runs WHERE job_id = {job} ORDER BY 1")
        instants = [slot // 1_000_000 for slot, _ in found]
        assert instants == list(range(instants[0], instants[0] + len(instants))), (
            "no gap, no double"
        )
        ended = [state for _, state in found if state not in {"claimed", "queued", "running"}]
        assert set(ended) == {"succeeded"}, Counter(ended)
    said = (home / "server.log").read_text()
    assert "Traceback" not in said, said

"""The Distributed Scheduler's page, followed with real processes, PostgreSQL and Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from everbell_e2e_nodes import NodeProcess, until
from redis import Redis

from everbell.testing.free_ports import free_port
from everbell.testing.postgres_server import PostgresServer
from everbell.testing.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
QUICK = """
[node]
heartbeat = 0.3
lease = 2.0

[execution]
shutdown_grace = 3.0
"""
JOBS = 12
FREQUENCY_S = 2


class Process(NodeProcess):
    """A process that is started with the documented flags, beside others in a directory."""

    def __init__(self, directory: Path, flags: list[str]) -> None:
        self._place(directory)
        self.flags = flags

    def start(self, limit: str = ":") -> None:
        """Start it with ``--PORT`` and the flags, and wait until it is ready."""
        log = (self.directory / f"{self.port}.log").open("ab")
        words = [sys.executable, "-m", "everbell", "start", "--init", "--PORT", str(self.port)]
        self.process = subprocess.Popen(
            ["sh", "-c", f'{limit}; exec "$0" "$@"', *words, *self.flags],
            cwd=self.directory,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        until(self.ready, 30, f"the process is ready; its log: {self.log()[-2000:]}")

    def log(self) -> str:
        """Return what it wrote."""
        path = self.directory / f"{self.port}.log"
        return path.read_text() if path.exists() else ""

    def login(self) -> None:
        """Make a credential at the process itself, as its page tells."""
        done = subprocess.run(
            [sys.executable, "-m", "everbell", "create", "credential", "--json"],
            cwd=self.directory, capture_output=True, text=True, check=True, timeout=60,
            env={
                **os.environ,
                "EVERBELL_SERVER": f"http://127.0.0.1:{self.port}",
                "EVERBELL_SERVER_PORT": str(self.port),
            },
        )  # fmt: skip
        made = json.loads(done.stdout)["data"]
        self.headers = {"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]}


@pytest.fixture
def processes(
    tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer
) -> Iterator[list[Process]]:
    """Give three processes, not started, on one database and one Redis."""
    (tmp_path / "everbell.toml").write_text(QUICK)
    flags = [
        "--PGHOST=127.0.0.1", f"--PGPORT={postgres_server.port}", "--PGUSER", "postgres",
        "--PGPASSWORD=any word: @/?", f"--PGDATABASE={postgres_server.new_database()}",
        f"--REDISPORT={redis_server.port}", "--REDISHOST=127.0.0.1",
        "--CHANNEL=ds:channel", "--PROCESS_STORE=ds:processes", "--JOB_STORE=ds:jobs",
        "--JOB_PROCESSED=ds:processed",
    ]  # fmt: skip
    made = [Process(tmp_path, flags) for _ in range(3)]
    yield made
    for one in made:
        one.close()


def written(log: Path) -> list[tuple[str, str]]:
    """Return run and attempt of each line that the scripts wrote."""
    lines = log.read_text().split("\n") if log.exists() else []
    return [(run, attempt) for run, attempt in (line.split() for line in lines if line)]


def script(log: Path) -> str:
    """Return the text of a job: JavaScript, as the original takes it.

    It lasts long enough that a busy machine does not make equal jobs look unlike.
    """
    return (
        f"require('fs').appendFileSync({json.dumps(str(log))},"
        " process.env.EVERBELL_RUN_ID + ' ' + process.env.EVERBELL_ATTEMPT + '\\n');"
        " setTimeout(() => {}, 250)"
    )


def test_jobs_spread_over_processes_and_go_on_when_one_is_killed(
    processes: list[Process], tmp_path: Path, redis_server: RedisServer
) -> None:
    first, second, third = processes
    first.start()
    first.login()
    for one in (second, third):
        one.headers = first.headers
        one.start()
    log = tmp_path / "outside.log"
    for number in range(JOBS):
        job = {
            "name": f"job {number}",
            "description": "as documented",
            "frequency": FREQUENCY_S,
            "startdate": "21-10-2026  9:5:0",
            "script": script(log),
            "repeat": True,
        }
        assert first.call("POST", "/jobs", job)[0] == 201
    until(lambda: len(written(log)) >= JOBS, 30, "every job runs")
    # What jobs weigh is known after some runs; shards move every ten seconds at most.
    until_even(first, 60)

    redis = Redis(port=redis_server.port, decode_responses=True)
    listed = {int(one["port"]): one for one in registered(redis)}
    assert set(listed) == {one.port for one in processes}
    for one in processes:
        assert one.process is not None
        assert int(listed[one.port]["pid"]) == one.process.pid
        assert int(listed[one.port]["rss"]) > 0

    third.kill()
    killed = time.time()
    until(lambda: running_since(first, killed + 1) >= JOBS, 30, "every job goes on elsewhere")
    until(lambda: len(registered(redis)) == 2, 10, "the dead process is listed no more")
    redis.close()
    at_end = time.time() - 3
    busy = {run["id"] for run in first.runs("&state=skipped")}  # the job was still at work
    assert first.stop() == 0
    assert second.stop() == 0
    lines = written(log)
    assert len(lines) == len(set(lines)), "an attempt ran twice"
    again = Counter(run for run, _ in lines)
    # What the killed process had written and not yet told may run again, as attempt 2.
    assert sum(count > 1 for count in again.values()) <= JOBS
    slots_of: dict[str, set[int]] = {}
    for run in again:
        job, at = run.split("-")[:2]
        slots_of.setdefault(job, set()).add(int(at))
    step = FREQUENCY_S * 1_000_000
    for job, slots in slots_of.items():
        wanted = range(min(slots), int(min(at_end, killed) * 1_000_000), step)
        assert [at for at in wanted if at not in slots and f"{job}-{at}" not in busy] == [], job


def registered(redis: Redis) -> list[dict[str, str]]:
    """Return what PROCESS_STORE tells of the processes that live."""
    told = [redis.hgetall(f"ds:processes:{name}") for name in redis.smembers("ds:processes")]
    return [one for one in told if one]


def until_even(process: Process, seconds: float) -> None:
    """Wait until each of three processes has a share of the jobs.

    Twelve jobs are dealt by what they were measured to last. Beside other tests that is no more
    than about the same for each: how even shares are is a figure of the bench.
    """
    jobs_of: dict[str, set[int]] = {}

    def is_even() -> bool:
        jobs_of.clear()
        for run in ended(process, time.time() - 10):
            jobs_of.setdefault(run["node"], set()).add(int(run["job_id"]))
        return len(jobs_of) == 3 and min(map(len, jobs_of.values())) >= JOBS // 6

    try:
        until(is_even, seconds, "each process has a share")
    except AssertionError as error:
        error.add_note(f"jobs of the last 10 s: {jobs_of}")
        raise


def ended(process: Process, since: float) -> list[dict[str, str]]:
    """Return the runs that succeeded and were planned after a time."""
    found = process.runs("&state=succeeded")
    return [run for run in found if int(run["id"].split("-")[1]) > since * 1_000_000]


def running_since(process: Process, since: float) -> int:
    """Return how many jobs have succeeded in a slot after a time."""
    return len({run["job_id"] for run in ended(process, since)})


def test_a_form_with_the_login_in_its_address_runs_once(
    processes: list[Process], tmp_path: Path
) -> None:
    process = processes[0]
    process.start()
    process.login()
    log = tmp_path / "outside.log"
    fields = {"name": "once", "frequency": "1", "script": script(log), "repeat": "false"}
    assert post(process, "/jobs", fields, login=False) == 401
    assert post(process, "/jobs", fields) == 201
    until(lambda: written(log), 20, "it runs")
    time.sleep(2.5)
    assert len(written(log)) == 1
    assert process.stop() == 0


def post(process: Process, path: str, fields: dict[str, str], *, login: bool = True) -> int:
    """Post a form with the credential as user and password; return the status."""
    words = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    for name, value in fields.items():
        words += ["--data-urlencode", f"{name}={value}"]
    key, secret = process.headers["x-api-key"], process.headers["x-secret-key"]
    at = f"{key}:{secret}@" if login else ""
    words.append(f"http://{at}127.0.0.1:{process.port}{path}")
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_the_environment_is_read_as_a_set(
    processes: list[Process], new_port: Callable[[], int] = free_port
) -> None:
    process = processes[0]
    port = new_port()
    pairs = [flag.removeprefix("--") for flag in process.flags if "=" in flag]
    env = {**os.environ, **dict(pair.split("=", 1) for pair in pairs), "PGUSER": "postgres"}
    words = [sys.executable, "-m", "everbell", "start", "--init"]
    with (process.directory / "env.log").open("wb") as log:
        process.process = subprocess.Popen(
            words, cwd=process.directory, stdout=log, stderr=log, env={**env, "PORT": str(port)}
        )
    process.port = port
    until(process.ready, 30, "the process is ready at PORT")
    assert urllib.parse.quote("any word: @/?") not in (process.directory / "env.log").read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200
    assert process.stop() == 0

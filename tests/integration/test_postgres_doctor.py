"""`doctor` on a real PostgreSQL: what is inside is looked into as in a file."""

import json
import os
import subprocess
import sys

import pytest

from everbell.domain.job import US
from everbell.stores.postgres import PostgresStore
from everbell.telemetry.clock import SystemClock
from everbell.testing.contracts import making

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def url(postgres_server):
    return postgres_server.url(postgres_server.new_database())


@pytest.fixture
def everbell(tmp_path, url):
    """Run the command line in a directory whose database is on the server."""

    def run(*words, **env):
        return subprocess.run(
            [sys.executable, "-m", "everbell", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "EVERBELL_DATABASE_URL": url,
                "EVERBELL_SERVER_PORT": "0",
                "EVERBELL_DATABASE_CONNECTIONS": "2",
                **env,
            },
        )

    done = run("init", ".")
    assert done.returncode == 0, done.stderr
    return run


def found(done):
    return [(one["level"], one["what"], one["found"]) for one in json.loads(done.stdout)["data"]]


async def test_a_good_server_has_nothing_bad_and_is_named_without_its_password(everbell, url):
    done = everbell("doctor", "--json")
    assert done.returncode == 0, done.stdout
    said = found(done)
    assert "bad" not in {level for level, _, _ in said}
    [server] = [text for _, what, text in said if what == "database"]
    assert server.startswith("PostgreSQL ")
    assert ("ok", "schema") in {(level, what) for level, what, _ in said}


async def test_jobs_runs_and_nodes_are_looked_into(everbell, url):
    now = SystemClock().now_us()
    store = await PostgresStore.open(url)
    try:
        _, never = await making.add_jobs(
            store,
            making.new_job("late", cursor=now - 3600 * US, schedule="@every 1s"),
            making.new_job("never", cursor=None, schedule="@at 2020-01-01T00:00:00Z"),
        )
        await store.add_hold(making.hold("job", never.id))
        await store.heartbeat(making.node("gone", lease=now - 5 * US))
    finally:
        await store.close()
    said = found(everbell("doctor", "--json"))
    jobs = " ".join(text for _, what, text in said if what == "jobs")
    assert "1 overdue by more than a minute: late" in jobs
    assert "1 never ran and have no slot any more: never" in jobs
    assert "1 held" in jobs
    assert any(what == "nodes" and "gone" in text for _, what, text in said)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://postgres:pw-word@127.0.0.1:1/x", "database.url"),
        ("{}_missing", "does not exist"),
    ],
)
async def test_a_server_that_can_not_be_used_is_bad(everbell, url, address, said):
    done = everbell("doctor", "--json", EVERBELL_DATABASE_URL=address.format(url))
    assert done.returncode == 1
    [bad] = [one for one in json.loads(done.stdout)["data"] if one["what"] == "database"]
    assert bad["level"] == "bad"
    assert said in bad["found"] + bad["hint"]
    assert "pw-word" not in done.stdout + done.stderr

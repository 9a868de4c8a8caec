"""``everbell node`` and ``everbell cluster`` over a database in a directory."""

import json
import time

import apsw
import pytest


@pytest.fixture
def ready(cli):
    assert cli("init") == 0
    beat = int(time.time() * 1e6)
    insert = (
        "INSERT INTO nodes (id, name, host, pid, version, started_us, heartbeat_us,"
        " lease_until_us, state, workers, running, queued, rss_bytes, cpu_percent, address)"
        f" VALUES (?, ?, 'h', 1, '1', 1, {beat}, ?, ?, 9, 0, 0, 0, 0.0, '')"
    )
    db = apsw.Connection("everbell.db")
    db.execute(insert, ("n1", "web1", beat + 600_000_000, "up"))
    db.execute(insert, ("n2", "web2", beat - 1, "dead"))
    db.close()
    return cli


def test_a_node_is_drained_and_resumed(ready):
    assert ready("node", "drain", "web1", "--reason", "new kernel") == 0
    assert "node web1 is drained: new kernel; `everbell node resume` ends that" in ready.err
    assert ready("node", "list", "--json") == 0
    assert json.loads(ready.out)["data"][0]["drained"] == "new kernel"
    assert ready("node", "list") == 0
    assert "new kernel" in ready.out
    assert ready("node", "resume", "n1") == 0
    assert "node web1 takes work again" in ready.err
    assert ready("node", "drain", "nobody") == 5
    assert "no node 'nobody'" in ready.err


def test_only_what_is_gone_is_removed(ready):
    assert ready("node", "remove", "web1") != 0
    assert "node web1 is up: only nodes that are gone can be removed" in ready.err
    assert ready("node", "remove", "web2") == 0
    assert ready("node", "list", "-q") == 0
    assert ready.out.split() == ["n1"]


def test_the_cluster_is_told(ready):
    assert ready("cluster", "status") == 0
    assert [line.split() for line in ready.out.splitlines()[:2]] == [
        ["NODES", "1"],
        ["SHARDS", "1024"],
    ]

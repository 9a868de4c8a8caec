"""`doctor` over directories with one trouble each."""

import json
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import apsw
import psutil
import pytest

from everbell.cli import doctor_checks
from everbell.config.schema import Callbacks, Engine, Server, Settings
from everbell.telemetry.clock import SystemClock


@pytest.fixture
def ready(cli, monkeypatch):
    monkeypatch.setenv("EVERBELL_SERVER_PORT", "0")
    assert cli("init") == 0
    return cli


def findings(cli, code=0):
    assert cli("doctor", "--json") == code, cli.out
    return [(one["level"], one["what"], one["found"]) for one in json.loads(cli.out)["data"]]


def levels(cli, what, code=0):
    return [level for level, about, _ in findings(cli, code) if about == what]


def change(*statements):
    with closing(sqlite3.connect("everbell.db")) as db:
        for one in statements:
            db.execute(one)
        db.commit()


def test_a_good_directory_has_nothing_bad(ready):
    cli = ready
    assert "bad" not in {level for level, _, _ in findings(cli)}
    assert cli("doctor") == 0
    assert "-> `everbell start`" in cli.out


def test_every_wrong_key_of_the_configuration_is_told(ready):
    Path("everbell.toml").write_text("[server]\nprot = 1\n[engine]\npoll = 'x'\n")
    found = findings(ready, code=1)
    assert [level for level, _, _ in found] == ["bad", "bad"]


@pytest.mark.parametrize("trouble", ["missing", "readable", "torn", "other"])
def test_secrets(ready, trouble):
    cli, path = ready, Path(".everbell")
    if trouble == "missing":
        path.unlink()
    elif trouble == "readable":
        path.chmod(0o644)
    elif trouble == "torn":
        path.write_text("{")
    else:
        assert cli("init", "other") == 0
        path.write_bytes(Path("other/.everbell").read_bytes())
    expected = "warn" if trouble == "readable" else "bad"
    assert expected in levels(cli, "secrets", code=0 if trouble == "readable" else 1)


def test_a_damaged_database(ready):
    raw = bytearray(Path("everbell.db").read_bytes())
    raw[8192:40960] = b"\xff" * 32768
    Path("everbell.db").write_bytes(raw)
    assert "bad" in levels(ready, "database", code=1)


@pytest.mark.parametrize(("version", "level", "code"), [(99, "bad", 1), (1, "warn", 0)])
def test_schemas_of_other_versions(ready, version, level, code):
    change(f"PRAGMA user_version = {version}")
    assert levels(ready, "schema", code) == [level]


def test_a_lock_names_who_may_hold_it(ready):
    with closing(apsw.Connection("everbell.db")) as db:
        db.execute("BEGIN IMMEDIATE")
        assert levels(ready, "lock", code=1) == ["bad"]


def test_another_programs_database(ready):
    Path("everbell.db").unlink()
    with closing(sqlite3.connect("everbell.db")) as db:
        db.execute("CREATE TABLE t (x)")
    assert "bad" in levels(ready, "database", code=1)


ORPHAN = (
    "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause,"
    " due_us, claimed_us, node) VALUES (1, 1, '', 1, 1, 'claimed', 'schedule', 1, 1, 'x')"
)


@pytest.mark.parametrize(
    ("statement", "word", "level"),
    [
        ("UPDATE jobs SET quarantined = 'torn'", "quarantine", "bad"),
        ("UPDATE jobs SET parked = '3 failures'", "parked", "warn"),
        ("UPDATE jobs SET next_slot_us = 1", "overdue", "warn"),
        ("UPDATE jobs SET next_slot_us = NULL", "never ran", "warn"),
        (
            ORPHAN,
            "a node that is gone",
            "warn",
        ),
    ],
)
def test_jobs_in_trouble(ready, statement, word, level):
    cli = ready
    assert cli("job", "create", "nightly", "--cron", "0 3 * * *", "--", "true") == 0
    change(statement)
    found = findings(cli, code=1 if level == "bad" else 0)
    [text] = [text for lvl, what, text in found if what == "jobs" and word in text and lvl == level]
    assert "nightly" in text


def test_a_hold_is_told(ready):
    assert ready("hold", "all", "--reason", "moving") == 0
    assert any("moving" in text for _, what, text in findings(ready) if what == "jobs")


def test_scripts_without_their_interpreter(ready):
    cli = ready
    Path("s.rb").write_text("puts 1")
    words = ["--script", "s.rb", "--interpreter", "sh"]
    assert cli("job", "create", "s", "--every", "1h", *words) == 0
    change("UPDATE definitions SET definition = replace(definition, '\"sh\"', '\"ruby\"')")
    found = findings(cli, code=1)
    assert any("`ruby`" in text for level, what, text in found if what == "interpreters")


def node(state="up", ahead_s=0.0, lease_s=60.0):
    now = SystemClock().now_us()
    beat, lease = now + int(ahead_s * 1e6), now + int(lease_s * 1e6)
    return (
        "INSERT INTO nodes (id, name, host, pid, version, started_us, heartbeat_us,"
        " lease_until_us, state, workers, running, queued, rss_bytes, cpu_percent, address)"
        f" VALUES ('n', 'web1', 'h', {os.getpid()}, '1', 1, {beat}, {lease}, '{state}',"
        " 9, 0, 0, 0, 0.0, 'http://127.0.0.1:1')"
    )


def test_nodes_alive_ahead_and_dead(ready):
    cli = ready
    change(node(ahead_s=30))
    found = findings(cli, code=1)
    assert ("ok", "nodes", "1 up: web1 (up)") in found
    assert any("ahead of this machine" in text for _, what, text in found if what == "clock")
    change("UPDATE nodes SET state = 'dead', heartbeat_us = 1")
    assert levels(cli, "nodes") == ["warn", "warn"]
    change("DELETE FROM nodes", node(state="throttled"))
    assert any("takes no new work" in text for _, _, text in findings(cli))


def test_a_port_that_is_taken(ready, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("EVERBELL_SERVER_PORT", str(other.getsockname()[1]))
        assert levels(ready, "port", code=1) == ["bad"]


def test_a_store_in_memory_and_a_server_elsewhere(cli, monkeypatch):
    monkeypatch.setenv("EVERBELL_SERVER_PORT", "0")
    monkeypatch.setenv("EVERBELL_DATABASE_URL", "memory:")
    assert "warn" in levels(cli, "database", code=1)
    assert cli("doctor", "--server", "http://127.0.0.1:1") == 2


def test_a_configuration_with_passwords_that_others_may_read(ready, monkeypatch):
    path = Path("everbell.toml")
    path.write_text('[redis]\npassword = "x"\n[crypto]\nsalt = "y"\n')
    path.chmod(0o644)
    [told] = [found for _, what, found in findings(ready) if "others may read" in found]
    assert told.endswith("which holds redis.password and crypto.salt")
    path.chmod(0o600)
    assert not [found for _, _, found in findings(ready) if "others may read" in found]
    path.write_text("")
    path.chmod(0o644)
    monkeypatch.setenv("EVERBELL_REDIS_PASSWORD", "x")
    assert not [found for _, _, found in findings(ready) if "others may read" in found]


# --- what only a broken machine shows ------------------------------------------------------------


def test_disks(monkeypatch, tmp_path):
    usage = type("U", (), {"free": 1, "total": 10**12})
    monkeypatch.setattr(doctor_checks.shutil, "disk_usage", lambda _: usage)
    part = type("P", (), {"mountpoint": "/", "fstype": "nfs4"})
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [part])
    found = list(doctor_checks.disk(tmp_path / "x.db"))
    assert [one.level for one in found] == ["bad", "bad"]
    usage.free = 10**9 * 2
    assert next(iter(doctor_checks.disk(tmp_path / "x.db"))).level == "warn"


def test_clocks(monkeypatch, tmp_path):
    monkeypatch.setattr(SystemClock, "now_us", lambda self: 1_000_000)
    found = [one.found for one in doctor_checks.clocks(tmp_path)]
    assert any("file system's clock differs" in text for text in found)
    assert any("the clock says it is 1970" in text for text in found)
    assert next(iter(doctor_checks.clocks(tmp_path / "none"))).level == "bad"


def test_open_files_and_shared_servers():
    many = Settings(engine=Engine(max_workers=100_000_000))
    assert next(iter(doctor_checks.descriptors(many, ()))).level == "warn"
    shared = Settings(server=Server(host="0.0.0.0"))
    assert [one.level for one in doctor_checks.callbacks(shared)] == ["warn", "warn"]
    strict = Settings(server=Server(host="0.0.0.0"), callbacks=Callbacks(private_addresses="deny"))
    assert [one.level for one in doctor_checks.callbacks(strict)] == ["ok", "warn"]


def test_zone_data_of_the_system_and_of_the_package(monkeypatch, tmp_path):
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    assert "package tzdata" in doctor_checks.zones().found
    (tmp_path / "UTC").write_text("")
    (tmp_path / "tzdata.zi").write_text("# version 1999a\n")
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path),))
    assert doctor_checks.zones().level == "warn"


def test_redis_is_asked(ready, redis_server, monkeypatch):
    cli = ready
    assert levels(cli, "redis") == []
    monkeypatch.setenv("EVERBELL_REDIS_ADDR", redis_server.addr)
    assert levels(cli, "redis") == ["ok"]
    monkeypatch.setenv("EVERBELL_REDIS_PASSWORD", "wrong-word")
    assert cli("doctor") == 1
    assert "redis.password" in cli.out
    assert "wrong-word" not in cli.out

"""`backup` and `restore` over a directory without a node."""

import json
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from everbell.telemetry.clock import SystemClock


@pytest.fixture
def ready(cli):
    assert cli("init") == 0
    assert cli("job", "create", "hello", "--every", "1s", "--", "echo", "hi") == 0
    assert cli("backup", "copy.db") == 0
    return cli


def data(cli):
    return json.loads(cli.out)["data"]


def names(cli):
    assert cli("job", "list", "-o", "name") == 0
    return cli.out.split()


def test_a_backup_tells_what_it_holds_and_what_it_lacks(ready):
    cli = ready
    assert ".everbell is not in it" in cli.err
    assert cli("backup", "second.db", "--json") == 0
    shown = data(cli)
    assert shown["jobs"] == 1
    assert shown["bytes"] == Path("second.db").stat().st_size
    assert shown["config"].endswith("second.db.toml")
    assert shown["secrets"] is None
    assert not Path("second.db.everbell").exists()


def test_secrets_come_along_only_when_asked_for(ready):
    cli = ready
    assert cli("backup", "full.db", "--with-secrets", "--json") == 0
    assert data(cli)["secrets"].endswith("full.db.everbell")
    for name in ("full.db", "full.db.everbell", "full.db.toml"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    assert Path("full.db.everbell").read_bytes() == Path(".everbell").read_bytes()


@pytest.mark.parametrize("name", ["copy.db", "everbell.db", ".", "none/copy.db"])
def test_nothing_is_overwritten(ready, name):
    assert ready("backup", name) in {2, 6}
    assert "hint:" in ready.err
    assert ready("job", "list") == 0


def test_force_replaces_a_backup(ready):
    cli = ready
    assert cli("job", "create", "later", "--every", "1h", "--", "true") == 0
    assert cli("backup", "copy.db", "--force", "--json") == 0
    assert data(cli)["jobs"] == 2


def test_a_store_in_memory_has_no_backup(cli, monkeypatch):
    monkeypatch.setenv("EVERBELL_DATABASE_URL", "memory:")
    assert cli("backup", "copy.db") == 2
    assert "sqlite:///FILE" in cli.err
    assert cli("backup", "copy.db", "--server", "http://127.0.0.1:1") == 2


def test_restore_brings_back_what_was_and_keeps_what_is(ready):
    cli = ready
    assert cli("job", "create", "later", "--every", "1h", "--", "true") == 0
    assert cli("restore", "copy.db") == 2
    assert "add --yes" in cli.err
    assert cli("restore", "copy.db", "--dry-run") == 0
    assert names(cli) == ["hello", "later"]
    assert cli("restore", "copy.db", "--yes", "--json") == 0
    kept = data(cli)["kept"]
    assert names(cli) == ["hello"]
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
    assert sorted(p.name for p in Path().iterdir() if "restoring" in p.name) == []


def test_restore_says_what_becomes_of_the_slots_since_then(ready, monkeypatch):
    cli, now = ready, SystemClock().now_us()
    monkeypatch.setattr(SystemClock, "now_us", lambda self: now + 60_000_000)
    assert cli("restore", "copy.db", "--dry-run") == 0
    assert "1 job with slots since then" in cli.err
    assert "misfire `latest`" in cli.err
    assert "--hold" in cli.err


def test_a_restored_database_can_start_held(ready):
    cli = ready
    for _ in range(2):
        assert cli("restore", "copy.db", "--yes", "--hold", "--json") == 0
        assert data(cli)["held"] is True
        assert cli("hold", "list", "--json") == 0
        assert [(one["scope"], one["reason"]) for one in data(cli)] == [
            ("all", "restored from a backup")
        ]
        assert cli("backup", "copy.db", "--force") == 0  # the hold is in it now


def test_restore_into_an_empty_directory(ready, monkeypatch, tmp_path):
    cli = ready
    assert cli("backup", "full.db", "--with-secrets") == 0
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy("full.db.toml", fresh / "everbell.toml")
    monkeypatch.chdir(fresh)
    assert cli("restore", "../full.db", "--yes") != 0
    assert "--with-secrets" in cli.err
    assert cli("restore", "../full.db", "--yes", "--with-secrets") == 0, cli.err
    assert names(cli) == ["hello"]
    assert stat.S_IMODE(Path(".everbell").stat().st_mode) == 0o600


def test_a_backup_of_another_installation_is_refused_before_anything_moves(ready, monkeypatch):
    cli = ready
    before = Path("everbell.db").read_bytes()
    assert cli("init", "other") == 0
    assert cli("backup", "-c", "other/everbell.toml", "other.db", "--with-secrets") == 0
    assert cli("restore", "other.db", "--yes") == 2
    assert "another secret key" in cli.err
    assert "--with-secrets" in cli.err
    assert Path("everbell.db").read_bytes() == before
    assert cli("restore", "other.db", "--yes", "--with-secrets") == 0
    assert names(cli) == []
    assert [p for p in Path().iterdir() if p.name.startswith(".everbell.before-restore")]


@pytest.mark.parametrize("what", ["missing", "torn"])
def test_a_backup_that_cannot_be_used_changes_nothing(ready, what):
    cli = ready
    if what == "torn":
        Path("bad.db").write_bytes(Path("copy.db").read_bytes()[:5000])
    assert cli("restore", "bad.db", "--yes") in {1, 5}
    assert "error:" in cli.err
    assert names(cli) == ["hello"]


def test_a_damaged_database_is_replaced_too(ready):
    cli = ready
    Path("everbell.db").write_bytes(b"damaged" * 1000)
    assert cli("job", "list") != 0
    assert cli("restore", "copy.db", "--yes") == 0
    assert names(cli) == ["hello"]

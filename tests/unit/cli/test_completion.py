"""Scripts for shells, and the names that they offer: quick, and silent on any trouble."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from everbell.cli.main import run


@pytest.fixture
def ready(cli):
    assert cli("init") == 0
    assert cli("project", "create", "ops") == 0
    for name in ("nightly-report", "nightly-backup", "it's odd"):
        assert cli("job", "create", name, "-p", "ops", "--every", "1h", "--", "true") == 0
    return cli


def offered(capsys, monkeypatch, *words):
    """Return what bash would be offered for the last of the words."""
    capsys.readouterr()
    monkeypatch.setenv("_EVERBELL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["everbell", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        run([])
    out, err = capsys.readouterr()
    assert err == ""
    return [line.partition(",")[2] for line in out.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(cli, shell):
    assert cli("completion", shell) == 0
    assert "_EVERBELL_COMPLETE" in cli.out
    assert cli("completion", "tcsh") == 2


def test_bash_takes_the_script(cli, tmp_path):
    assert cli("completion", "bash") == 0
    done = subprocess.run(["bash", "-n"], input=cli.out, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("job", "get", "night"), ["nightly-backup", "nightly-report"]),
        (("job", "get", "it"), ["it's odd"]),
        (("job", "get", "zzz"), []),
        (("hold", "job", "nightly-r"), ["nightly-report"]),
        (("hold", "project", "o"), ["ops"]),
        (("project", "get", "o"), ["ops"]),
        (("run", "list", "--job", "nightly-b"), ["nightly-backup"]),
        (("job", "list", "--project", "o"), ["ops"]),
        (("job", "list", "-p", "o"), ["ops"]),
        (("credential", "revoke", "o"), []),
        (("sched",), ["schedule"]),
    ],
)
def test_names_and_commands(ready, capsys, monkeypatch, words, wanted):
    assert offered(capsys, monkeypatch, *words) == wanted


def test_a_configuration_elsewhere_is_followed(ready, capsys, monkeypatch, tmp_path):
    home = tmp_path / "empty"
    home.mkdir()
    monkeypatch.chdir(home)
    assert offered(capsys, monkeypatch, "job", "get", "n") == []
    config = str(tmp_path / "everbell.toml")
    assert len(offered(capsys, monkeypatch, "job", "get", "-c", config, "n")) == 2
    monkeypatch.setenv("EVERBELL_CONFIG", config)
    assert len(offered(capsys, monkeypatch, "job", "get", "n")) == 2
    assert os.listdir(home) == []


@pytest.mark.parametrize("trouble", ["config", "database", "missing", "server"])
def test_trouble_is_silence(ready, capsys, monkeypatch, trouble):
    if trouble == "config":
        Path("everbell.toml").write_text("[[[")
    elif trouble == "database":
        Path("everbell.db").write_text("no database")
    elif trouble == "missing":
        Path("everbell.db").unlink()
    else:
        monkeypatch.setenv("EVERBELL_SERVER", "http://127.0.0.1:1")
    assert offered(capsys, monkeypatch, "job", "get", "n") == []


def test_looking_leaves_nothing_behind_and_is_quick(ready):
    before = sorted(os.listdir())
    words = {"_EVERBELL_COMPLETE": "bash_complete", "COMP_WORDS": "everbell job get n"}
    code = "import sys; from everbell.cli.main import main; main([])\n"
    heavy = "import atexit,sys; atexit.register(lambda: print(sorted({'aiohttp','uvicorn',"
    heavy += "'starlette'} & set(sys.modules)), file=sys.stderr))\n"
    done = subprocess.run(
        [sys.executable, "-c", heavy + code],
        env={**os.environ, **words, "COMP_CWORD": "3"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["plain,nightly-backup", "plain,nightly-report"]
    assert done.stderr.strip() == "[]"
    assert sorted(os.listdir()) == before

"""The error shape in odd cases, and that nothing waits for what will never come."""

import sys
from http.client import BadStatusLine, IncompleteRead

import pytest

from everbell.cli.base import ApiError, show_error
from everbell.cli.client import LocalClient, RemoteClient
from everbell.cli.output import for_terminal
from everbell.config.loader import load_settings
from everbell.config.secrets import Secrets
from everbell.domain.errors import ScheduleError


def printed(capsys, error):
    show_error(error)
    return capsys.readouterr().err.splitlines()


def test_a_long_text_is_cut_around_the_caret(capsys):
    text = "a" * 1500 + "!" + "b" * 1500
    error = ScheduleError("no", text=text, position=1500)
    _, shown, caret = printed(capsys, error)
    assert len(shown) < 120
    assert shown[caret.index("^")] == "!"
    assert shown.strip().startswith("...")
    assert shown.endswith("...")


def test_a_short_text_stays_whole_and_on_one_line(capsys):
    _, shown, caret = printed(capsys, ScheduleError("no", text="*\t* \x1b[31m\nx", position=2))
    assert shown == "  * *  [31m x"
    assert caret == "    ^"


def test_the_hint_of_a_missing_thing_names_the_command(capsys):
    problem = {"detail": "no hold '9'", "hint": "list what there is: GET /holds"}
    assert printed(capsys, ApiError(404, problem)) == [
        "error: no hold '9'",
        "hint: `everbell hold list` shows what is there",
    ]


def test_an_application_that_cannot_be_loaded_is_an_error_not_a_wait(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "everbell.bootstrap", None)
    loaded = load_settings(None, {}, cwd=tmp_path)
    with pytest.raises(ImportError):
        LocalClient(loaded, Secrets(secret_key="k" * 32))


@pytest.mark.parametrize(
    ("error", "why"),
    [(IncompleteRead(b""), "the connection broke off"), (BadStatusLine("x"), "not speak HTTP")],
)
def test_a_broken_answer_is_told_in_words(error, why):
    assert why in RemoteClient("http://127.0.0.1:1", {})._unreachable(error).message


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_none_is_refused_before_it_is_sent(cli, number):
    assert cli("init") == 0
    assert cli("credential", "create", "--expires-in", number) == 2
    assert "number can't be sent" in cli.err


def test_notes_on_cluster_keys_come_with_start_and_config_only(cli, tmp_path):
    (tmp_path / "config.yml").write_text("Bootstrap: true\nRaftAddress: 127.0.0.1:7071\n")
    assert cli("config", "check") == 0
    assert cli.err.count("needs a cluster") == 2
    assert cli("credential", "init", "--generate") == 0
    assert "a cluster" not in cli.err
    assert cli("job", "list") == 0
    assert "a cluster" not in cli.err


def test_a_bad_zone_is_pointed_at_not_the_schedule(cli):
    assert cli("schedule", "check", "0 2 * * *", "--tz", "Berlin") == 2
    assert cli.err.splitlines()[1] == "  Berlin"
    assert "did you mean Europe/Berlin?" in cli.err


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m\tok\r\n", "\x1b[1;31mred\x1b[0m\tok\r\n"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\x00b\x9b31m\x7f", "a\\x00b\\x9b31m\\x7f"),
        ("cut \x1b", "cut \\x1b"),
        ("grüße 🔔\n", "grüße 🔔\n"),
    ],
)
def test_output_can_colour_a_terminal_but_not_steer_it(raw, shown):
    assert for_terminal(raw) == shown


@pytest.mark.parametrize("words", [("init",), ("config", "init")])
def test_a_directory_that_cannot_be_made_is_told_with_a_way_on(cli, tmp_path, words):
    (tmp_path / "file").write_text("")
    assert cli(*words, "file/inside") == 2
    assert "can't make the directory file/inside: " in cli.err
    assert "hint: " in cli.err

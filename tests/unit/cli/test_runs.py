"""What is told of runs: which one is meant, what one waits for, and in which words."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from everbell.cli import run as run_module
from everbell.cli.client import ApiClient
from everbell.cli.follow import follow_run
from everbell.cli.output import fit_columns
from everbell.cli.words import run_in_words, what_it_waits_for


def at(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def run(number, state="queued", due_s=0.0, **more):
    base = {
        "id": f"1-{number}",
        "job_id": 1,
        "project_id": 1,
        "job": "x",
        "slot": at(due_s),
        "due_at": at(due_s),
        "state": state,
        "trigger": "schedule",
        "attempt": 1,
        "started_at": None,
        "reason": "",
        "error": "",
        "count": 1,
    }
    return {**base, **more}


JOB = {"id": 1, "enabled": True, "parked": "", "overlap": "skip", "max_running": 1}
UP = {"name": "n", "state": "up"}


class Server(ApiClient):
    """Answers from dictionaries, as the API does."""

    def __init__(self, runs, *, holds=(), nodes=(UP,), job=JOB, output=b""):
        self.runs, self.holds, self.nodes, self.job = list(runs), holds, nodes, job
        self.output = output
        self.asked = []

    def exchange(self, method, path, body, query):
        self.asked.append(path)
        if path.endswith("/output"):
            return 200, self.output
        found = {"/holds": self.holds, "/nodes": self.nodes, "/jobs/1": self.job}.get(path)
        if path == "/runs":
            states = (query.get("state") or "").split(",")
            found = [one for one in self.runs if states == [""] or one["state"] in states]
            found = found[: query["limit"]]
        elif found is None:
            found = next(one for one in self.runs if path == f"/runs/{one['id']}")
        return 200, json.dumps({"data": found}).encode()

    def chunks(self, path, query, left=None):
        yield b"event: end\ndata: " + json.dumps(run(9, "succeeded")).encode() + b"\n\n"

    def close(self):
        pass


@pytest.fixture
def at_server(cli, monkeypatch):
    def use(server):
        monkeypatch.setattr(run_module, "connect", lambda _: server)
        return cli

    return use


def test_logs_of_a_job_are_those_of_the_newest_run_that_started(at_server):
    ended = run(2, "succeeded", -60, started_at=at(-60))
    server = Server([run(3, "claimed", 5), run(4, "skipped", -20), ended], output=b"hello\n")
    cli = at_server(server)
    assert cli("run", "logs", "--job", "1") == 0
    assert cli.out == "hello\n"
    assert server.asked[-1] == "/runs/1-2/output"


def test_a_run_that_was_claimed_and_is_due_is_at_work(at_server):
    server = Server([run(3, "claimed", -0.5), run(2, "succeeded", -60)], output=b"x")
    assert at_server(server)("run", "logs", "--job", "1") == 0
    assert server.asked[-1] == "/runs/1-3/output"


def test_logs_of_a_run_that_waits_say_so(at_server):
    cli = at_server(Server([run(3, "claimed", 60)]))
    for args in (["--job", "1"], ["1-3"]):
        assert cli("run", "logs", *args) == 0
        assert cli.out == ""
        assert "run 1-3 has not started: it is due at " in cli.err
    cli = at_server(Server([run(3, "succeeded", -60, started_at=at(-60))]))
    assert cli("run", "logs", "1-3") == 0
    assert cli.err == ""


def test_show_takes_a_job(at_server):
    cli = at_server(Server([run(3, "failed", -1)]))
    assert cli("run", "show", "--job", "1", "--json") == 0
    assert json.loads(cli.out)["data"]["id"] == "1-3"
    assert cli("run", "show") == 2


HELD = {"id": 7, "scope": "job", "target_id": 1, "reason": "move", "until": None}


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Server([run(1)], holds=[HELD]), "its job is held (move), until somebody releases it"),
        (Server([run(1)], holds=[{**HELD, "scope": "all", "target_id": 0}]), "every job is held"),
        (Server([run(1)], holds=[{**HELD, "until": "2030"}]), "until 2030"),
        (Server([run(1)], job={**JOB, "enabled": False}), "everbell job enable 1"),
        (Server([run(1)], job={**JOB, "parked": "3 failures"}), "parked (3 failures)"),
        (Server([run(1), run(2, "running")]), "as many runs at work as it may (1-2)"),
        (Server([run(1)], nodes=[]), "no node is up"),
        (
            Server([run(1)], nodes=[{**UP, "state": "throttled", "reason": "CPU 99 %"}]),
            "no node takes new work (n: CPU 99 %)",
        ),
        (Server([run(1, due_s=86_400)]), "it is due at"),
    ],
)
def test_what_a_run_waits_for(server, words):
    assert words in what_it_waits_for(server, server.runs[0])


def test_a_run_that_starts_at_once_waits_for_nothing():
    assert what_it_waits_for(Server([run(1)]), run(1)) == ""
    assert what_it_waits_for(Server([], holds=[HELD]), run(1, "running", -1)) == ""
    taken = Server([run(1, "running")])
    assert what_it_waits_for(taken, run(1)) == ""
    other = {**HELD, "target_id": 2}
    assert what_it_waits_for(Server([run(1)], holds=[other]), run(1)) == ""


def test_following_a_held_run_says_once_that_it_waits(capsys):
    assert follow_run(Server([run(1)], holds=[HELD]), "1-1") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("run 1-1 waits: its job is held (move)") == 1


def test_triggers_and_reasons_in_words():
    told = run_in_words(run(1, "skipped", trigger="catch_up", reason="misfire", count=12))
    assert (told["trigger"], told["error"]) == ("catch-up", "12 slots: too late (misfire policy)")
    assert run_in_words(run(1, trigger="manual", reason="for Ana"))["error"] == "for Ana"
    assert run_in_words(run(1, error="exit 1", reason="x"))["error"] == "exit 1"


RUNS = ["ID", "JOB", "SLOT", "TRIGGER", "STATE", "CODE", "STARTED", "MS", "WHY"]
LINE = [
    "12-1763712000000000",
    "a-job-with-a-rather-long-name-of-its-own",
    "2026-11-21T08:57:13Z",
    "schedule",
    "timed_out",
    "137",
    "2026-11-21T08:57:13Z",
    "1234.5",
    "another run was at work (overlap policy), and much more to say about that",
]


@pytest.mark.parametrize("room", [80, 100, 120, 160])
def test_a_narrow_terminal_cuts_words_then_names_and_nothing_else(room):
    table, widths = fit_columns([RUNS, LINE], room)
    assert sum(widths) + 2 * (len(widths) - 1) <= max(room, 102)
    cut = {
        h for h, text, width in zip(table[0], table[1], widths, strict=True) if len(text) > width
    }
    assert cut <= {"JOB", "WHY"}
    assert {"ID", "SLOT", "TRIGGER", "STATE", "WHY"} <= set(table[0])
    if room == 160:
        assert table[0] == RUNS
        assert cut == {"WHY"}


def test_a_wide_terminal_leaves_all_as_it_is():
    table, widths = fit_columns([RUNS, LINE], 300)
    assert table == [RUNS, LINE]
    assert widths == [max(len(a), len(b)) for a, b in zip(RUNS, LINE, strict=True)]

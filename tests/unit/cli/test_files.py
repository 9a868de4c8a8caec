"""`import crontab`, `export` and `apply`, on the store of a directory."""

import io
import json
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from everbell.domain.crontab import Source, parse_crontab
from everbell.services.crontabs import crontab as as_crontab
from everbell.services.imports import Choices, job_bodies
from everbell.services.toml import jobs_file

MINE = """\
MAILTO=ops@example.com
PATH=/usr/bin:/bin
# Every night
30 2 * * * backup --all > /dev/null
@reboot warm-up
0 9 * * 1-5 mail -s report ops%Good morning%100\\%
"""
FILE = """\
owner = "shop"

[[jobs]]
name = "nightly"
schedule = "0 2 * * *"
action = { kind = "command", argv = ["true"] }

[[jobs]]
name = "hourly"
schedule = "@hourly"
action = { kind = "command", argv = ["true"] }
"""


@pytest.fixture
def here(cli, tmp_path):
    assert cli("init") == 0
    (tmp_path / "mine").write_text(MINE)
    (tmp_path / "jobs.toml").write_text(FILE)
    return tmp_path


def jobs(cli):
    assert cli("job", "list", "--json") == 0
    return {job["name"]: job for job in json.loads(cli.out)["data"]}


def test_a_crontab_is_imported_once(cli, here):
    args = ("import", "crontab", "mine", "--tz", "Europe/Stockholm", "-o", "table")
    assert cli(*args, "--dry-run") == 0
    assert "2 to add, 0 to change, 0 to remove, 0 unchanged" in cli.out
    assert "warning: mine:5: @reboot is not imported" in cli.err
    assert "note: cron mails output to ops@example.com" in cli.err
    assert jobs(cli) == {}
    assert cli(*args) == 0
    stored = jobs(cli)
    assert set(stored) == {"backup-all", "mail-s-report-ops"}
    backup = stored["backup-all"]
    assert (backup["schedule"], backup["timezone"]) == ("30 2 * * *", "Europe/Stockholm")
    assert (backup["description"], backup["owner"]) == ("Every night", "crontab:mine")
    assert backup["action"]["argv"] == ["/bin/sh", "-c", "backup --all > /dev/null"]
    assert backup["action"]["env"] == {"MAILTO": "ops@example.com", "PATH": "/usr/bin:/bin"}
    assert cli(*args) == 0
    assert "0 added, 0 changed, 0 removed, 2 unchanged" in cli.out
    assert jobs(cli) == stored


def test_an_edited_time_changes_its_job_and_a_line_that_is_gone_is_pruned_when_told(cli, here):
    args = ("import", "crontab", "mine", "--no-notes", "-o", "table")
    cli(*args)
    (here / "mine").write_text(
        "PATH=/usr/bin:/bin\n# Every night\n30 4 * * * backup --all > /dev/null\n"
    )
    assert cli(*args) == 0
    assert "0 added, 1 changed, 0 removed, 0 unchanged" in cli.out
    assert cli(*args, "--prune", "--dry-run") == 0
    assert "- default/mail-s-report-ops" in cli.out
    assert cli(*args, "--prune") == 0
    assert set(jobs(cli)) == {"backup-all"}


def test_standard_input_of_a_command_arrives_as_cron_gives_it():
    (body,) = job_bodies(
        parse_crontab(
            "SHELL=/bin/sh\n0 9 * * * printf '\\%s.' 'a b'; cat%x%100\\%\n", Source(name="c")
        ),
        Choices(),
    )
    done = subprocess.run(body["action"]["argv"], capture_output=True, text=True)
    assert done.stdout == "a b.x\n100%\n"


def test_bad_lines_stop_the_import_unless_they_are_to_be_skipped(cli, here):
    (here / "bad").write_text("0 1 * * * good\n0 24 * * * bad\n")
    assert cli("import", "crontab", "bad", "--no-notes") == 2
    lines = cli.err.splitlines()
    assert lines[0].startswith("error: bad:2: ")
    assert lines[1:3] == ["  0 24 * * * bad", "    ^"]
    assert "add --skip-bad" in lines[-1]
    assert jobs(cli) == {}
    assert cli("import", "crontab", "bad", "--skip-bad") == 0
    assert set(jobs(cli)) == {"good"}


def test_a_directory_is_read_as_etc_cron_d(cli, here):
    folder = here / "cron.d"
    folder.mkdir()
    (folder / "tool").write_text("0 1 * * * nobody /usr/bin/clean\n")
    (folder / "other").write_text("0 1 * * * nobody /usr/bin/clean\n")
    (folder / "tool.dpkg-old").write_text("0 1 * * * nobody gone\n")
    assert cli("import", "crontab", "cron.d", "--as-node", "--overlap", "allow", "-o", "table") == 0
    assert "note: tool.dpkg-old is left out" in cli.err
    stored = jobs(cli)
    assert set(stored) == {"tool-clean", "other-clean"}
    assert stored["tool-clean"]["action"]["user"] is None
    assert stored["tool-clean"]["overlap"] == "allow"
    # A file of such a directory is a system crontab too, with names as before.
    assert cli("import", "crontab", "cron.d/tool", "--as-node", "--dry-run") == 6
    assert "belongs to 'crontab:cron.d'" in cli.err


def test_a_user_that_is_not_here_is_told_with_its_line(cli, here):
    (here / "s").write_text("# x\n0 1 * * * no-such-user-1 tool\n")
    assert cli("import", "crontab", "s", "--system") == 2
    assert "s:2: " in cli.err
    assert "no user 'no-such-user-1'" in cli.err
    assert jobs(cli) == {}


@pytest.mark.parametrize("text", ["", "# nothing\n", "@reboot x\n"])
def test_a_crontab_without_lines_is_refused(cli, here, text):
    (here / "empty").write_text(text)
    assert cli("import", "crontab", "empty") == 2
    assert "holds no lines to import" in cli.err


def test_a_missing_file_is_told(cli, here):
    for args in (("import", "crontab", "none"), ("apply", "-f", "none.toml")):
        assert cli(*args) == 2
        assert "error: can't read none" in cli.err


# --- apply and export ----------------------------------------------------------------------------


def test_apply_plans_does_and_is_done(cli, here):
    args = ("apply", "-f", "jobs.toml", "-o", "table")
    assert cli(*args, "--plan") == 8
    assert "+ default/nightly" in cli.out
    assert "2 to add, 0 to change, 0 to remove, 0 unchanged" in cli.out
    assert jobs(cli) == {}
    assert cli(*args) == 0
    assert "2 added" in cli.out
    assert cli(*args, "--plan") == 0
    assert cli.out == "0 to add, 0 to change, 0 to remove, 2 unchanged\n"


def test_a_plan_shows_fields_fire_times_and_load(cli, here):
    cli("apply", "-f", "jobs.toml")
    edited = FILE.replace("0 2 * * *", "CRON_TZ=Asia/Tokyo 0 4 * * *").split("[[jobs]]")
    (here / "jobs.toml").write_text("[[jobs]]".join(edited[:2]))
    assert cli("apply", "-f", "jobs.toml", "--plan", "--days", "3", "-o", "table") == 8
    assert '    schedule: "0 2 * * *" -> "CRON_TZ=Asia/Tokyo 0 4 * * *"' in cli.out
    assert "3 go, 3 come, 0 stay" in cli.out
    assert "- default/hourly" in cli.out
    assert "72 go, 0 come, 0 stay" in cli.out
    assert "1.04 -> 0.04 starts an hour, busiest minute" in cli.out
    assert cli("apply", "-f", "jobs.toml", "--no-prune", "--json") == 0
    assert json.loads(cli.out)["data"]["removed"] == 0
    assert set(jobs(cli)) == {"nightly", "hourly"}


@pytest.mark.parametrize("form", ["toml", "yaml", "json"])
def test_what_is_exported_applies_to_nothing(cli, here, form, monkeypatch):
    cli("import", "crontab", "mine")
    cli("apply", "-f", "jobs.toml")
    data = '{"a": "\\u007f\\n\\"", "b": [1.5, true, {}]}'
    when = ("--every", "10m", "--start-at", "2030-01-01T00:00:00Z", "--disabled")
    cli("job", "create", "rich", *when, "--data", data, "--", "printf", "%s\t\\", "'")
    stored = jobs(cli)
    assert len(stored) == 5
    assert cli("export", "--format", form) == 0
    (here / f"all.{form}").write_text(cli.out)
    assert cli("apply", "-f", f"all.{form}", "--plan") == 0, cli.out
    assert cli("export", "--owner", "shop", "--project", "default", "--format", form) == 0
    text = cli.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli("apply", "-f", "-", "--plan") == 0
    assert jobs(cli) == stored


def test_a_fresh_store_gets_what_was_exported(cli, here, tmp_path, monkeypatch):
    cli("apply", "-f", "jobs.toml")
    cli("export")
    other = tmp_path / "other"
    other.mkdir()
    (other / "all.toml").write_text(cli.out)
    monkeypatch.chdir(other)
    cli("init")
    assert cli("apply", "-f", "all.toml") == 0
    assert set(jobs(cli)) == {"nightly", "hourly"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.toml", "jobs = [", "not TOML"),
        ("a.yaml", "jobs: [\n - *x", "a.yaml, line 2: not YAML"),
        ("a.json", "{", "not JSON"),
        ("a.txt", "x", "can't tell the form"),
        ("a.toml", "job = []", "did you mean `jobs`?"),
        ("a.yaml", "jobs: 3", "`jobs` is no list"),
        ("a.yaml", "5", "holds no jobs"),
        ("a.yaml", "owner: 3\njobs: []", "`owner` is no text"),
        ("a.yaml", "jobs:\n- name: x", "a.yaml: job `x`"),
        ("a.yaml", "jobs:\n- 3", "a.yaml: job number 1"),
        ("a.toml", FILE.replace("0 2 *", "0 24 *"), "a.toml: job `nightly`"),
    ],
)
def test_a_bad_file_is_told_with_its_place(cli, here, name, text, told):
    (here / name).write_text(text)
    assert cli("apply", "-f", name) == 2
    assert told in cli.err
    assert jobs(cli) == {}


def test_prune_needs_an_owner(cli, here):
    (here / "a.yaml").write_text("jobs: []")
    assert cli("apply", "-f", "a.yaml", "--prune") == 2
    assert "--prune needs an owner" in cli.err


def test_export_as_crontab_names_what_cron_can_not_do(cli, here):
    cli("import", "crontab", "mine", "--tz", "Europe/Stockholm")
    cli("job", "create", "odd", "--every", "7m", "--", "true")
    assert cli("export", "--crontab") == 0
    assert "# not here: odd: cron has no words for `@every 7m`" in cli.out
    assert "CRON_TZ=Europe/Stockholm" in cli.out
    again = parse_crontab(cli.out, Source(name="again"))
    assert again.errors == ()
    assert [one.schedule for one in again.entries] == ["30 2 * * *", "0 9 * * 1-5"]
    assert again.entries[1].stdin == "Good morning\n100%\n"
    if shutil.which("crontab"):
        done = subprocess.run(["crontab", "-n", "-"], input=cli.out, text=True, capture_output=True)
        assert "error" not in done.stderr


LINES = st.text(alphabet=st.sampled_from("ab %\\'\"$;&|>-"), min_size=1, max_size=30)


@given(LINES)
@example("%a %")  # the blank before the last line end
@example("%%%")  # an empty line before it
@example("%a% %%")
def test_a_command_survives_import_and_export(command):
    first = parse_crontab(f"5 1 * * * x{command}\n", Source(name="c"))
    text = as_crontab(job_bodies(first, Choices()))
    second = parse_crontab(text, Source(name="c"))
    told = [(one.command, one.stdin) for one in first.entries]
    assert [(one.command, one.stdin) for one in second.entries] == told


JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), JSON, max_size=5)
)
def test_toml_that_is_written_reads_as_it_was(job):
    text = jobs_file({"owner": "x"}, [job, job])
    assert tomllib.loads(text) == {"owner": "x", "jobs": [job, job]}


def test_toml_has_no_null_and_says_which_job():
    with pytest.raises(ValueError, match="job `a`: TOML has no null"):
        jobs_file({}, [{"name": "a", "data": {"b": None}}])
    assert yaml.safe_load("a: null") == {"a": None}

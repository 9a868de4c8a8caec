"""Crontabs as cron reads them: entries, settings, refusals with a position, differences."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.domain.crontab import Source, parse_crontab
from everbell.domain.crontab.names import MAX_SLUG, slug
from everbell.domain.crontab.parse import split_percent

# As Debian's packages write them.
DEBIAN = """\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

# Example of job definition:
# .---------------- minute (0 - 59)
# |  .------------- hour (0 - 23)
# *  *  *  *  * user-name command to be executed
17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
#
"""


def user(text, **source):
    return parse_crontab(text, Source(name="crontab", **source))


def system(text, **source):
    return user(text, system=True, **source)


def codes(crontab, level=None):
    return [f.code for f in crontab.findings if f.line and level in (None, f.level)]


def only(crontab):
    assert crontab.errors == (), crontab.errors
    (entry,) = crontab.entries
    return entry


def test_the_crontab_of_debian():
    read = system(DEBIAN)
    assert read.errors == ()
    hourly, daily = read.entries
    assert hourly.name == "run-parts-report-etc-cron.hourly"
    assert (hourly.schedule, hourly.user, hourly.shell) == ("17 * * * *", "root", "/bin/sh")
    assert hourly.command == "cd / && run-parts --report /etc/cron.hourly"
    assert hourly.env["PATH"].startswith("/usr/local/sbin:")
    assert hourly.description == ""
    assert daily.name == "run-parts-report-etc-cron.daily"
    assert codes(read) == ["run_parts", "run_parts", "anacron"]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MAILTO=ops", "MAILTO", "ops"),
        ("  FOO  =  bar baz  ", "FOO", "bar baz"),
        ('FOO="  kept  "', "FOO", "  kept  "),
        ("FOO='it is'", "FOO", "it is"),
        ('"FOO"=bar', "FOO", "bar"),
        ("FOO=", "FOO", ""),
        ("FOO=a=b # no comment", "FOO", "a=b # no comment"),
        ("PATH=$HOME/bin", "PATH", "$HOME/bin"),
    ],
)
def test_settings(line, name, value):
    assert only(user(f"{line}\n0 1 * * * tool\n")).env == {name: value}


def test_settings_hold_for_the_lines_below_them():
    first, second = user("A=1\n0 1 * * * one\nA=2\nSHELL=/bin/bash\n0 2 * * * two\n").entries
    assert (first.env, first.shell) == ({"A": "1"}, "/bin/sh")
    assert (second.env, second.shell) == ({"A": "2", "SHELL": "/bin/bash"}, "/bin/bash")


def test_the_name_of_the_user_can_not_be_set():
    read = user("LOGNAME=root\nUSER=root\n0 1 * * * id\n")
    assert only(read).env == {}
    assert codes(read) == ["fixed_variable", "fixed_variable"]


def test_a_setting_in_front_of_a_command_is_the_shells():
    assert only(user("0 1 * * * FOO=bar tool -q\n")).command == "FOO=bar tool -q"
    assert only(user("@daily FOO=bar tool -q\n")).command == "FOO=bar tool -q"


def test_zones():
    read = user("CRON_TZ=Asia/Tokyo\n0 1 * * * a\nTZ=America/Lima\n0 2 * * * b\n",
                timezone="Europe/Stockholm")  # fmt: skip
    assert [(one.timezone, one.env) for one in read.entries] == [
        ("Asia/Tokyo", {}), ("Asia/Tokyo", {"TZ": "America/Lima"}),
    ]  # fmt: skip
    assert codes(read) == ["cron_tz", "tz"]
    assert {f.code for f in read.findings if not f.line} >= {"zone", "clock_changes", "mail"}


def test_random_delay_is_jitter():
    assert only(user("RANDOM_DELAY=45\n0 1 * * * tool\n")).jitter_s == 2700.0


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("date +\\%F", "date +%F", None),
        ("mail ops%Subject: x%%body", "mail ops", "Subject: x\n\nbody\n"),
        ("cat%a\\%b%", "cat", "a%b\n"),
        ("cat%", "cat", "\n"),
        ("echo \\\\%x", "echo \\\\", "x\n"),
        ("echo a\\b", "echo a\\b", None),
    ],
)
def test_percent(text, command, stdin):
    assert split_percent(text) == (command, stdin)


def test_a_percent_sign_reaches_the_shell_as_cron_would_give_it():
    command, stdin = split_percent("printf '\\%s.' one; cat%two%three")
    done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, text=True)
    assert done.stdout == "one.two\nthree\n"


def test_words_for_times_are_kept_and_reboot_is_told():
    read = user("@daily backup\n@reboot warm-up\n@hourly tick\n")
    assert [one.schedule for one in read.entries] == ["@daily", "@hourly"]
    assert codes(read, "warning") == ["reboot"]
    assert read.errors == ()


@pytest.mark.parametrize(
    ("line", "code", "column", "near"),
    [
        ("61 * * * * tool", "bad_schedule", 1, "61"),
        ("0 \t24 * * * tool", "bad_schedule", 4, "24"),
        ("0 0 30 2 * tool", "bad_schedule", 5, "30 2"),
        ("0 22-2 * * * tool", "bad_schedule", 6, "2 "),
        ("@dayly tool", "bad_schedule", 1, "@dayly"),
        ("* * * *", "bad_line", 1, "*"),
        ("hello", "bad_line", 1, "hello"),
        ("0 1 * * *", "no_command", 10, ""),
        ("0 0 1 * * * tool", "six_fields", 11, "* tool"),
        ("0 1 * * * root tool", "system_crontab", 11, "root"),
        ("1A=b", "bad_variable", 1, "1A"),
        ("CRON_TZ=Mars/Base", "bad_zone", 9, "Mars"),
        ("RANDOM_DELAY=soon", "bad_delay", 14, "soon"),
        ("0 1 * * * to\x07ol", "control_character", 13, " "),
    ],
)
def test_a_bad_line_is_told_with_its_position(line, code, column, near):
    read = user(f"0 1 * * * good\n{line}\n0 2 * * * better\n")
    (found,) = read.errors
    assert (found.line, found.code, found.column) == (2, code, column)
    assert found.text[found.column - 1 :].startswith(near)
    assert found.message
    assert [one.command for one in read.entries] == ["good", "better"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0 1 * * *", "no_user"),
        ("0 1 * * * root", "no_command"),
        ("0 0 1 * * * root tool", "bad_user"),
        ("0 1 * * * /usr/bin/tool -q", "bad_user"),
    ],
)
def test_a_bad_line_of_a_system_crontab(line, code):
    (found,) = system(line + "\n").errors
    assert found.code == code
    assert found.hint


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0 0 13 * 5 tool", "schedule"),
        ("0 0 */2 * 5 tool", "schedule"),
        ("H 3 * * * tool", "hashed"),
        ("0~30 3 * * * tool", "hashed"),
        ("0 3 L * * tool", "extension"),
        ("0 3 * * 1#2 tool", "extension"),
        ("-0 3 * * * tool", "nosyslog"),
        ("0 3 * * * -q tool", "bsd_flags"),
        ("0 3 * * * tool &", "background"),
        ("0 3 * * * cat%x", "stdin"),
        ("0 3 * * * [ -d /run/systemd/system ] || tool", "systemd"),
        ("0 3 * * * if [ ! -d /run/systemd/system ]; then tool; fi", "systemd"),
        ("0 3 * * * sudo tool", "sudo"),
        ("0 3 * * * tool\r", "carriage_return"),
    ],
)
def test_what_cron_would_do_otherwise_is_told(line, code):
    read = user(line + "\n")
    assert code in codes(read)
    assert "tool" in only(read).command or code == "stdin"
    assert "\r" not in only(read).command


@pytest.mark.parametrize("line", ["0 3 * * * a && b", "0 3 * * * tool 2>&1", "0 3 * * * a &> b"])
def test_not_every_ampersand_is_a_background_job(line):
    assert codes(user(line + "\n")) == []


def test_a_last_line_without_an_end_is_told():
    assert codes(user("0 3 * * * tool")) == ["no_line_end"]
    assert codes(user("0 3 * * * tool\n# end")) == []


@pytest.mark.parametrize(
    ("comments", "words"),
    [
        ("# Backup of the shop\n", "Backup of the shop"),
        ("# One\n# two\n", "One\ntwo"),
        ("# About the file\n\n# About the job\n", "About the job"),
        ("# About the file\n#\n# About the job\n", "About the job"),
        ("# Kept\n# 0 4 * * * root switched-off\n", "Kept"),
        ("# Kept\n#\n# m h dom mon dow command\n", "Kept"),
        ("# 30 days are kept\n", "30 days are kept"),
        ("# Not for the job\nA=b\n", ""),
        ("# Not for the job\n0 1 * * * other\n", ""),
    ],
)
def test_comments_right_above_describe_a_job(comments, words):
    assert user(f"{comments}0 3 * * * tool\n").entries[-1].description == words


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/backup --all", "backup-all"),
        ("test -x /usr/sbin/tool && /usr/sbin/tool -q", "tool-q"),
        ("[ -x /usr/bin/tool ] && if [ ! -d /x ]; then /usr/bin/tool; fi", "tool"),
        ("command -v sa1 > /dev/null && sa1 1 1", "sa1-1-1"),
        ("A=1 B=2 nice -n 19 ionice -c 3 /opt/tool >/dev/null 2>&1", "tool"),
        ("cd /srv/app && ./manage.py tick", "manage.py-tick"),
        ("echo 'a; b | c'", "echo-a-b-c"),
    ],
)
def test_names_come_from_the_command(command, name):
    assert slug(command) == name


def test_names_are_short_unique_and_stable():
    lines = ["tool", "tool", "tool > a", "tool > b", "tool 2", "x" * 80, "x" * 81, ";;"]
    text = "".join(f"0 3 * * * {line}\n" for line in lines)
    names = [one.name for one in user(text).entries]
    assert len(set(names)) == len(lines)
    assert names[:2] == ["tool", "tool-2"]
    assert all(len(name) <= MAX_SLUG + 7 for name in names)
    # Another time, and a line that is added behind, leave the names as they are.
    moved = text.replace("0 3", "5 4") + "0 9 * * * tool > c\n"
    assert [one.name for one in user(moved).entries][: len(names)] == names


def test_clock_changes_are_told_that_are_still_to_come():
    text = "30 2 * * * tool\n"
    zone = "Europe/Stockholm"
    now_us = 1_800_000_000_000_000  # January 2027
    told = [one.message for one in user(text, timezone=zone, now_us=now_us).findings if one.line]
    assert any("2027-03-28" in one for one in told), told
    assert not any("2025" in one or "2026" in one for one in told), told


def test_a_prefix_is_not_repeated():
    named = [
        one.name for one in user("0 1 * * * awstats-up\n0 2 * * * b\n", prefix="awstats").entries
    ]
    assert named == ["awstats-up", "awstats-b"]


@given(
    st.text(alphabet=st.sampled_from("*/0123456789 \t\n#%\\=@-abcTZH~LW&|'\"\r\x00é"), max_size=300)
)
def test_no_text_breaks_the_reader(text):
    for system_ in (False, True):
        read = user(text, system=system_)
        assert len({one.name for one in read.entries}) == len(read.entries)
        lines = text.split("\n")
        for found in read.findings:
            assert 0 <= found.line <= len(lines)
            assert found.column <= len(found.text) + 1

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from everbell.config.schema import Execution
from everbell.domain.errors import RefusedError, ValidationError
from everbell.domain.job import CommandAction, ScriptAction
from everbell.executors import process, surroundings
from everbell.executors import script as script_module
from everbell.executors.command import CommandExecutor
from everbell.executors.script import ScriptExecutor
from everbell.testing.executor_contract import ListSink, assignment, settled

STUBBORN = """
trap '' TERM
(trap '' TERM; while :; do sleep 60; done) &
echo "child $!"
echo ready
while :; do sleep 60; done
"""
"""A leader and a grandchild that both ignore TERM."""


async def go(executor, action, sink=None, **more):
    return await executor.run(assignment(action, **more), asyncio.Event(), sink or ListSink())


def group_members(marker):
    """Living processes whose environment carries the marker."""
    found = []
    for candidate in psutil.process_iter():
        try:
            if candidate.status() != psutil.STATUS_ZOMBIE:
                if candidate.environ().get("MARKER") == marker:
                    found.append(candidate.pid)
        except psutil.Error:
            continue
    return found


async def gone(marker):
    await settled(lambda: not group_members(marker))


@pytest.fixture
def marker(request):
    return f"{request.node.name}-{os.getpid()}"


# --- what the process is given ------------------------------------------------------------------


async def test_environment_is_an_allow_list(command, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_NODE", "x")
    action = CommandAction(argv=("env",), env={"MINE": "1", "EVERBELL_TOKEN": "forged"})
    sink = ListSink()
    await go(command, action, sink)
    env = dict(line.split("=", 1) for line in sink.text().splitlines())
    assert "SECRET_OF_THE_NODE" not in env
    assert env["MINE"] == "1"
    assert env["EVERBELL_TOKEN"] == "42"
    assert env["EVERBELL_JOB"] == "backup"
    assert env["EVERBELL_PROJECT"] == "ops"
    assert env["EVERBELL_JOB_UUID"].endswith("17")
    assert set(env) <= {
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "MINE"),
        *("EVERBELL_RUN_ID", "EVERBELL_JOB", "EVERBELL_JOB_UUID", "EVERBELL_PROJECT"),
        *("EVERBELL_SLOT", "EVERBELL_ATTEMPT", "EVERBELL_TOKEN"),
    }


async def test_arguments_meet_no_shell(command):
    sink = ListSink()
    await go(command, CommandAction(argv=("echo", "$HOME", "; ls", "`id`", "*", "")), sink)
    assert sink.text() == "$HOME ; ls `id` * \n"


async def test_data_comes_on_standard_input(command):
    sink = ListSink()
    data = {"text": "é" * 200_000, "n": None}
    await go(command, CommandAction(argv=("cat",)), sink, data=data)
    assert msgspec.json.decode(sink.text()) == data


async def test_data_that_is_not_read_hurts_nobody(command):
    outcome = await go(command, CommandAction(argv=("true",)), data="x" * 500_000)
    assert outcome.state == "succeeded"


async def test_without_data_standard_input_is_empty(command):
    sink = ListSink()
    await go(command, CommandAction(argv=("readlink", "/proc/self/fd/0")), sink)
    assert sink.text() == "/dev/null\n"


async def test_no_descriptor_is_inherited(command):
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    sink = ListSink()
    try:
        await go(command, CommandAction(argv=("sh", "-c", f"ls -l /proc/$$/fd/{fd} 2>&1")), sink)
    finally:
        os.close(fd)
    assert "No such file" in sink.text()


async def test_own_session_and_directory(command, tmp_path):
    sink = ListSink()
    action = CommandAction(argv=("sh", "-c", "pwd; ps -o sid= -p $$; echo $$"), cwd=str(tmp_path))
    await go(command, action, sink)
    where, session, pid = sink.text().split()
    assert where == str(tmp_path)
    assert session == pid


async def test_streams_are_kept_apart(command):
    sink = ListSink()
    await go(command, CommandAction(argv=("sh", "-c", "printf 'a\\0'; printf '\\377' >&2")), sink)
    assert sorted(sink.chunks) == [("err", b"\xff"), ("out", b"a\0")]


async def test_another_user(command):
    if os.geteuid() != 0:
        with pytest.raises(RefusedError) as caught:
            command.check(CommandAction(argv=("true",), user="nobody"))
        assert caught.value.hint
        return
    sink = ListSink()
    action = CommandAction(argv=("sh", "-c", "id -u; id -G; echo $USER"), user="nobody", cwd="/")
    outcome = await go(command, action, sink)
    assert outcome.state == "succeeded", (outcome, sink.chunks)
    assert sink.text().split()[0] != "0"
    assert "0" not in sink.text().split()[1:-1]
    assert sink.text().split()[-1] == "nobody"


async def test_only_root_changes_the_user(monkeypatch):
    monkeypatch.setattr(surroundings.os, "geteuid", lambda: 12345)
    with pytest.raises(RefusedError, match="may not run") as caught:
        surroundings.find_user("root")
    assert "root" in caught.value.hint


# --- how it ends --------------------------------------------------------------------------------


async def test_exit_code(command):
    outcome = await go(command, CommandAction(argv=("sh", "-c", "exit 7")))
    assert (outcome.state, outcome.code, outcome.error) == ("failed", 7, "exit code 7")


async def test_killed_by_a_signal(command):
    outcome = await go(command, CommandAction(argv=("sh", "-c", "kill -KILL $$")))
    assert (outcome.state, outcome.error) == ("failed", "killed by SIGKILL")


@pytest.mark.parametrize("way", ["timeout", "cancel", "task"])
async def test_no_member_that_ignores_term_survives(command, marker, way):
    action = CommandAction(argv=("sh", "-c", STUBBORN), env={"MARKER": marker})
    cancel, sink = asyncio.Event(), ListSink()
    work = assignment(action, timeout_s=2.0 if way == "timeout" else 30)
    running = asyncio.ensure_future(command.run(work, cancel, sink))
    await sink.seen("ready")
    assert len(group_members(marker)) >= 2
    if way == "cancel":
        cancel.set()
    elif way == "task":
        running.cancel()
    ended = await asyncio.gather(running, return_exceptions=True)
    states = {"timeout": "timed_out", "cancel": "cancelled"}
    if way == "task":
        assert isinstance(ended[0], asyncio.CancelledError)
    else:
        assert ended[0].state == states[way]
    await gone(marker)


async def test_a_second_cancellation_only_hurries(marker):
    executor = CommandExecutor(Execution(kill_grace=60))
    action = CommandAction(argv=("sh", "-c", STUBBORN), env={"MARKER": marker})
    sink = ListSink()
    running = asyncio.ensure_future(executor.run(assignment(action), asyncio.Event(), sink))
    await sink.seen("ready")
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    await gone(marker)


async def test_term_comes_first(command):
    text = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    cancel, sink = asyncio.Event(), ListSink()
    work = assignment(CommandAction(argv=("sh", "-c", text)))
    running = asyncio.ensure_future(command.run(work, cancel, sink))
    await sink.seen("ready")
    cancel.set()
    assert (await running).state == "cancelled"
    assert "bye" in sink.text()


async def test_what_the_leader_leaves_behind_is_killed(command, marker):
    text = "(trap '' TERM; sleep 60) & echo started; exit 0"
    action = CommandAction(argv=("sh", "-c", text), env={"MARKER": marker})
    sink = ListSink()
    outcome = await go(command, action, sink)
    assert outcome.state == "succeeded"
    assert sink.text() == "started\n"
    await gone(marker)


async def test_a_daemon_with_its_own_session_delays_only_shortly(command, marker):
    action = CommandAction(argv=("sh", "-c", "setsid sleep 60 & echo done"), env={"MARKER": marker})
    try:
        outcome = await asyncio.wait_for(go(command, action), 5)
        assert outcome.state == "succeeded"
    finally:
        for pid in group_members(marker):
            os.kill(pid, signal.SIGKILL)


async def test_all_output_before_the_exit_is_read(command):
    sink = ListSink()
    await go(command, CommandAction(argv=("head", "-c", "3000000", "/dev/zero")), sink)
    assert len(sink.text()) == 3_000_000


async def test_a_replaced_program_changes_only_the_next_run(command, tmp_path):
    program = tmp_path / "tool"

    def install(text):
        new = tmp_path / "new"
        new.write_text(text)
        new.chmod(0o755)
        new.replace(program)

    install("#!/bin/sh\necho ready; read line < gate; echo old\n")
    os.mkfifo(tmp_path / "gate")
    action = CommandAction(argv=(str(program),), cwd=str(tmp_path))
    sink, after = ListSink(), ListSink()
    running = asyncio.ensure_future(go(command, action, sink))
    await sink.seen("ready")
    install("#!/bin/sh\necho new\n")
    await asyncio.to_thread((tmp_path / "gate").write_text, "go\n")
    assert (await running).state == "succeeded"
    await go(command, action, after)
    assert (sink.text(), after.text()) == ("ready\nold\n", "new\n")


# --- the death of the node ----------------------------------------------------------------------

NODE = """
import asyncio, sys
from everbell.config.schema import Execution
from everbell.domain.job import CommandAction
from everbell.executors.command import CommandExecutor
from everbell.testing.executor_contract import assignment
class Sink:
    def write(self, stream, data):
        sys.stdout.buffer.write(data); sys.stdout.flush()
action = CommandAction(argv=("sh", "-c", "echo ready; exec sleep 60"), env={"MARKER": sys.argv[1]})
asyncio.run(CommandExecutor(Execution()).run(assignment(action), asyncio.Event(), Sink()))
"""


async def test_the_child_dies_with_a_killed_node(marker):
    source = str(Path(process.__file__).parents[2])
    node = subprocess.Popen(
        [sys.executable, "-c", NODE, marker],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": source},
    )
    try:
        assert await asyncio.to_thread(node.stdout.readline) == b"ready\n"
        assert group_members(marker)
    finally:
        node.kill()
        node.wait()
        node.stdout.close()
    await gone(marker)


async def test_without_the_wrapper(command, monkeypatch):
    monkeypatch.setattr(process, "death_signal_prefix", lambda: ())
    sink = ListSink()
    assert (await go(command, CommandAction(argv=("echo", "a")), sink)).state == "succeeded"
    assert sink.text() == "a\n"


# --- what can't be started ----------------------------------------------------------------------


@pytest.fixture(params=["wrapped", "plain"])
def started(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(process, "death_signal_prefix", lambda: ())


async def test_what_is_missing_is_said_before_it_is_started(command, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for action, words in (
        (CommandAction(argv=("no-such-thing",)), "no program 'no-such-thing' on this node"),
        (CommandAction(argv=(str(tmp_path / "x"),)), f"no program {tmp_path}/x on this node"),
        (CommandAction(argv=(str(plain),)), f"{plain} is not executable"),
        (CommandAction(argv=(str(tmp_path),)), f"{tmp_path} is a directory, no program"),
        (CommandAction(argv=("true",), cwd="/no/where"), "no directory /no/where on this node"),
        (CommandAction(argv=("true",), user="no-such-user"), "no user 'no-such-user' on this node"),
    ):
        with pytest.raises(RefusedError) as caught:
            command.check(action)
        assert caught.value.message == words
        assert caught.value.hint
        outcome = await go(command, action)
        assert (outcome.state, outcome.error, outcome.retryable) == ("failed", words, False)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("text", ["#!/no/such/interpreter\n", "\x7fELF broken", "echo hi"])
async def test_a_file_that_the_kernel_refuses(command, tmp_path, text):
    broken = tmp_path / "broken"
    broken.write_text(text)
    broken.chmod(0o755)
    outcome = await go(command, CommandAction(argv=(str(broken),)))
    assert outcome.state == "failed"
    assert not outcome.retryable
    assert "can't be started" in outcome.error


@pytest.mark.usefixtures("started")
async def test_an_exit_code_of_127_of_the_program_itself_is_its_own(command):
    outcome = await go(command, CommandAction(argv=("sh", "-c", "exit 127")))
    assert (outcome.code, outcome.retryable) == (127, True)


@pytest.mark.parametrize(
    "action",
    [
        CommandAction(argv=()),
        CommandAction(argv=("",)),
        CommandAction(argv=("a\0b",)),
        CommandAction(argv=("true",), cwd="\0"),
        CommandAction(argv=("true",), env={"": "x"}),
        CommandAction(argv=("true",), env={"A=B": "x"}),
        CommandAction(argv=("true",), env={"A": "\0"}),
    ],
)
async def test_texts_that_no_process_can_be_given(command, action):
    with pytest.raises(ValidationError) as caught:
        command.check(action)
    assert caught.value.hint
    assert not (await go(command, action)).retryable


# --- scripts ------------------------------------------------------------------------------------


async def test_the_script_lies_in_a_private_directory_that_vanishes(script):
    text = 'echo "$0"; stat -c %a "$0" "$(dirname "$0")"; echo "$@"'
    sink = ListSink()
    await go(script, ScriptAction(text=text, args=("a b", "c")), sink)
    file, mode, directory_mode, args = sink.text().splitlines()
    assert (mode, directory_mode, args) == ("600", "700", "a b c")
    assert not Path(file).parent.exists()


async def test_the_file_vanishes_after_a_timeout_too(script):
    sink = ListSink()
    await go(script, ScriptAction(text='echo "$0"; exec sleep 60'), sink, timeout_s=2.0)
    assert sink.text()
    assert not Path(sink.text().strip()).parent.exists()


async def test_python(script):
    sink = ListSink()
    text = "import sys, json\nprint(json.load(sys.stdin)['é'])\n"
    outcome = await go(script, ScriptAction(text=text, interpreter="python"), sink, data={"é": 5})
    assert outcome.state == "succeeded", sink.chunks
    assert sink.text() == "5\n"


async def test_python_without_python3_on_the_path(execution, monkeypatch):
    monkeypatch.setattr(script_module, "find_program", _nothing)
    sink = ListSink()
    action = ScriptAction(text="import sys; print(sys.executable)", interpreter="python")
    await go(ScriptExecutor(execution), action, sink)
    assert Path(sink.text().strip()).samefile(sys.executable)


def _nothing(name, path, cwd):
    raise RefusedError(f"no program {name!r} on this node", hint="install it")


async def test_interpreters(execution, monkeypatch):
    executor = ScriptExecutor(execution)
    with pytest.raises(ValidationError) as unknown:
        executor.check(ScriptAction(text="x", interpreter="pyton"))
    assert unknown.value.suggestions == ("python",)
    assert "bash, node, python, sh" in unknown.value.hint
    monkeypatch.setattr(script_module, "find_program", _nothing)
    with pytest.raises(RefusedError) as missing:
        executor.check(ScriptAction(text="x", interpreter="node"))
    assert "execution.interpreters" in missing.value.hint


async def test_script_as_another_user(script):
    sink = ListSink()
    outcome = await go(script, ScriptAction(text="id -un", user="nobody", cwd="/"), sink)
    if os.geteuid() != 0:
        assert "may not run processes as 'nobody'" in outcome.error
        return
    assert outcome.state == "succeeded", sink.chunks
    assert sink.text() == "nobody\n"

import asyncio
import os
import socket

import pytest

from everbell.telemetry.clock import SystemClock
from everbell.telemetry.systemd import Supervisor


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(5)
        ear.bind(str(tmp_path / "notify"))
        yield ear


def test_states_are_sent_to_the_socket(systemd):
    Supervisor({"NOTIFY_SOCKET": systemd.getsockname()}).tell("READY=1", "STATUS=up")
    assert systemd.recv(100) == b"READY=1\nSTATUS=up"


def test_an_abstract_socket_is_found():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(5)
        ear.bind(f"\0everbell-test-{os.getpid()}")
        Supervisor({"NOTIFY_SOCKET": f"@everbell-test-{os.getpid()}"}).tell("STOPPING=1")
        assert ear.recv(100) == b"STOPPING=1"


def test_without_systemd_and_after_its_end_nothing_happens(tmp_path):
    Supervisor({}).tell("READY=1")
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


@pytest.mark.parametrize("named", [False, True])
async def test_signs_of_life_stop_when_the_node_is_not_well(systemd, named):
    env = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "20000"}
    if named:
        env["WATCHDOG_PID"] = str(os.getpid())
    supervisor, well = Supervisor(env), [True]
    watching = asyncio.create_task(supervisor.watch(SystemClock(), lambda: well[0]))
    systemd.setblocking(False)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        async with asyncio.timeout(5):
            assert await loop.sock_recv(systemd, 100) == b"WATCHDOG=1"
    well[0] = False
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await loop.sock_recv(systemd, 100)
    watching.cancel()


def test_a_watchdog_for_another_process_is_not_ours(systemd):
    env = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    assert Supervisor(env).watchdog_s == 0.0

"""Without the extra the driver is not there, and nobody pays for it who does not use it."""

import subprocess
import sys

ASK = """
import asyncio, sys
sys.modules["redis"] = None
from everbell.config.schema import Redis
from everbell.domain.errors import ConfigError
from everbell.queues import opened
from everbell.telemetry.clock import SystemClock

async def main():
    async with opened(Redis(addr="redis://u:word@127.0.0.1"), SystemClock(), "me", "."):
        pass

try:
    asyncio.run(main())
except ConfigError as error:
    print(error.message, "|", error.hint)
"""


def test_a_missing_driver_is_said_with_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert "driver is not installed" in done.stdout
    assert "everbell[redis]" in done.stdout
    assert "word" not in done.stdout


def test_the_driver_is_not_loaded_without_an_address() -> None:
    ask = "import sys, everbell.bootstrap; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

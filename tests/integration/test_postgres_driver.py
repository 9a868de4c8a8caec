"""Without the extra the driver is not there, and nobody pays for it who does not use it."""

import subprocess
import sys

ASK = """
import asyncio, sys
sys.modules["asyncpg"] = None
from everbell.bootstrap import open_store
from everbell.config.schema import Database, Settings
from everbell.domain.errors import ConfigError
try:
    url = "postgresql://u:word@127.0.0.1/d"
    asyncio.run(open_store(Settings(database=Database(url=url)), "."))
except ConfigError as error:
    print(error.message, "|", error.hint)
"""


def test_a_missing_driver_is_said_with_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert "driver is not installed" in done.stdout
    assert "everbell[postgres]" in done.stdout
    assert "word" not in done.stdout


def test_the_driver_is_not_loaded_for_a_file() -> None:
    ask = "import sys, everbell.bootstrap; print('asyncpg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

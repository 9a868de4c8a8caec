"""A private PostgreSQL server on a free loopback port, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import psutil

from everbell.testing.free_ports import free_port

_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""A crash of the machine may lose all; a crash of the server loses nothing acknowledged."""
_ACCESS = """\
host all password_role 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
# Deleting few rows is ten times faster than making a database anew.
_EMPTY = """
SET session_replication_role = replica;
SET search_path = everbell;
DO $$
DECLARE found text;
BEGIN
    FOR found IN SELECT relname FROM pg_class WHERE relnamespace = 'everbell'::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname NOT IN ('counters', 'schema_version', 'partitions') LOOP
        EXECUTE format('DELETE FROM %I', found);
    END LOOP;
    FOR found IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'everbell' LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', found);
    END LOOP;
END $$;
UPDATE counters SET value = 0;
"""


def programs() -> Path:
    """Return the directory of the server's programs. Raises RuntimeError if there are none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("pg_ctl")
    places += [Path(found).resolve().parent] if found else []
    for place in places:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    message = "PostgreSQL's server is not installed; run `make test-setup`"
    raise RuntimeError(message)


def server_user() -> str | None:
    """Return whom to run the server as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PostgresServer:
    """A cluster in a temporary directory. ``durable`` keeps fsync on.

    ``listen``: further addresses of this machine, whose networks (/24) are let in.
    """

    def __init__(
        self, *, durable: bool = False, settings: Sequence[str] = (), listen: Sequence[str] = ()
    ) -> None:
        self._bin = programs()
        self._user = server_user()
        self.directory = Path(tempfile.mkdtemp(prefix="everbell-postgres-"))
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self.port = free_port()
        self.data = self.directory / "data"
        self._settings = (*(() if durable else _FAST), "max_connections=200", *settings)
        self._listen = ("127.0.0.1", *listen)
        self._databases = 0
        self._emptied: list[str] = []
        try:
            self._run(
                "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C", "--no-sync",
            )  # fmt: skip
            nets = "".join(f"host all all {address}/24 trust\n" for address in listen)
            (self.data / "pg_hba.conf").write_text(_ACCESS + nets)
            self.start()
        except BaseException:
            self.close()
            raise

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if check and done.returncode:
            message = f"{program} failed: {done.stderr or done.stdout}"
            raise RuntimeError(message)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {
            "listen_addresses": ",".join(self._listen),
            "unix_socket_directories": "",
            "port": self.port,
        }
        given = [*(f"{name}={value}" for name, value in options.items()), *self._settings]
        text = " ".join(f"-c '{one}'" for one in given)
        log = str(self.directory / "log")
        # Its own output would keep the pipe open for as long as the server lives.
        self._run("pg_ctl", "start", "-w", "-s", "-D", str(self.data), "-l", log, "-o", text)

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; ``immediate`` is a crash."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", str(self.data), check=False)

    def kill(self) -> None:
        """Kill the server's processes, all at once, as a power cut would."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        main = psutil.Process(pid)
        found = [*main.children(recursive=True), main]
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(found, timeout=10)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def terminate_all(self) -> None:
        """End all connections, as an administrator can."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def url(self, database: str = "postgres", role: str = "postgres", password: str = "") -> str:
        """Return the address of a database."""
        login = f"{role}:{password}" if password else role
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def sql(self, text: str, database: str = "postgres") -> None:
        """Carry out statements as the superuser, each by itself."""
        self._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", text)

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        self._databases += 1
        name = f"everbell_{self._databases}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    @contextlib.asynccontextmanager
    async def empty_store(self) -> AsyncIterator[str]:
        """Give the address of a database in which a store is as new; it is used again later."""
        name = self._emptied.pop() if self._emptied else self.new_database()
        yield self.url(name)
        admin = await asyncpg.connect(self.url(name))
        try:
            await admin.execute(_EMPTY)
        finally:
            await admin.close()
        self._emptied.append(name)

    def close(self) -> None:
        """Stop the server and remove its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

"""How a server is reached: address, TLS, settings of a session; migrations."""

from __future__ import annotations

import re
import socket
import ssl
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg

from everbell.domain.errors import ConfigError, StoreCorrupt

SCHEMA = "everbell"
CONNECT_S = 5.0
CALL_S = 60.0
"""An answer that takes longer is given up: a server that hangs must not hang a node."""
QUICK_S = 5.0
"""The same for what is answered at once, beside the time that a lock may be waited for."""
SILENT_S = 10
"""Nobody acknowledges what was sent, or asks back, for so long: the way is cut. Both ends see it,
so that neither a node hangs nor what it has locked."""
MIGRATION_S = 3600.0
_MIGRATING = 0x45564231
_SESSION = {
    "application_name": "everbell",
    "search_path": SCHEMA,
    # Who says this looks into both tables of runs before it inserts one (see 0002_days.sql).
    "everbell.schema": "2",
    "default_transaction_isolation": "read committed",
    "client_encoding": "utf-8",
    # Each statement has an index that it is meant to use. A plan made while a table was small must
    # not scan it when it has grown, and no plan is worth being made anew for each batch.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "random_page_cost": "1.1",
    "jit": "off",
    # What a node that died in the middle of a transaction has locked is free again after this.
    "idle_in_transaction_session_timeout": str(SILENT_S * 1000),
    "statement_timeout": str(int(CALL_S * 1000)),
    "tcp_keepalives_idle": str(SILENT_S // 2),
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": str(SILENT_S * 1000),
}
_SOCKET = {
    "TCP_KEEPIDLE": SILENT_S // 2,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": SILENT_S * 1000,
}


class Tls(NamedTuple):
    """Files in PEM form: whom to trust, and who we are. The server's name is verified."""

    ca: str
    cert: str
    key: str


class Target(NamedTuple):
    """A server, and how to speak to it."""

    url: str
    tls: Tls | None = None
    lock_timeout_s: float = 5.0

    @property
    def where(self) -> str:
        """The address without its secrets, for people."""
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def context(tls: Tls) -> ssl.SSLContext:
    """Return what verifies the server in full. Raises ConfigError for files that can't be used."""
    try:
        made = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("ca", tls.ca, error) from error
    try:
        made.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        name = "cert" if not Path(tls.cert).is_file() else "key"
        raise _unusable(name, tls.cert if name == "cert" else tls.key, error) from error
    return made


def _unusable(key: str, path: str, error: Exception) -> ConfigError:
    message = f"database.tls.{key}: {path} can't be used ({error})"
    return ConfigError(message, hint="name a readable PEM file; cert and key must belong together")


async def connect(target: Target, trust: ssl.SSLContext | None) -> Any:
    """Open one connection to the primary. Raises what the driver raises."""
    settings = {**_SESSION, "lock_timeout": str(int(target.lock_timeout_s * 1000))}
    more: dict[str, Any] = {} if trust is None else {"ssl": trust}
    con = await asyncpg.connect(
        target.url,
        timeout=CONNECT_S,
        command_timeout=CALL_S + 5,
        server_settings=settings,
        target_session_attrs=asyncpg.connect_utils.SessionAttribute.read_write,
        max_cached_statement_lifetime=0,
        statement_cache_size=200,
        **more,
    )
    _watch(con._transport.get_extra_info("socket"))  # noqa: SLF001  (the driver has no option)
    return con


def _watch(sock: Any) -> None:
    """Let the system notice a silent way; where it can't, time limits of calls are left."""
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SOCKET.items():
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def migrations() -> list[tuple[int, str]]:
    """Return the numbered migrations, in order."""
    found: list[tuple[int, str]] = []
    for item in resources.files("everbell.stores.postgres.migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", item.name)
        if match:
            found.append((int(match[1]), item.read_text(encoding="utf-8")))
    return sorted(found)


async def prepare(con: Any, where: str) -> None:
    """Check the database and bring its schema up to date; several nodes may do so at once.

    A role without the right to change tables is enough while nothing is to be changed. Raises
    StoreCorrupt (another program's, a newer version's, not UTF-8) and what the driver raises.
    """
    if (encoding := await con.fetchval("SHOW server_encoding")) != "UTF8":
        message = f"{where} is encoded as {encoding}"
        hint = "create it anew: CREATE DATABASE everbell ENCODING 'UTF8' TEMPLATE template0"
        raise StoreCorrupt(message, hint=hint)
    known = migrations()
    version = await _version(con, where)
    if version > known[-1][0]:
        message = f"{where} has schema version {version}, this Everbell knows {known[-1][0]}"
        raise StoreCorrupt(message, hint="use the newer everbell, or a backup from before it")
    for number, sql in known:
        if number > version:
            await _migrate(con, where, number, sql)


async def _version(con: Any, where: str) -> int:
    """Return the number of the last migration; 0 = none yet."""
    # One look: another node may be making the schema right now.
    found = await con.fetch(
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'everbell' AND relkind IN ('r', 'p', 'v') ORDER BY relname"
    )
    names = [row[0] for row in found]
    if "schema_version" in names:
        newest = await con.fetchval("SELECT max(number) FROM everbell.schema_version")
        return int(newest or 0)
    if names:
        message = f"the schema everbell of {where} is another program's: it has {names[0]!r}"
        raise StoreCorrupt(message, hint="name another database in database.url")
    return 0


async def _migrate(con: Any, where: str, number: int, sql: str) -> None:
    async with con.transaction():
        await con.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        if await _version(con, where) >= number:
            return
        if await con.fetchval("SELECT to_regnamespace('everbell')") is None:
            await con.execute("CREATE SCHEMA everbell")
        if number == 1:
            await con.execute("CREATE TABLE schema_version (number bigint PRIMARY KEY)")
        await con.execute("SET LOCAL statement_timeout = 0")
        await con.execute(sql, timeout=MIGRATION_S)
        await con.execute("INSERT INTO schema_version VALUES ($1)", number)

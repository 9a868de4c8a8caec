"""How a server is reached: address, TLS, settings of a session."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg

from everbell.domain.errors import ConfigError

SCHEMA = "everbell"
CONNECT_S = 5.0
CALL_S = 60.0
"""An answer that takes longer is given up: a server that hangs must not hang a node."""
QUICK_S = 5.0
"""The same for what is answered at once, beside the time that a lock may be waited for."""
SILENT_S = 10
"""Nobody acknowledges what was sent, or asks back, for so long: the way is cut. Both ends see it,
so that neither a node hangs nor what it has locked."""
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
    name: str = ""
    """Who connects: what pg_stat_activity shows beside the program's name."""

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
    # 0 would be: wait for ever.
    patience_ms = max(int(target.lock_timeout_s * 1000), 1)
    settings = {**_SESSION, "lock_timeout": str(patience_ms)}
    if target.name:
        # What is longer is cut by the server, with a notice.
        settings["application_name"] += f" {target.name}"[:50]
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

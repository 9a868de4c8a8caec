"""Addresses of servers, as people write them: PostgreSQL by its parts, Redis in every form."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from everbell.domain.job import Record

POSTGRES_PORT = 5432
REDIS_PORT = 6379
# A name, an IPv4 address or an IPv6 address in brackets; a port only with digits.
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+)(:(?P<port>[0-9]{1,5}))?")

_SOCKET_PORT = re.compile(r"(.*?)(?::([0-9]{1,5}))?", re.DOTALL)


def split_host_port(text: str, port: int) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``; ``port`` is the default one.

    Raises ValueError with words that go on after the name of the setting.
    """
    if "@" in text:
        raise ValueError("must be a host and a port, without a login")
    found = _HOST_PORT.fullmatch(text.strip())
    if not found:
        raise ValueError("must be a host and a port, not " + repr(text[:80]))
    number = int(found["port"] or port)
    if not 0 < number <= 65535:
        raise ValueError(f"has the port {number}, which is not within 1 and 65535")
    return found["host"].strip("[]"), number


def join_host_port(host: str, port: int) -> str:
    """Return ``HOST:PORT`` for a host without one; a socket's directory goes as it is.

    Raises ValueError with words that go on after the name of the setting.
    """
    bare = host.strip()
    if bare.startswith("/"):
        return f"{bare}:{port}"
    if bare.count(":") > 1 and not bare.startswith("["):
        bare = f"[{bare}]"
    found = _HOST_PORT.fullmatch(bare)
    if not found or found["port"]:
        raise ValueError("must be a host, not " + repr(host[:80]))
    return f"{bare}:{port}"


def _bracketed(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def postgres_url(addr: str = "", name: str = "", username: str = "", password: str = "") -> str:
    """Return the URL of a PostgreSQL database that is given by its parts.

    ``addr`` may list several hosts with commas, or be the directory of a socket, with ``:PORT`` or
    without; empty is the local server. What is left out is decided by libpq's rules.

    Raises ValueError with words that go on after the name of the setting.
    """
    login = quote(username, safe="") + (f":{quote(password, safe='')}" if password else "")
    at = f"{login}@" if login else ""
    if addr.startswith("/"):
        directory, port = _SOCKET_PORT.fullmatch(addr).groups()  # type: ignore[union-attr]
        more = f"&port={port}" if port else ""
        return f"postgresql://{at}/{quote(name, safe='')}?host={quote(directory, safe='/')}{more}"
    parts = [split_host_port(one, POSTGRES_PORT) for one in (addr or "127.0.0.1").split(",")]
    hosts = ",".join(_bracketed(*one) for one in parts)
    return f"postgresql://{at}{hosts}" + (f"/{quote(name, safe='')}" if name else "")


def check_postgres_url(url: str) -> None:
    """Refuse what would be read otherwise than it was meant; nothing of it is repeated.

    Raises ValueError with words that go on after the name of the setting.
    """
    rest = url.partition("://")[2]
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    if place.count("@") > 1 or "@" in rest[len(place) :]:
        raise ValueError(
            "has a @ too many: in user and password write %40 for @, %2F for /, %3A for :,"
            " %3F for ?, %23 for #"
        )
    for one in place.rpartition("@")[2].split(","):
        port = one.rpartition("]")[2].rpartition(":")[2] if ":" in one.rpartition("]")[2] else ""
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            raise ValueError("has a port that is no number within 1 and 65535")


class RedisAddress(Record, frozen=True):
    """Where a Redis server is: ``path`` of a socket, or ``host`` and ``port``."""

    host: str = ""
    port: int = REDIS_PORT
    path: str = ""
    tls: bool = False
    username: str = ""
    password: str = ""
    db: int = 0


def redis_address(text: str, *, tls: bool = False) -> RedisAddress:
    """Read ``redis.addr``; ``tls`` says that files for TLS are configured.

    Raises ValueError with words that go on after the name of the setting.
    """
    text = text.strip()
    scheme, mark, rest = text.partition("://")
    if not mark:
        if text.startswith("/"):
            return _socket(text, tls=tls)
        host, port = split_host_port(text, REDIS_PORT)
        return RedisAddress(host=host, port=port, tls=tls)
    scheme = scheme.lower()
    if scheme == "unix":
        return _socket(rest, tls=tls)
    if scheme not in {"redis", "rediss"}:
        raise ValueError("must not begin with an unknown scheme")
    if scheme == "redis" and tls:
        raise ValueError("must be rediss:// where redis.tls is set")
    login, _, place = rest.rpartition("@")
    place, _, db = place.partition("/")
    username, _, password = login.partition(":")
    if db and not (db.isascii() and db.isdigit() and int(db) <= 65535):
        raise ValueError("must end with the number of a database")
    host, port = split_host_port(place, REDIS_PORT)
    return RedisAddress(
        host=host,
        port=port,
        tls=scheme == "rediss",
        username=unquote(username),
        password=unquote(password),
        db=int(db or 0),
    )


def _socket(path: str, *, tls: bool) -> RedisAddress:
    if not path.startswith("/"):
        raise ValueError("must name a socket by its absolute path")
    if tls:
        raise ValueError("must not be a socket where redis.tls is set")
    return RedisAddress(path=path)

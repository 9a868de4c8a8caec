"""The Distributed Scheduler's names: twelve flags, and the same in the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from everbell.config.addresses import POSTGRES_PORT, REDIS_PORT, join_host_port
from everbell.domain.errors import ConfigError, FieldProblem

PARTS: dict[str, tuple[str, str]] = {
    "PGHOST": ("database.addr", "host of PostgreSQL"),
    "PGPORT": ("database.addr", "port of PostgreSQL"),
    "PGUSER": ("database.username", "role in PostgreSQL"),
    "PGPASSWORD": ("database.password", "password of the role"),
    "PGDATABASE": ("database.name", "database in PostgreSQL"),
    "PORT": ("server.port", "port of the REST API"),
    "REDISPORT": ("redis.addr", "port of Redis"),
    "REDISHOST": ("redis.addr", "host of Redis"),
    "PROCESS_STORE": ("redis.process_store", "set of live processes"),
    "JOB_STORE": ("redis.job_store", "runs that wait for a process"),
    "JOB_PROCESSED": ("redis.job_processed", "runs taken and not yet ended"),
    "CHANNEL": ("redis.channel", "wake-ups between processes"),
}
"""Each documented name, our setting, and what it is."""

NEEDED_TOGETHER = ("PGHOST", "REDISHOST")
"""Both must be in the environment before any of the names counts there.

PORT and PGHOST are common variables of other programs: alone they must not move a node.
"""

_SERVERS = (
    ("database.addr", "PGHOST", "PGPORT", POSTGRES_PORT),
    ("redis.addr", "REDISHOST", "REDISPORT", REDIS_PORT),
)


def settings_of(given: Mapping[str, str], spelled: Callable[[str], str]) -> dict[str, Any]:
    """Return our settings, as text, for the Distributed Scheduler's names that are given.

    ``spelled`` says how the caller wrote a name. Raises ConfigError that names it so.
    """
    if empty := next((n for n, value in given.items() if not value and n != "PGPASSWORD"), ""):
        raise _refused(f"`{spelled(empty)}` is empty", f"name the {PARTS[empty][1]}, or leave it")
    found: dict[str, Any] = {
        PARTS[name][0]: value
        for name, value in given.items()
        if name not in {one for _, *names, _ in _SERVERS for one in names}
    }
    for setting, host_name, port_name, default in _SERVERS:
        host, port = given.get(host_name), given.get(port_name)
        if host is None and port is None:
            continue
        number = default if port is None else _port(port, spelled(port_name))
        try:
            found[setting] = join_host_port("127.0.0.1" if host is None else host, number)
        except ValueError as error:
            raise _refused(f"`{spelled(host_name)}` {error}", "as in db.example.com") from None
    if "PORT" in given:
        _port(given["PORT"], spelled("PORT"), low=0)
    return found


def from_environment(env: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return settings and the variable that each is from; none unless the set is there.

    Raises ConfigError that names the variable.
    """
    if not all(env.get(name) for name in NEEDED_TOGETHER):
        return {}
    given = {name: env[name] for name in PARTS if env.get(name)}
    by_setting = {PARTS[name][0]: name for name in reversed(PARTS) if name in given}
    return {
        setting: (value, by_setting[setting])
        for setting, value in settings_of(given, lambda name: name).items()
    }


def _port(text: str, spelled: str, low: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= 65535):
        message = f"`{spelled}` must be a whole number from {low} to 65535, not `{text[:80]}`"
        raise _refused(message, "it is the number of a port")
    return int(text)


def _refused(message: str, hint: str) -> ConfigError:
    problem = FieldProblem("", message, hint=hint, code="invalid_config")
    return ConfigError(message, hint=hint, problems=(problem,))

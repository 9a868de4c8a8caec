"""Rules over several settings: what excludes, needs or makes another."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from everbell.config.addresses import check_postgres_url, postgres_url, redis_address
from everbell.config.collected import Collector
from everbell.config.fields import without_password
from everbell.config.schema import Database, Queues, Redis, Settings

PARTS = ("addr", "name", "username", "password")
_DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def compose_database(into: Collector) -> None:
    """Make ``database.url`` of its parts; a different one beside them is refused."""
    given = {part: into.values.get(f"database.{part}", "") for part in PARTS}
    first = next((f"database.{part}" for part in PARTS if given[part]), "")
    if not first:
        return
    where = into.origins[first]
    try:
        url = postgres_url(**given)
    except ValueError as error:
        into.problem("database.addr", f"{where}: `database.addr` {error}", "write HOST:PORT")
        return
    if into.values.get("database.url", url) != url:
        there = into.origins["database.url"]
        message = f"{where}: `{first}` and `database.url` ({there}) name different databases"
        into.problem(first, message, "keep the URL, or the parts")
        return
    into.values["database.url"] = url
    into.origins["database.url"] = where


def check_together(into: Collector, settings: Settings) -> None:
    """Note every rule over several settings that is broken."""
    node = settings.node
    if node.lease <= node.heartbeat:
        where = into.origins.get("node.lease") or into.origins.get("node.heartbeat", "default")
        message = f"{where}: `node.lease` ({node.lease:g}) must be longer than `node.heartbeat`"
        hint = f"three heartbeats are usual: {3 * node.heartbeat:g}"
        into.problem("node.lease", message, hint)
    _check_database(into, settings.database)
    _check_redis(into, settings.redis)
    _check_queues(into, settings.queues)
    for text in settings.callbacks.allow:
        if not _is_network(text):
            where = into.origins.get("callbacks.allow", "default")
            message = f"{where}: `callbacks.allow` has `{text}`, which is no network"
            into.problem("callbacks.allow", message, "write 10.0.0.0/8 or a single address")


def _check_database(into: Collector, database: Database) -> None:
    url, tls = database.url, database.tls
    where = into.origins.get("database.url", "default")
    if not re.match(r"^(sqlite:///.|postgres(ql)?://|memory:)", url):
        message = f"{where}: `database.url` can't be `{without_password(url)}`"
        hint = "write sqlite:///FILE, postgresql://USER:PASSWORD@HOST:PORT/DATABASE or memory:"
        into.problem("database.url", message, hint)
    elif url.startswith("postgres"):
        try:
            check_postgres_url(url)
        except ValueError as error:
            hint = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or database.addr and parts"
            into.problem("database.url", f"{where}: `database.url` {error}", hint)
    given = {"ca": tls.ca, "cert": tls.cert, "key": tls.key}
    missing = [f"database.tls.{name}" for name, value in given.items() if not value]
    if 0 < len(missing) < len(given):
        _half(into, missing, "set all of database.tls.ca, cert and key, or none")
    elif not missing and not url.startswith("postgres"):
        message = f"{where}: `database.tls` is for postgresql://, not `{url.partition(':')[0]}:`"
        into.problem("database.tls.ca", message, "remove database.tls, or change database.url")


def _half(into: Collector, missing: list[str], hint: str) -> None:
    message = f"TLS is half configured: {' and '.join(f'`{name}`' for name in missing)} missing"
    into.problem(missing[0], message, hint)


def _check_redis(into: Collector, redis: Redis) -> None:
    where = into.origins.get("redis.addr", "default")
    tls = redis.tls
    if bool(tls.cert) != bool(tls.key):
        missing = "redis.tls.key" if tls.cert else "redis.tls.cert"
        _half(into, [missing], "set redis.tls.cert and key, or neither; ca may stand alone")
    if not redis.addr:
        if tls.ca or tls.cert:
            message = "`redis.tls` is set, and `redis.addr` is not"
            into.problem("redis.addr", message, "name the server: redis.addr = HOST:PORT")
        return
    try:
        at = redis_address(redis.addr, tls=bool(tls.ca or tls.cert))
    except ValueError as error:
        hint = "write HOST:PORT, redis://HOST:PORT, rediss://HOST:PORT or /PATH/OF/SOCKET"
        into.problem("redis.addr", f"{where}: `redis.addr` {error}", hint)
        return
    for name, inside in (("username", at.username), ("password", at.password), ("db", at.db)):
        if inside and getattr(redis, name) not in ("", 0, inside):
            message = f"{where}: `redis.addr` and `redis.{name}` both say it, and differ"
            into.problem(f"redis.{name}", message, "keep one of the two")


def _check_queues(into: Collector, queues: Queues) -> None:
    where = into.origins.get("queues.key", "default")
    rest = queues.key.replace("{driver}", "", 1)
    if rest == queues.key or "{" in rest or "}" in rest:
        message = f"{where}: `queues.key` must contain {{driver}} once, not `{queues.key}`"
        into.problem("queues.key", message, "as in builds_{driver}")
    where = into.origins.get("queues.drivers", "default")
    for name in queues.drivers:
        if not _DRIVER.fullmatch(name):
            message = f"{where}: `queues.drivers` has {name!r:.80}, which is no name"
            into.problem("queues.drivers", message, "letters, digits, dot, dash, underscore")
    if twice := _twice(queues.drivers):
        message = f"{where}: `queues.drivers` has `{twice}` twice"
        into.problem("queues.drivers", message, "remove one of the two")


def _twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True

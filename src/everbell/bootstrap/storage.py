"""Where the state lives, and what connects a node to others: opened as the settings say."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from everbell import queues
from everbell.config.loader import Loaded, without_password
from everbell.config.schema import Settings
from everbell.config.secrets import (
    Secrets,
    create_secrets,
    load_secrets,
    new_secret_key,
    require_secrets,
)
from everbell.domain.errors import ConfigError, ConflictError, EverbellError
from everbell.domain.secrets import key_check
from everbell.services.projects import make_default
from everbell.stores.memory import MemoryStore
from everbell.stores.sqlite import SqliteStore, giving
from everbell.stores.sqlite import backup as sqlite_backup
from everbell.stores.sqlite import checkup as sqlite_checkup
from everbell.telemetry.clock import SystemClock, SystemEntropy

if TYPE_CHECKING:
    from everbell.ports.checkup import Checkup
    from everbell.ports.moving import Giver, Receiver
    from everbell.ports.store import Store
    from everbell.queues.redis import RedisParts
    from everbell.stores.postgres import Tls


_FILES_ONLY = "only sqlite:///FILE; for PostgreSQL use its own tools, such as pg_dump"


async def open_store(settings: Settings, directory: str | Path) -> Store:
    """Open the store that ``database.url`` names.

    Raises ConfigError for a URL of no known engine, StoreError if it can't be opened.
    """
    url = settings.database.url
    if url == "memory:":
        return MemoryStore()
    if url.startswith(("postgresql://", "postgres://")):
        return await _open_postgres(settings, Path(directory))
    scheme, separator, rest = url.partition(":///")
    if scheme != "sqlite" or not separator or not rest:
        message = f"database.url {without_password(url)!r} names no store that this version has"
        raise ConfigError(message, hint="use sqlite:///everbell.db (a file) or postgresql://...")
    return await SqliteStore.open(
        Path(directory) / rest,
        synchronous=settings.database.synchronous,
        busy_timeout_s=settings.database.busy_timeout,
    )


async def _open_postgres(settings: Settings, directory: Path) -> Store:
    with _driver_needed():
        from everbell.stores.postgres import PostgresStore
    database = settings.database
    return await PostgresStore.open(
        database.url,
        tls=_tls(settings, directory),
        connections=database.connections,
        busy_timeout_s=database.busy_timeout,
        name=settings.node.name or socket.gethostname(),
    )


@contextlib.contextmanager
def _driver_needed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if error.name != "asyncpg":
            raise
        message = "PostgreSQL is named, and its driver is not installed"
        raise ConfigError(message, hint="pip install 'everbell[postgres]'") from error


def _tls(settings: Settings, directory: Path) -> Tls | None:
    from everbell.stores.postgres import Tls

    tls = settings.database.tls
    files = (str(directory / name) for name in (tls.ca, tls.cert, tls.key))
    return Tls(*files) if tls.ca else None


def open_giver(path: Path) -> Giver:
    """Open the database file that is to be moved, for this process alone."""
    return giving.SqliteGiver.open(path)


async def open_receiver(loaded: Loaded, url: str) -> Receiver:
    """Connect to the PostgreSQL database that all is moved into; TLS as ``database.tls`` says."""
    with _driver_needed():
        from everbell.stores.postgres.receiving import PostgresReceiver
    tls = _tls(loaded.settings, Path(loaded.directory))
    return await PostgresReceiver.open(url, tls=tls)


async def check_server_up(loaded: Loaded) -> Checkup:
    """Look at the database on a server. Raises ConfigError, StoreCorrupt, StoreUnavailable."""
    with _driver_needed():
        from everbell.stores.postgres.checkup import check_up
    settings, directory = loaded.settings, Path(loaded.directory)
    return await check_up(settings.database.url, _tls(settings, directory), SystemClock())


look_at_source = giving.look
redis_parts = queues.opened
database_copies, database_checkup = sqlite_backup, sqlite_checkup
"""Backup, restore and health of the one engine that keeps a file; for the command line."""


def database_file(loaded: Loaded) -> Path:
    """Return the file that the settings name. Raises ConfigError for a store without one."""
    scheme, _, rest = loaded.settings.database.url.partition(":///")
    if scheme != "sqlite":
        message = f"database.url {without_password(loaded.settings.database.url)!r} is no file"
        raise ConfigError(message, hint=_FILES_ONLY)
    return Path(loaded.directory) / rest


async def open_checked(loaded: Loaded, secrets: Secrets) -> Store:
    """Open the store and refuse it if it was made under another secret key."""
    store = await open_store(loaded.settings, loaded.directory)
    own = key_check(secrets.key)
    try:
        if await store.meta("secret_check", own) != own:
            message = "the secret key is not the one that this database was made with"
            hint = "restore the .everbell file that belongs to it, or use another database"
            raise ConfigError(message, hint=hint)
        await make_default(store, SystemClock(), SystemEntropy())
    except EverbellError:
        await store.close()
        raise
    return store


@contextlib.asynccontextmanager
async def outside_of(
    loaded: Loaded, secrets: Secrets
) -> AsyncIterator[tuple[Store, RedisParts | None]]:
    """Open where a node keeps its state and what connects it to others; close both at the end."""
    me = f"{socket.gethostname()}:{os.getpid()}:{SystemEntropy().token_bytes(4).hex()}"
    store, redis = await open_checked(loaded, secrets), loaded.settings.redis
    try:
        async with queues.opened(redis, SystemClock(), me, loaded.directory) as parts:
            yield store, parts
    finally:
        await store.close()


def ready_secrets(directory: str | Path, database_url: str) -> Secrets:
    """Return the secrets of a directory; make them for a new database.

    Several processes may do so at once: the first wins. Raises ConfigError if the database is
    there and its secrets are not.
    """
    if database_url == "memory:":
        return Secrets(secret_key=new_secret_key(SystemEntropy().token_bytes(32)))
    database = Path(directory) / database_url.partition(":///")[2]
    # In this order: whoever makes both makes the secrets first.
    known = database_url.startswith("sqlite:") and database.exists()
    found = load_secrets(directory, os.environ)
    if found is not None or known:
        return found or require_secrets(directory, os.environ, database)
    fresh = Secrets(secret_key=new_secret_key(SystemEntropy().token_bytes(32)))
    with contextlib.suppress(ConflictError):
        create_secrets(directory, fresh)
    return require_secrets(directory, os.environ)

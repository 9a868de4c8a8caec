"""TLS to the server: verified in full, or refused."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from everbell.bootstrap import open_store
from everbell.config.loader import load_settings
from everbell.domain.errors import ConfigError, StoreUnavailable
from everbell.stores.postgres import PostgresStore, Tls
from everbell.testing.certificates import make_certificates
from everbell.testing.postgres_server import PostgresServer, server_user


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[PostgresServer, Path]]:
    """A server that takes only clients whose certificate its authority signed."""
    directory = Path(tempfile.mkdtemp(prefix="everbell-tls-"))
    directory.chmod(0o755)
    make_certificates(directory, user="postgres")
    (directory / "server.key").chmod(0o600)
    if (user := server_user()) is not None:
        shutil.chown(directory / "server.key", user)
    for path in directory.glob("*.pem"):
        path.chmod(0o644)
    settings = [
        "ssl=on",
        f"ssl_cert_file={directory}/server.pem",
        f"ssl_key_file={directory}/server.key",
        f"ssl_ca_file={directory}/ca.pem",
    ]
    server = PostgresServer(settings=settings)
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 cert\n")
    server.stop("fast")
    server.start()
    yield server, directory
    server.close()
    shutil.rmtree(directory)


def _files(directory: Path, ca: str = "ca", own: str = "node", key: str = "node") -> Tls:
    return Tls(*(str(directory / name) for name in (f"{ca}.pem", f"{own}.pem", f"{key}.key")))


def _url(server: PostgresServer, host: str = "localhost") -> str:
    return f"postgresql://postgres@{host}:{server.port}/postgres"


async def test_both_sides_show_who_they_are(secure: tuple[PostgresServer, Path]) -> None:
    server, directory = secure
    store = await PostgresStore.open(_url(server), tls=_files(directory))
    assert await store.list_nodes() == []
    await store.close()


@pytest.mark.parametrize("what", ["authority", "name", "plain"])
async def test_a_server_that_is_not_the_one_is_refused(
    secure: tuple[PostgresServer, Path], what: str
) -> None:
    server, directory = secure
    tls: Tls | None = _files(directory, ca="other" if what == "authority" else "ca")
    if what == "plain":
        tls = None
    host = "127.0.0.1" if what == "name" else "localhost"
    with pytest.raises(StoreUnavailable) as caught:
        await PostgresStore.open(_url(server, host), tls=tls)
    assert "database.tls" in (caught.value.hint or "")


async def test_a_server_without_tls_is_refused(
    postgres_server: PostgresServer, secure: tuple[PostgresServer, Path]
) -> None:
    _, directory = secure
    with pytest.raises((StoreUnavailable, ConfigError), match=r"SSL|TLS"):
        await PostgresStore.open(postgres_server.url(), tls=_files(directory))


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
async def test_files_that_cannot_be_used_are_named(
    secure: tuple[PostgresServer, Path], key: str
) -> None:
    server, directory = secure
    wrong = _files(directory)._replace(**{key: os.devnull if key != "ca" else "missing.pem"})
    if key == "cert":
        wrong = wrong._replace(cert=str(directory / "missing.pem"))
    with pytest.raises(ConfigError, match=rf"database\.tls\.{key}"):
        await PostgresStore.open(_url(server), tls=wrong)


async def test_the_documented_names_of_djinn_turn_it_on(
    secure: tuple[PostgresServer, Path],
) -> None:
    """djinn puts key and CA in the place of the certificate, and goes on without TLS."""
    server, directory = secure
    conf = directory / "djinn-scheduler.conf"
    text = f"""
database {{
    addr "localhost:{server.port}"
    name "postgres"
    username "postgres"
    tls {{
        ca "ca.pem"
        cert "node.pem"
        key "node.key"
    }}
}}
"""
    conf.write_text(text)
    loaded = load_settings(conf, {})
    store = await open_store(loaded.settings, loaded.directory)
    await store.close()
    conf.write_text(text.replace("ca.pem", "other.pem"))
    loaded = load_settings(conf, {})
    with pytest.raises(StoreUnavailable):
        await open_store(loaded.settings, loaded.directory)
    conf.write_text(text.replace('key "node.key"', ""))
    with pytest.raises(ConfigError, match=r"`database.tls.key` missing"):
        load_settings(conf, {})

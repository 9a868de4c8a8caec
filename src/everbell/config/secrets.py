"""The secrets of an installation: one small file beside the configuration, readable by its owner.

The file is written whole or not at all, and never over another one unless told so.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from everbell.domain.errors import ConfigError, ConflictError
from everbell.domain.job import Record

FILE_NAME = ".everbell"
MIN_KEY_LENGTH = 16
_HINT = "`everbell init` makes everything, `everbell credential init --generate` only this"
_LOST_HINT = "restore it from a backup: the database here can't be opened with new secrets"


class CliKey(Record, frozen=True):
    """The credential that the command line of this directory presents to its own server."""

    api_key: str
    api_secret: str


class Secrets(Record, frozen=True):
    """``secret_key`` keys the hashes of API secrets and the signatures of callbacks.

    ``auth_username`` and ``auth_password`` are what nodes show each other (Basic).
    """

    secret_key: str
    auth_username: str = ""
    auth_password: str = ""
    cli: CliKey | None = None

    @property
    def key(self) -> bytes:
        """The secret key as bytes, for the functions of ``everbell.domain.secrets``."""
        return self.secret_key.encode()


def new_secret_key(random_bytes: bytes) -> str:
    """Return the text form of a fresh key made of 32 random bytes."""
    return base64.b64encode(random_bytes).decode("ascii")


def secrets_path(directory: str | Path) -> Path:
    """Return where the secrets of a directory live."""
    return Path(directory) / FILE_NAME


def load_secrets(directory: str | Path, env: Mapping[str, str] | None = None) -> Secrets | None:
    """Return the directory's secrets, or None if it has none.

    ``EVERBELL_SECRET_KEY``, ``EVERBELL_AUTH_USERNAME`` and ``EVERBELL_AUTH_PASSWORD`` come first.
    Raises ConfigError for a file that can't be read, is torn, or is no secrets file.
    """
    found = _read(secrets_path(directory))
    given = {
        name: value
        for name in ("secret_key", "auth_username", "auth_password")
        if (value := (env or {}).get(f"EVERBELL_{name}".upper()))
    }
    if not given:
        return found
    if found is None:
        if "secret_key" not in given:
            message = "EVERBELL_SECRET_KEY is not set, and there is no secrets file"
            raise ConfigError(message, hint=_HINT)
        found = Secrets(secret_key=given["secret_key"])
    merged = msgspec.structs.replace(found, **given)
    _check_key(merged.secret_key)
    return merged


def require_secrets(
    directory: str | Path, env: Mapping[str, str] | None = None, database: Path | None = None
) -> Secrets:
    """Return the directory's secrets. Raises ConfigError if it has none.

    If the ``database`` is there already, new secrets would not fit it: the hint says so.
    """
    found = load_secrets(directory, env)
    if found is None:
        message = f"no secrets in {directory}: {FILE_NAME} is missing"
        made_with_one = database is not None and database.exists()
        raise ConfigError(message, hint=_LOST_HINT if made_with_one else _HINT)
    return found


def permission_note(directory: str | Path) -> str:
    """Return a warning if others may read the secrets; empty = all is well."""
    path = secrets_path(directory)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return ""
    if mode & 0o077:
        return f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}"
    return ""


def create_secrets(directory: str | Path, secrets: Secrets, *, force: bool = False) -> Path:
    """Write a new secrets file, mode 0600, whole or not at all.

    Raises ConflictError if there is one and ``force`` is not set; ConfigError if it can't be
    written or the key is too short.
    """
    _check_key(secrets.secret_key)
    path = secrets_path(directory)
    data = msgspec.json.format(msgspec.json.encode(secrets), indent=2) + b"\n"
    try:
        write_private(path, data, replace=force)
    except FileExistsError:
        message = f"{path} is already there"
        hint = "--force makes a new one; the database here then can't be opened any more"
        raise ConflictError(message, hint=hint) from None
    except OSError as error:
        message = f"can't write {path}: {error.strerror or error}"
        raise ConfigError(message, hint="check that the directory exists and is yours") from error
    return path


def save_cli_key(directory: str | Path, key: CliKey) -> None:
    """Keep the command line's own credential with the secrets. Raises ConfigError."""
    secrets = require_secrets(directory)
    create_secrets(directory, msgspec.structs.replace(secrets, cli=key), force=True)


def write_private(path: Path, data: bytes, *, replace: bool, mode: int = 0o600) -> None:
    """Write a file atomically: a crash leaves the old state or the new, never half.

    Raises FileExistsError if it exists and ``replace`` is not set; OSError otherwise.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike rename, fails if the name is taken
        _sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> Secrets | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"can't read {path}: {error.strerror or error}"
        raise ConfigError(message, hint="check owner and mode of the file") from error
    try:
        secrets = msgspec.json.decode(raw, type=Secrets)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{path} is no secrets file, or a torn one: {error}"
        hint = "restore it from a backup; a new key makes all API credentials useless"
        raise ConfigError(message, hint=hint) from error
    _check_key(secrets.secret_key)
    return secrets


def _check_key(key: str) -> None:
    if len(key) < MIN_KEY_LENGTH:
        message = f"the secret key has {len(key)} characters; at least {MIN_KEY_LENGTH} are needed"
        raise ConfigError(message, hint="--generate makes a strong one")

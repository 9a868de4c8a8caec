"""The REST API as seen from the command line: over HTTP, or called in this process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    RemoteDisconnected,
)
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import click

from everbell import __version__
from everbell.cli.base import ApiError, State, Unreachable, UsageError, warn
from everbell.config.loader import Loaded, load_settings
from everbell.config.secrets import Secrets, load_secrets, permission_note, require_secrets
from everbell.domain.errors import ConfigError

PREFIX = "/api/v1"
TIMEOUT_S = 30.0
STREAM_TIMEOUT_S = 90.0
"""A follower hears a comment at least every few seconds; silence this long is a dead peer."""

Query = dict[str, Any]
Left = Callable[[], float]
Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class ApiClient(ABC):
    """One server. Errors of the API are raised as ApiError, silence as Unreachable."""

    @abstractmethod
    def exchange(
        self, method: str, path: str, body: bytes | None, query: Query
    ) -> tuple[int, bytes]:
        """Send one request; return status and body."""

    @abstractmethod
    def chunks(self, path: str, query: Query, left: Left | None = None) -> Iterator[bytes]:
        """GET a stream and yield its bytes as they come.

        ``left`` tells how many seconds may still pass. Raises ApiError, TimeoutError.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and store."""

    def request(
        self, method: str, path: str, *, body: Any = None, query: Query | None = None
    ) -> tuple[int, Any]:
        """Send JSON; return status and decoded body (None if empty)."""
        try:
            sent = None if body is None else json.dumps(body, allow_nan=False).encode()
        except ValueError as error:
            message = f"a number can't be sent: {error}"
            raise UsageError(message, hint="nan and inf are no numbers here") from None
        status, raw = self.exchange(method, path, sent, query or {})
        return status, _decode(status, raw)

    def call(
        self, method: str, path: str, *, body: Any = None, query: Query | None = None
    ) -> dict[str, Any]:
        """Send JSON and return the answer's envelope. Raises ApiError."""
        status, answer = self.request(method, path, body=body, query=query)
        if status >= 400:
            raise ApiError(status, answer if isinstance(answer, dict) else {})
        return answer if isinstance(answer, dict) else {}

    def pages(self, path: str, query: Query, limit: int) -> dict[str, Any]:
        """Collect up to ``limit`` items of a list, page by page, in one envelope."""
        items: list[Any] = []
        ask = dict(query)
        while True:
            ask["limit"] = min(limit - len(items), 200)
            answer = self.call("GET", path, query=ask)
            data = answer.get("data") or []
            items.extend(data)
            following = _following(answer, ask, len(data))
            if len(items) >= limit or not data or following is None:
                return {**answer, "data": items}
            ask = following

    def text(self, path: str, query: Query | None = None) -> bytes:
        """GET a text. Raises ApiError."""
        status, raw = self.exchange("GET", path, None, query or {})
        if status >= 400:
            answer = _decode(status, raw)
            raise ApiError(status, answer if isinstance(answer, dict) else {})
        return raw

    def events(
        self, path: str, query: Query, left: Left | None = None
    ) -> Iterator[tuple[str, str]]:
        """GET server-sent events; yield name and data. Raises ApiError, TimeoutError."""
        return parse_events(self.chunks(path, query, left))


def _following(answer: dict[str, Any], ask: Query, got: int) -> Query | None:
    """Return the query of the next page: by cursor where there is one, else by offset."""
    page = answer.get("page") or answer.get("meta") or {}
    if page.get("next"):
        return {**ask, "cursor": page["next"]}
    total = page.get("total")
    offset = int(page.get("offset") or 0) + got
    if isinstance(total, int) and "offset" in page and offset < total:
        return {**ask, "offset": offset}
    return None


def seg(key: object) -> str:
    """Return one path segment, quoted."""
    return quote(str(key), safe="")


def _decode(status: int, raw: bytes) -> Any:
    if not raw.strip():
        return None
    try:
        return json.loads(raw)
    except ValueError:
        if status >= 400:
            return {"detail": f"the server answered {status}, not in the form of this API"}
        message = "the answer is not JSON: is this an Everbell server?"
        raise Unreachable(message, hint="check --server") from None


def parse_events(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Read server-sent events from bytes cut anywhere."""
    rest = b""
    name, data = "message", list[str]()
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if not line:
                if data:
                    yield name, "\n".join(data)
                name, data = "message", []
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)


def _target(path: str, query: Query) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return PREFIX + path + ("?" + urlencode(given) if given else "")


# --- over HTTP -----------------------------------------------------------------------------------


class RemoteClient(ApiClient):
    """A server at a URL. Raises UsageError for a URL that can't be one."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
            message = f"`{url}` is no server address"
            raise UsageError(message, hint="as in http://127.0.0.1:9091")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._base = parts.path.rstrip("/").removesuffix(PREFIX)
        self._connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._address = (parts.hostname, port)
        self._headers = {
            "accept": "application/json",
            "user-agent": f"everbell-cli/{__version__}",
            **headers,
        }

    def exchange(
        self, method: str, path: str, body: bytes | None, query: Query
    ) -> tuple[int, bytes]:
        """Send one request over its own connection. Raises Unreachable."""
        connection = self._connect(*self._address, timeout=TIMEOUT_S)
        headers = dict(self._headers)
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, self._base + _target(path, query), body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def chunks(self, path: str, query: Query, left: Left | None = None) -> Iterator[bytes]:
        """Yield a stream's bytes as they come. Raises Unreachable, ApiError, TimeoutError."""
        connection = self._connect(*self._address, timeout=STREAM_TIMEOUT_S)
        headers = {**self._headers, "accept": "text/event-stream"}
        try:
            connection.request("GET", self._base + _target(path, query), None, headers)
            sock = connection.sock  # getresponse() may let go of it
            answer = connection.getresponse()
            if answer.status >= 400:
                problem = _decode(answer.status, answer.read())
                raise ApiError(answer.status, problem if isinstance(problem, dict) else {})
            while chunk := _read(sock, answer, left):
                yield chunk
        except TimeoutError as error:
            if left is not None and left() <= 0:
                raise
            raise self._unreachable(error) from error
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _unreachable(self, error: Exception) -> Unreachable:
        why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        if isinstance(error, HTTPException):
            why = "the connection broke off" if _broke_off(error) else "it does not speak HTTP"
        message = f"can't reach the server at {self.url} ({why})"
        hint = "start one with `everbell start`, or name another with --server"
        return Unreachable(message, hint=hint)

    def close(self) -> None:
        """Nothing stays open between requests."""


def _broke_off(error: HTTPException) -> bool:
    return isinstance(error, IncompleteRead | RemoteDisconnected)


def _read(sock: socket, answer: HTTPResponse, left: Left | None) -> bytes:
    if left is not None:
        sock.settimeout(min(STREAM_TIMEOUT_S, max(0.001, left())))
    return answer.read1(65536)


# --- in this process -----------------------------------------------------------------------------


class LocalClient(ApiClient):
    """The application over the store of this directory, as its administrator.

    Works whether or not a node runs: the store is the meeting point. ``everbell.local`` in the
    ASGI scope is the proof of origin; no request over a socket can set it.
    """

    def __init__(self, loaded: Loaded, secrets: Secrets) -> None:
        self._runner = asyncio.Runner()
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._app: App | None = None
        try:
            self._runner.run(self._open(loaded, secrets))
        except BaseException:
            self._runner.close()
            raise

    async def _open(self, loaded: Loaded, secrets: Secrets) -> None:
        opened: asyncio.Future[App] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(loaded, secrets, opened))
        # Whatever way the keeper ends, nobody may wait for it for ever.
        both: set[asyncio.Future[Any]] = {self._keeper, opened}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            await self._keeper
        self._app = opened.result()

    async def _keep(self, loaded: Loaded, secrets: Secrets, opened: asyncio.Future[App]) -> None:
        """Enter and leave the application in one task, as cancel scopes require."""
        from everbell.bootstrap import open_local

        async with open_local(loaded, secrets) as app:
            opened.set_result(app)
            await self._closing.wait()

    def exchange(
        self, method: str, path: str, body: bytes | None, query: Query
    ) -> tuple[int, bytes]:
        """Call the application once."""
        return self._runner.run(self._exchange(method, path, body, query))

    async def _exchange(
        self, method: str, path: str, body: bytes | None, query: Query
    ) -> tuple[int, bytes]:
        call = _Call(self._need_app(), method, _target(path, query), body)
        try:
            status = await call.status()
            return status, b"".join([chunk async for chunk in call.body()])
        finally:
            await call.close()

    def chunks(self, path: str, query: Query, left: Left | None = None) -> Iterator[bytes]:
        """Yield a stream's bytes as the application sends them. Raises ApiError, TimeoutError."""
        call = self._runner.run(self._begin(path, query))
        try:
            body = call.body()
            while (chunk := self._runner.run(_next(body, left))) is not None:
                yield chunk
        finally:
            self._runner.run(call.close())

    async def _begin(self, path: str, query: Query) -> _Call:
        call = _Call(self._need_app(), "GET", _target(path, query), None)
        status = await call.status()
        if status >= 400:
            raw = b"".join([chunk async for chunk in call.body()])
            problem = _decode(status, raw)
            raise ApiError(status, problem if isinstance(problem, dict) else {})
        return call

    def _need_app(self) -> App:
        assert self._app is not None, "opened in the constructor"
        return self._app

    def close(self) -> None:
        """Close the store."""
        if self._keeper is not None and not self._keeper.done():
            self._runner.run(self._leave(self._keeper))
        self._runner.close()

    async def _leave(self, keeper: asyncio.Task[None]) -> None:
        self._closing.set()
        await keeper


async def _next(body: AsyncIterator[bytes], left: Left | None) -> bytes | None:
    async with asyncio.timeout(None if left is None else max(0.0, left())):
        return await anext(body, None)


class _Call:
    """One ASGI call whose answer can be read while it is made."""

    def __init__(self, app: App, method: str, target: str, body: bytes | None) -> None:
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._request: list[Message] = [{"type": "http.request", "body": body or b""}]
        self._done = asyncio.Event()
        self._task = asyncio.create_task(self._drive(app, _scope(method, target, body)))

    async def _drive(self, app: App, scope: Message) -> None:
        try:
            await app(scope, self._receive, self._messages.put)
        finally:
            self._messages.put_nowait(None)

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._done.wait()
        return {"type": "http.disconnect"}

    async def status(self) -> int:
        """Wait for the head of the answer."""
        message = await self._messages.get()
        if message is None:
            await self._task
            raise Unreachable("the application gave no answer")
        return int(message["status"])

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the parts of the answer's body."""
        while (message := await self._messages.get()) is not None:
            if message.get("body"):
                yield bytes(message["body"])
            if not message.get("more_body"):
                return

    async def close(self) -> None:
        """End the call: the application sees a client that went away."""
        self._done.set()
        if not self._task.done():
            await asyncio.wait({self._task}, timeout=1.0)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _scope(method: str, target: str, body: bytes | None) -> Message:
    path, _, query = target.partition("?")
    headers = [(b"host", b"localhost"), (b"accept", b"*/*")]
    if body is not None:
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(body)).encode()))
    from urllib.parse import unquote

    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("local", 0),
        "server": ("localhost", 0),
        "everbell.local": True,
    }


# --- which one -----------------------------------------------------------------------------------


def connect(at: State) -> ApiClient:
    """Return the client that the options and the directory ask for; closed with the command.

    ``--server`` or EVERBELL_SERVER: that server. Else the store of this directory. Raises
    ConfigError if there is neither.
    """
    url = at.server or os.environ.get("EVERBELL_SERVER")
    client = RemoteClient(url, _headers(at, url)) if url else _local(at)
    click.get_current_context().call_on_close(client.close)
    return client


def _local(at: State) -> ApiClient:
    loaded = at.load(tell=False)
    url = loaded.settings.database.url
    if url.startswith("memory:"):
        server = loaded.settings.server
        address = f"http://{server.host}:{server.port}"
        return RemoteClient(address, _headers(at, address))
    file = Path(loaded.directory) / url.removeprefix("sqlite:///") if "sqlite:" in url else None
    if loaded.path is None and file is not None and not file.exists():
        message = f"neither a configuration nor a database in {loaded.directory}"
        raise ConfigError(message, hint="`everbell init` makes them; or name a --server")
    if note := permission_note(loaded.directory):
        warn(note)
    _hide_request_log()
    return LocalClient(loaded, require_secrets(loaded.directory, os.environ, file))


def _hide_request_log() -> None:
    """Keep to stderr only what the answer does not say: the trace of a broken promise."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: bool(record.exc_info))
    logging.getLogger("everbell").handlers = [handler]


def _headers(at: State, url: str) -> dict[str, str]:
    key, secret = os.environ.get("EVERBELL_API_KEY"), os.environ.get("EVERBELL_API_SECRET")
    if key and secret:
        return {"x-api-key": key, "x-secret-key": secret}
    own = _own_key(at, url)
    return own or {}


def _own_key(at: State, url: str) -> dict[str, str] | None:
    """Return this directory's own credential, but only for this directory's own server."""
    try:
        path = Path(at.config).expanduser() if at.config else None
        loaded = load_settings(path, os.environ, at.overrides)
        secrets = load_secrets(loaded.directory, os.environ)
    except ConfigError:
        return None
    if secrets is None or secrets.cli is None or not _same_server(loaded, url):
        return None
    return {"x-api-key": secrets.cli.api_key, "x-secret-key": secrets.cli.api_secret}


def _same_server(loaded: Loaded, url: str) -> bool:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    server = loaded.settings.server
    names = {server.host, "127.0.0.1", "localhost", "::1"}
    try:
        return parts.hostname in names and parts.port == server.port
    except ValueError:
        return False

"""A client for ASGI applications in this process: no socket, no thread."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope


class Answer:
    """What the application sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The ``data`` of the envelope."""
        return self.json()["data"]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class AsgiClient:
    """Calls an application; ``headers`` go with every request, ``local`` marks the scope."""

    def __init__(
        self, app: ASGIApp, *, headers: Mapping[str, str] | None = None, local: bool = False
    ) -> None:
        self.app = app
        self.headers = dict(headers or {})
        self.local = local

    async def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        chunks: Sequence[bytes] | None = None,
    ) -> Answer:
        """Send a request: ``body`` as JSON, or ``chunks`` of raw bytes."""
        every = {**self.headers, **(headers or {})}
        parts = list(chunks) if chunks is not None else []
        if chunks is None and body is not None:
            parts = [json.dumps(body).encode()]
            every.setdefault("content-type", "application/json")
        scope = self._scope(method, target, {k: v for k, v in every.items() if v})
        answer = Answer()

        async def receive() -> Message:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            elif message["type"] == "http.response.body":
                answer.body += message.get("body", b"")

        await self.app(scope, receive, send)
        return answer

    def _scope(self, method: str, target: str, headers: Mapping[str, str]) -> Scope:
        path, _, query = target.partition("?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "server": ("127.0.0.1", 9091),
            "client": ("127.0.0.1", 50000),
        }
        if self.local:
            scope["everbell.local"] = True
        return scope

    async def get(self, target: str, **rest: Any) -> Answer:
        """GET."""
        return await self.request("GET", target, **rest)

    async def post(self, target: str, body: Any = None, **rest: Any) -> Answer:
        """POST JSON."""
        return await self.request("POST", target, body, **rest)

    async def put(self, target: str, body: Any = None, **rest: Any) -> Answer:
        """PUT JSON."""
        return await self.request("PUT", target, body, **rest)

    async def patch(self, target: str, body: Any = None, **rest: Any) -> Answer:
        """PATCH JSON."""
        return await self.request("PATCH", target, body, **rest)

    async def delete(self, target: str, **rest: Any) -> Answer:
        """DELETE."""
        return await self.request("DELETE", target, **rest)

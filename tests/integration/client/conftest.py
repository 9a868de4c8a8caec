"""A node of its own, and both clients behind one face, so that each test is run with both."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from everbell.client import AsyncClient, Client


def _load() -> Any:
    path = Path(__file__).parents[2] / "e2e" / "nodes.py"
    spec = importlib.util.spec_from_file_location("everbell_client_nodes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["everbell_client_nodes"] = module
    spec.loader.exec_module(module)
    return module


nodes = _load()


class Face:
    """One of the clients; ``do`` gives what it gives, whether it waits for it or not."""

    def __init__(self, kind: str, *words: Any, **options: Any) -> None:
        self.runner = asyncio.Runner() if kind == "async" else None
        self.client: Any = (AsyncClient if self.runner else Client)(*words, **options)

    def do(self, what: Callable[[Any], Any]) -> Any:
        if self.runner is None:
            found = what(self.client)
            return list(found) if hasattr(found, "__iter__") and not _is_value(found) else found

        async def wait() -> Any:
            found = what(self.client)
            if hasattr(found, "__aiter__"):
                return [one async for one in found]
            return await found

        return self.runner.run(wait())

    def close(self) -> None:
        if self.runner is None:
            self.client.close()
        else:
            self.runner.run(self.client.close())
            self.runner.close()


def _is_value(found: Any) -> bool:
    return isinstance(found, (list, tuple, dict, bytes, str))


@pytest.fixture(params=["sync", "async"])
def make_face(request: pytest.FixtureRequest) -> Iterator[Callable[..., Face]]:
    made: list[Face] = []

    def make(*words: Any, **options: Any) -> Face:
        made.append(Face(request.param, *words, **options))
        return made[-1]

    make.kind = request.param  # type: ignore[attr-defined]
    yield make
    for face in made:
        face.close()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    it = nodes.NodeProcess(tmp_path_factory.mktemp("client") / "node")
    made = json.loads(it.cli("create", "credential", "--scope", "admin", "--json"))["data"]
    it.headers = {"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]}
    it.start()
    yield it
    it.close()


@pytest.fixture
def face(node: Any, make_face: Callable[..., Face]) -> Face:
    keys = (node.headers["x-api-key"], node.headers["x-secret-key"])
    return make_face(f"http://127.0.0.1:{node.port}", *keys)

"""Fixtures of the real-process tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.proof.cluster import Proof


def _load() -> ModuleType:
    path = Path(__file__).with_name("nodes.py")
    spec = importlib.util.spec_from_file_location("everbell_e2e_nodes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["everbell_e2e_nodes"] = module
    spec.loader.exec_module(module)
    return module


nodes = _load()


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[..., nodes.NodeProcess]]:
    """Make nodes that are stopped when the test ends."""
    made: list[nodes.NodeProcess] = []

    def make(name: str = "node", **options: object) -> nodes.NodeProcess:
        node = nodes.NodeProcess(tmp_path / name, **options)
        made.append(node)
        return node

    yield make
    for node in made:
        node.close()


@pytest.fixture
def proof(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Proof]:
    """A cluster of real nodes on a database of its own, judged from outside."""
    made = Proof(tmp_path / "cluster", postgres_server.url(postgres_server.new_database()))
    yield made
    made.close()

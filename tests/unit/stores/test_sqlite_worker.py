"""Calls that wait together share a transaction, and an error stays with its own call."""

from __future__ import annotations

from functools import partial
from typing import Any

import apsw
import pytest

from everbell.domain.errors import ConflictError, StoreUnavailable
from everbell.ports.store import Page
from everbell.stores.sqlite.connection import open_writer
from everbell.stores.sqlite.projects import add_project, list_projects
from everbell.stores.sqlite.worker import Transaction
from everbell.testing.contracts.making import project


def begun() -> tuple[Transaction, list[str]]:
    """Return transactions on a fresh database, and what is begun and committed on it."""
    db = open_writer(":memory:", synchronous="full", busy_timeout_s=0.1)
    seen: list[str] = []

    def trace(_: Any, sql: str, __: Any) -> bool:
        seen.append(sql)
        return True

    db.exec_trace = trace
    return Transaction(db, ":memory:", write=True), seen


def test_a_group_is_one_transaction_and_a_refusal_undoes_only_itself() -> None:
    transaction, seen = begun()
    names = ["a", "b", "a", "c"]
    answers = transaction.run_group([partial(_add, name) for name in names])
    assert [getattr(it, "name", type(it)) for it in answers] == ["a", "b", ConflictError, "c"]
    assert seen.count("BEGIN IMMEDIATE") == seen.count("COMMIT") == 1
    found, total = transaction.run(lambda sql: list_projects(sql, None, Page()))
    assert ([it.name for it in found], total) == (["a", "b", "c"], 3)


def test_trouble_of_the_connection_undoes_the_whole_group() -> None:
    transaction, _ = begun()

    def trouble(_: apsw.Cursor) -> None:
        raise apsw.FullError("no space")

    with pytest.raises(StoreUnavailable, match="full"):
        transaction.run_group([partial(_add, "a"), trouble])
    _, total = transaction.run(lambda sql: list_projects(sql, None, Page()))
    assert total == 0


def test_an_error_that_somebody_keeps_blocks_no_later_commit() -> None:
    transaction, _ = begun()
    kept: list[BaseException] = []

    def half_read(sql: apsw.Cursor) -> None:
        sql.execute("INSERT INTO meta VALUES ('a', '1'), ('b', '2') RETURNING key").fetchone()
        raise KeyError("bug")

    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            transaction.run(half_read)
        kept.append(caught.value)
        transaction.run(partial(_add, f"p{len(kept)}"))
    assert transaction.run(lambda sql: list_projects(sql, None, Page()))[1] == 3


def _add(name: str, sql: apsw.Cursor) -> Any:
    return add_project(sql, project(name))

"""Projects, credentials, remembered answers, named values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from everbell.domain.errors import (
    NotFoundError,
    StoreConflict,
    credential_taken,
    no_such,
    project_changed,
    project_in_use,
    project_name_taken,
)
from everbell.domain.records import Credential, Project
from everbell.ports.store import Page
from everbell.stores.sqlite import rows

T = TypeVar("T")


def _find(
    sql: apsw.Cursor,
    query: str,
    key: int | str,
    columns: tuple[str, ...],
    build: Callable[[Any], T],
) -> T | None:
    """Return the row whose id is ``key``, else the one with ``key`` in one of the columns."""
    found = None
    row_id = rows.possible_id(key)
    if row_id is not None:
        found = sql.execute(f"{query} WHERE id = ?", (row_id,)).fetchone()
    for column in columns if isinstance(key, str) else ():
        if found is None:
            found = sql.execute(f"{query} WHERE {column} = ?", (key,)).fetchone()
    return None if found is None else build(found)


def add_project(sql: apsw.Cursor, project: Project) -> Project:
    """See DefinitionStore.add_project."""
    values = (
        project.uuid,
        project.name,
        project.description,
        project.created_us,
        project.updated_us,
    )
    try:
        row = sql.execute(
            "INSERT INTO projects (uuid, name, description, created_us, updated_us)"
            f" VALUES (?, ?, ?, ?, ?) RETURNING {rows.PROJECT}",
            values,
        ).fetchone()
    except apsw.ConstraintError as error:
        raise project_name_taken(project.name) from error
    return rows.project(row)


def get_project(sql: apsw.Cursor, key: int | str) -> Project:
    """See DefinitionStore.get_project."""
    query = f"SELECT {rows.PROJECT} FROM projects"
    found = _find(sql, query, key, ("uuid", "name"), rows.project)
    if found is None:
        raise no_such("project", key)
    return found


def list_projects(
    sql: apsw.Cursor, ids: tuple[int, ...] | None, page: Page
) -> tuple[list[Project], int]:
    """See DefinitionStore.list_projects."""
    where = "" if ids is None else f" WHERE id IN ({rows.marks(len(ids))})"
    values = ids or ()
    found = sql.execute(
        f"SELECT {rows.PROJECT} FROM projects{where} ORDER BY id LIMIT ? OFFSET ?",
        (*values, page.limit, page.offset),
    ).fetchall()
    total = sql.execute(f"SELECT count(*) FROM projects{where}", values).get
    return [rows.project(row) for row in found], total


def change_project(sql: apsw.Cursor, project: Project, expected_us: int | None) -> Project:
    """See DefinitionStore.change_project."""
    try:
        row = sql.execute(
            "UPDATE projects SET name = ?1, description = ?2, updated_us = ?3 WHERE id = ?4"
            f" AND (?5 IS NULL OR updated_us = ?5) RETURNING {rows.PROJECT}",
            (project.name, project.description, project.updated_us, project.id, expected_us),
        ).fetchone()
    except apsw.ConstraintError as error:
        raise project_name_taken(project.name) from error
    if row is None:
        raise _not_that_project(sql, project.id)
    return rows.project(row)


def _not_that_project(sql: apsw.Cursor, project_id: int) -> NotFoundError | StoreConflict:
    """Say why no row was met: there is none, or it was changed meanwhile."""
    if sql.execute("SELECT 1 FROM projects WHERE id = ?", (project_id,)).get is None:
        return no_such("project", project_id)
    return project_changed(project_id)


def delete_project(sql: apsw.Cursor, project_id: int, expected_us: int | None) -> None:
    """See DefinitionStore.delete_project."""
    if sql.execute("SELECT 1 FROM jobs WHERE project_id = ? LIMIT 1", (project_id,)).get:
        raise project_in_use()
    sql.execute(
        "DELETE FROM projects WHERE id = ?1 AND (?2 IS NULL OR updated_us = ?2)",
        (project_id, expected_us),
    )
    if not sql.connection.changes():
        raise _not_that_project(sql, project_id)
    sql.execute("DELETE FROM holds WHERE scope = 'project' AND target_id = ?", (project_id,))
    sql.execute("UPDATE credentials SET archived = 1 WHERE project_id = ?", (project_id,))


def add_credential(sql: apsw.Cursor, credential: Credential) -> Credential:
    """See DefinitionStore.add_credential."""
    values = (
        credential.uuid,
        credential.name,
        credential.api_key,
        credential.secret_hash,
        " ".join(credential.scopes),
        credential.project_id,
        credential.created_us,
        credential.expires_us,
        credential.archived,
        credential.old_hash,
        credential.old_until_us,
    )
    try:
        row = sql.execute(
            "INSERT INTO credentials (uuid, name, api_key, secret_hash, scopes, project_id,"
            " created_us, expires_us, archived, old_hash, old_until_us)"
            f" VALUES ({rows.marks(len(values))}) RETURNING {rows.CREDENTIAL}",
            values,
        ).fetchone()
    except apsw.ConstraintError as error:
        raise credential_taken() from error
    return rows.credential(row)


def find_credential(sql: apsw.Cursor, api_key: str) -> Credential | None:
    """See DefinitionStore.find_credential."""
    row = sql.execute(
        f"SELECT {rows.CREDENTIAL} FROM credentials WHERE api_key = ?", (api_key,)
    ).fetchone()
    return None if row is None else rows.credential(row)


def get_credential(sql: apsw.Cursor, key: int | str) -> Credential:
    """See DefinitionStore.get_credential."""
    query = f"SELECT {rows.CREDENTIAL} FROM credentials"
    found = _find(sql, query, key, ("uuid", "api_key"), rows.credential)
    if found is None:
        raise no_such("credential", key)
    return found


def list_credentials(sql: apsw.Cursor, page: Page) -> tuple[list[Credential], int]:
    """See DefinitionStore.list_credentials."""
    found = sql.execute(
        f"SELECT {rows.CREDENTIAL} FROM credentials ORDER BY id LIMIT ? OFFSET ?",
        (page.limit, page.offset),
    ).fetchall()
    total = sql.execute("SELECT count(*) FROM credentials").get
    return [rows.credential(row) for row in found], total


def change_credential(sql: apsw.Cursor, credential: Credential) -> Credential:
    """See DefinitionStore.change_credential."""
    row = sql.execute(
        "UPDATE credentials SET secret_hash = ?, scopes = ?, expires_us = ?, archived = ?,"
        f" old_hash = ?, old_until_us = ? WHERE id = ? RETURNING {rows.CREDENTIAL}",
        (
            credential.secret_hash,
            " ".join(credential.scopes),
            credential.expires_us,
            credential.archived,
            credential.old_hash,
            credential.old_until_us,
            credential.id,
        ),
    ).fetchone()
    if row is None:
        raise no_such("credential", credential.id)
    return rows.credential(row)


def remember(sql: apsw.Cursor, scope: str, key: str, value: bytes, now_us: int) -> bytes | None:
    """See DefinitionStore.remember."""
    row = sql.execute(
        "SELECT value FROM remembered WHERE scope = ? AND key = ?", (scope, key)
    ).fetchone()
    if row is not None:
        return bytes(row[0])
    sql.execute("INSERT INTO remembered VALUES (?, ?, ?, ?)", (scope, key, value, now_us))
    return None


def meta(sql: apsw.Cursor, key: str, value: str | None) -> str:
    """See DefinitionStore.meta."""
    if value is not None:
        sql.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", (key, value))
    row = sql.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return "" if row is None else str(row[0])

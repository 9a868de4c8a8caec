"""Projects, credentials, remembered answers, named values."""

from __future__ import annotations

from typing import Any

import asyncpg

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
from everbell.stores.postgres import locks, rows
from everbell.stores.postgres.session import Sql


async def find(sql: Sql, query: str, key: int | str, columns: tuple[str, ...]) -> Any:
    """Return the row whose id is ``key``, else the one with ``key`` in one of the columns."""
    row_id = rows.possible_id(key)
    found = None if row_id is None else await sql.row(f"{query} WHERE id = $1", row_id)
    for column in columns if isinstance(key, str) else ():
        if found is None:
            found = await sql.row(f"{query} WHERE {column} = $1", key)
    return found


async def add_project(sql: Sql, project: Project) -> Project:
    """See DefinitionStore.add_project."""
    [new_id] = await locks.new_ids(sql, "projects")
    try:
        [row] = await sql.made(
            f"INSERT INTO projects ({rows.PROJECT}) VALUES ($1, $2, $3, $4, $5, $6)"
            f" RETURNING {rows.PROJECT}",
            new_id,
            project.uuid,
            project.name,
            project.description,
            project.created_us,
            project.updated_us,
        )
    except asyncpg.UniqueViolationError as error:
        raise project_name_taken(project.name) from error
    return Project(**dict(row))


async def get_project(sql: Sql, key: int | str) -> Project:
    """See DefinitionStore.get_project."""
    row = await find(sql, f"SELECT {rows.PROJECT} FROM projects", key, ("uuid", "name"))
    if row is None:
        raise no_such("project", key)
    return Project(**dict(row))


async def list_projects(
    sql: Sql, ids: tuple[int, ...] | None, page: Page
) -> tuple[list[Project], int]:
    """See DefinitionStore.list_projects."""
    where = "FROM projects WHERE $1::bigint[] IS NULL OR id = ANY ($1::bigint[])"
    found = await sql.rows(
        f"SELECT {rows.PROJECT} {where} ORDER BY id LIMIT $2 OFFSET $3",
        ids,
        page.limit,
        page.offset,
    )
    total = await sql.value(f"SELECT count(*) {where}", ids)
    return [Project(**dict(row)) for row in found], total


async def change_project(sql: Sql, project: Project, expected_us: int | None) -> Project:
    """See DefinitionStore.change_project."""
    try:
        made = await sql.made(
            "UPDATE projects SET name = $1, description = $2, updated_us = $3 WHERE id = $4"
            f" AND ($5::bigint IS NULL OR updated_us = $5) RETURNING {rows.PROJECT}",
            project.name,
            project.description,
            project.updated_us,
            project.id,
            expected_us,
        )
    except asyncpg.UniqueViolationError as error:
        raise project_name_taken(project.name) from error
    if not made:
        raise await _not_that_project(sql, project.id)
    return Project(**dict(made[0]))


async def _not_that_project(sql: Sql, project_id: int) -> NotFoundError | StoreConflict:
    """Say why no row was met: there is none, or it was changed meanwhile."""
    if await sql.value("SELECT 1 FROM projects WHERE id = $1", project_id) is None:
        return no_such("project", project_id)
    return project_changed(project_id)


async def delete_project(sql: Sql, project_id: int, expected_us: int | None) -> None:
    """See DefinitionStore.delete_project."""
    await locks.alone(sql)
    if await sql.value("SELECT 1 FROM jobs WHERE project_id = $1 LIMIT 1", project_id):
        raise project_in_use()
    if not await sql.change(
        "DELETE FROM projects WHERE id = $1 AND ($2::bigint IS NULL OR updated_us = $2)",
        project_id,
        expected_us,
    ):
        raise await _not_that_project(sql, project_id)
    await sql.change("DELETE FROM holds WHERE scope = 'project' AND target_id = $1", project_id)
    await sql.change("UPDATE credentials SET archived = true WHERE project_id = $1", project_id)


async def add_credential(sql: Sql, credential: Credential) -> Credential:
    """See DefinitionStore.add_credential."""
    [new_id] = await locks.new_ids(sql, "credentials")
    try:
        [row] = await sql.made(
            f"INSERT INTO credentials ({rows.CREDENTIAL}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"
            f" $9, $10, $11, $12) RETURNING {rows.CREDENTIAL}",
            new_id,
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
    except asyncpg.UniqueViolationError as error:
        raise credential_taken() from error
    return rows.credential(row)


async def find_credential(sql: Sql, api_key: str) -> Credential | None:
    """See DefinitionStore.find_credential."""
    if not _storable(api_key):
        return None
    row = await sql.row(f"SELECT {rows.CREDENTIAL} FROM credentials WHERE api_key = $1", api_key)
    return None if row is None else rows.credential(row)


def _storable(text: str) -> bool:
    return rows.clean(text) == text


async def get_credential(sql: Sql, key: int | str) -> Credential:
    """See DefinitionStore.get_credential."""
    query = f"SELECT {rows.CREDENTIAL} FROM credentials"
    row = await find(sql, query, key, ("uuid", "api_key"))
    if row is None:
        raise no_such("credential", key)
    return rows.credential(row)


async def list_credentials(sql: Sql, page: Page) -> tuple[list[Credential], int]:
    """See DefinitionStore.list_credentials."""
    found = await sql.rows(
        f"SELECT {rows.CREDENTIAL} FROM credentials ORDER BY id LIMIT $1 OFFSET $2",
        page.limit,
        page.offset,
    )
    total = await sql.value("SELECT count(*) FROM credentials")
    return [rows.credential(row) for row in found], total


async def change_credential(sql: Sql, credential: Credential) -> Credential:
    """See DefinitionStore.change_credential."""
    made = await sql.made(
        "UPDATE credentials SET secret_hash = $1, scopes = $2, expires_us = $3, archived = $4,"
        f" old_hash = $5, old_until_us = $6 WHERE id = $7 RETURNING {rows.CREDENTIAL}",
        credential.secret_hash,
        " ".join(credential.scopes),
        credential.expires_us,
        credential.archived,
        credential.old_hash,
        credential.old_until_us,
        credential.id,
    )
    if not made:
        raise no_such("credential", credential.id)
    return rows.credential(made[0])


async def remember(sql: Sql, scope: str, key: str, value: bytes, now_us: int) -> bytes | None:
    """See DefinitionStore.remember."""
    if await sql.change(
        "INSERT INTO remembered VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        scope,
        key,
        value,
        now_us,
    ):
        return None
    found: bytes | None = await sql.value(
        "SELECT value FROM remembered WHERE scope = $1 AND key = $2", scope, key
    )
    return found


async def meta(sql: Sql, key: str, value: str | None) -> str:
    """See DefinitionStore.meta."""
    if value is not None:
        await sql.change("INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO NOTHING", key, value)
    found = await sql.value("SELECT value FROM meta WHERE key = $1", key)
    return "" if found is None else str(found)

"""The tables: checked when a database is opened, and brought up to date beside running nodes."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import asyncpg

from everbell.domain.errors import StoreCorrupt, StoreUnavailable

MIGRATION_S = 3600.0
LOCK_S = 1.0
"""A migration queues so long for a table, and everybody else behind it; then it lets them pass."""
PASS_S = 0.5
TRIES = 60
OLDEST = 14
_MIGRATING = 0x45564231
# Whoever may use the jobs, so may use what is new.
_SAME_RIGHTS = """
DO $$
DECLARE who text;
BEGIN
    FOR who IN SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
        FROM pg_class, aclexplode(relacl) WHERE oid = 'everbell.jobs'::regclass
        AND grantee <> relowner AND privilege_type = 'UPDATE' LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA everbell TO ' || who;
        EXECUTE 'GRANT USAGE ON ALL SEQUENCES IN SCHEMA everbell TO ' || who;
        EXECUTE 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA everbell TO ' || who;
    END LOOP;
END
$$;
"""
# CASE: the planner may ask for rights in any order otherwise, also those of another kind of thing.
_MISSING = """
SELECT CASE relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || relname FROM pg_class
    WHERE relnamespace = to_regnamespace('everbell') AND NOT relispartition AND CASE
        WHEN relkind = 'S' THEN NOT has_sequence_privilege(oid, 'USAGE')
        WHEN relkind = 'v' OR relname IN ('partitions', 'schema_version')
            THEN NOT has_table_privilege(oid, 'SELECT')
        WHEN relkind IN ('r', 'p') THEN NOT (has_table_privilege(oid, 'SELECT')
            AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
            AND has_table_privilege(oid, 'DELETE'))
        ELSE false END
UNION ALL SELECT 'function ' || proname FROM pg_proc
    WHERE pronamespace = to_regnamespace('everbell') AND NOT has_function_privilege(oid, 'EXECUTE')
ORDER BY 1
"""
_GRANTS = (
    "as the owner: GRANT USAGE ON SCHEMA everbell TO {0};"
    " GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA everbell TO {0};"
    " GRANT USAGE ON ALL SEQUENCES IN SCHEMA everbell TO {0};"
    " GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA everbell TO {0}"
)


def migrations() -> list[tuple[int, str]]:
    """Return the numbered migrations, in order."""
    found: list[tuple[int, str]] = []
    for item in resources.files("everbell.stores.postgres.migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", item.name)
        if match:
            found.append((int(match[1]), item.read_text(encoding="utf-8")))
    return sorted(found)


async def prepare(con: Any, where: str) -> None:
    """Check the database and bring its schema up to date; several nodes may do so at once.

    A role without the right to change tables is enough while nothing is to be changed. Raises
    StoreUnavailable (a right is missing), StoreCorrupt (a server that is too old, another program's
    schema, a newer version's, not UTF-8) and what the driver raises.
    """
    await _check_server(con, where)
    role = await con.fetchval("SELECT quote_ident(current_user)")
    if await con.fetchval(
        "SELECT NOT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'everbell'"
    ):
        raise _not_allowed(f"the role {role} may not use the schema everbell of {where}", role)
    known = migrations()
    version = await _version(con, where)
    if version > known[-1][0]:
        message = f"{where} has schema version {version}, this Everbell knows {known[-1][0]}"
        hint = "use the newer everbell, or name another database in database.url (database.name)"
        raise StoreCorrupt(message, hint=hint)
    for number, sql in known:
        if number > version:
            await _migrate(con, where, number, sql)
    missing = [row[0] for row in await con.fetch(_MISSING)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _not_allowed(f"the role {role} may not use {missing[0]}{more} of {where}", role)


async def look(con: Any, where: str) -> int:
    """Check the server and return the number of its schema, 0 = none yet; changes nothing.

    Raises StoreCorrupt, StoreUnavailable and what the driver raises.
    """
    await _check_server(con, where)
    return await _version(con, where)


def _not_allowed(message: str, role: str) -> StoreUnavailable:
    return StoreUnavailable(message, hint=_GRANTS.format(role))


async def _check_server(con: Any, where: str) -> None:
    if con.get_server_version().major < OLDEST:
        message = f"{where} is PostgreSQL {con.get_server_version().major}"
        raise StoreCorrupt(message, hint=f"move it to PostgreSQL {OLDEST} or newer")
    if (encoding := await con.fetchval("SHOW server_encoding")) != "UTF8":
        message = f"{where} is encoded as {encoding}"
        hint = (
            "name another one in database.url (database.name), made with"
            " CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
        raise StoreCorrupt(message, hint=hint)


async def _version(con: Any, where: str) -> int:
    """Return the number of the last migration; 0 = none yet."""
    # One look: another node may be making the schema right now.
    found = await con.fetch(
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'everbell' AND relkind IN ('r', 'p', 'v') ORDER BY relname"
    )
    names = [row[0] for row in found]
    if "schema_version" in names:
        try:
            newest = await con.fetchval("SELECT max(number) FROM everbell.schema_version")
        except asyncpg.InsufficientPrivilegeError as error:
            role = await con.fetchval("SELECT quote_ident(current_user)")
            message = f"the role {role} may not use the tables of {where}"
            raise _not_allowed(message, role) from error
        return int(newest or 0)
    if names:
        message = f"the schema everbell of {where} is another program's: it has {names[0]!r}"
        raise StoreCorrupt(message, hint="name another database in database.url")
    return 0


async def _migrate(con: Any, where: str, number: int, sql: str) -> None:
    for _ in range(TRIES):
        try:
            return await _try(con, where, number, sql)
        except asyncpg.LockNotAvailableError:
            await con.execute("SELECT pg_sleep($1)", PASS_S)
        except asyncpg.InsufficientPrivilegeError as error:
            raise await _not_owner(con, where, number) from error
    return await _try(con, where, number, sql)


async def _not_owner(con: Any, where: str, number: int) -> StoreUnavailable:
    role, database, owner = await con.fetchrow(
        "SELECT quote_ident(current_user), quote_ident(current_database()),"
        " (SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'everbell')"
    )
    if owner is None:
        message = f"the role {role} may not make a schema in {where}"
        return StoreUnavailable(message, hint=f"GRANT CREATE ON DATABASE {database} TO {role}")
    message = f"{where} needs the tables of schema version {number}; {role} may not change them"
    hint = f"open it once as {owner} (database.url): everbell job list"
    return StoreUnavailable(message, hint=hint)


async def _try(con: Any, where: str, number: int, sql: str) -> None:
    async with con.transaction():
        # Another node may be at it; that may take its time.
        await con.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await con.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING, timeout=MIGRATION_S)
        if await _version(con, where) >= number:
            return
        await con.execute(f"SET LOCAL lock_timeout = {int(LOCK_S * 1000)}")
        if await con.fetchval("SELECT to_regnamespace('everbell')") is None:
            await con.execute("CREATE SCHEMA everbell")
        if number == 1:
            await con.execute("CREATE TABLE schema_version (number bigint PRIMARY KEY)")
        await con.execute(sql, timeout=MIGRATION_S)
        await con.execute("INSERT INTO schema_version VALUES ($1)", number)
        await con.execute(_SAME_RIGHTS)

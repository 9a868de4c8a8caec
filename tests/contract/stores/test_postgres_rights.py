"""Nodes run as a role that may use the tables and nothing more."""

from __future__ import annotations

import asyncpg
import pytest

from everbell.domain.errors import StoreUnavailable
from everbell.domain.run import RunKey
from everbell.ports.store import RunFilter
from everbell.stores.postgres import PostgresStore
from everbell.stores.postgres.days import DAY_US
from everbell.stores.postgres.schema import _try
from everbell.testing.contracts.making import NOW, add_job, claim, claimed, decision, end, new_run
from everbell.testing.postgres_server import PostgresServer

GRANTS = (
    "GRANT USAGE ON SCHEMA everbell TO {}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA everbell TO {}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA everbell TO {}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA everbell TO {}",
)
ROLES = ("owner_role", "node_role")


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer) -> PostgresServer:
    for role in ROLES:
        postgres_server.sql(f"CREATE ROLE {role} LOGIN")
    return postgres_server


@pytest.fixture
async def name(server: PostgresServer) -> str:
    """A database whose schema belongs to owner_role; node_role has no rights yet."""
    name = server.new_database()
    server.sql(f"ALTER DATABASE {name} OWNER TO owner_role")
    store = await PostgresStore.open(server.url(name, "owner_role"))
    await store.close()
    return name


async def test_a_role_that_may_only_use_the_tables_runs_all(
    server: PostgresServer, name: str
) -> None:
    for grant in GRANTS:
        server.sql(grant.format("node_role"), name)
    store = await PostgresStore.open(server.url(name, "node_role"))
    job = await add_job(store)
    run = await claimed(store, job)
    assert [it.outcome for it in await store.finish([end(run)], NOW)] == ["stored"]
    # Partitions are made and dropped with the owner's rights.
    admin = await asyncpg.connect(server.url(name), server_settings={"search_path": "everbell"})
    day = run.key.slot_us // DAY_US
    there = "SELECT count(*) FROM partitions WHERE from_us = $1"
    assert await admin.fetchval(there, day * DAY_US) == 3
    assert await store.purge((day + 1) * DAY_US, 100) == 1
    assert await admin.fetchval(there, day * DAY_US) == 0
    owners = await admin.fetch(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'everbell'::regnamespace AND relispartition"
    )
    assert [row[0] for row in owners] == ["owner_role"]
    await admin.close()
    await store.close()


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("USAGE ON SCHEMA everbell", "the schema everbell"),
        ("SELECT ON everbell.schema_version", "the tables"),
        ("UPDATE ON everbell.jobs", "table jobs"),
        ("SELECT ON everbell.ledger", "table ledger"),
        ("USAGE ON SEQUENCE everbell.fence", "sequence fence"),
        ("EXECUTE ON FUNCTION everbell.make_day_2", "function make_day_2"),
    ],
)
async def test_a_missing_right_is_named_with_what_to_grant(
    server: PostgresServer, name: str, taken: str, said: str
) -> None:
    for grant in GRANTS:
        server.sql(grant.format("node_role"), name)
    server.sql(f"REVOKE {taken} FROM node_role", name)
    with pytest.raises(StoreUnavailable, match=said) as caught:
        await PostgresStore.open(server.url(name, "node_role"))
    # What is said helps when it is done.
    for statement in caught.value.hint.removeprefix("as the owner: ").split(";"):
        server.sql(statement, name)
    store = await PostgresStore.open(server.url(name, "node_role"))
    await store.close()


async def test_who_may_not_make_the_schema_is_told_who_may(
    server: PostgresServer, name: str
) -> None:
    bare = server.new_database()
    with pytest.raises(StoreUnavailable, match="may not make a schema") as caught:
        await PostgresStore.open(server.url(bare, "node_role"))
    server.sql(caught.value.hint, bare)
    store = await PostgresStore.open(server.url(bare, "node_role"))
    await store.close()
    for grant in GRANTS:
        server.sql(grant.format("node_role"), name)
    server.sql("DELETE FROM everbell.schema_version WHERE number > 1", name)
    with pytest.raises(StoreUnavailable, match="may not change") as caught:
        await PostgresStore.open(server.url(name, "node_role"))
    assert "owner_role" in caught.value.hint


async def test_functions_of_the_owner_look_nowhere_else(server: PostgresServer, name: str) -> None:
    """Who can make tables of its own does not lead them astray."""
    for grant in GRANTS:
        server.sql(grant.format("node_role"), name)
    con = await asyncpg.connect(server.url(name, "node_role"))
    await con.execute("CREATE TEMP TABLE partitions (LIKE everbell.partitions)")
    await con.execute(
        f"INSERT INTO partitions VALUES ('jobs', 'jobs', 0, 1), ('x', 'ended_runs', 0, {DAY_US})"
    )
    await con.execute("SET search_path = pg_temp, everbell")
    await con.execute("SELECT everbell.make_day_2(0)")
    made = await con.fetchval("SELECT count(*) FROM everbell.partitions WHERE from_us = 0")
    assert made == 3
    await con.fetch("SELECT everbell.drop_day_2(2)")
    assert await con.fetchval("SELECT count(*) FROM everbell.jobs") == 0
    await con.close()


async def test_rights_carry_over_to_what_a_migration_adds(
    server: PostgresServer, name: str
) -> None:
    for grant in GRANTS:
        server.sql(grant.format("node_role"), name)
    con = await asyncpg.connect(
        server.url(name, "owner_role"), server_settings={"search_path": "everbell"}
    )
    newest = await con.fetchval("SELECT max(number) FROM schema_version")
    await _try(con, name, newest + 1, "CREATE TABLE later (id bigint)")
    await con.execute("DELETE FROM schema_version WHERE number = $1", newest + 1)
    await con.close()
    store = await PostgresStore.open(server.url(name, "node_role"))
    job = await add_job(store)
    await store.enqueue(new_run(job), NOW)
    assert len(await store.list_runs(RunFilter(), 9)) == 1
    await store.decide("n1", [decision(job, claims=(claim(NOW),))], NOW)
    assert (await store.get_run(RunKey(NOW, job.id))).state == "claimed"
    await store.close()

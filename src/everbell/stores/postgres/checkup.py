"""What a database on a server says of its health and of the jobs in it; changes nothing."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from everbell.domain.job import US
from everbell.ports.checkup import NAMES, Checkup, Names
from everbell.ports.clock import Clock
from everbell.stores.postgres import cluster
from everbell.stores.postgres.connection import Target, Tls, connect, context
from everbell.stores.postgres.errors import translate
from everbell.stores.postgres.schema import look, migrations
from everbell.stores.postgres.session import FAILURES, Sql

OVERDUE_US = 60 * US
LONG_US = 86_400 * US
_OF_RUNS = (
    "SELECT d.name FROM runs r JOIN definitions d USING (job_id)"
    " WHERE r.state IN ('claimed', 'running') AND "
)
_ORPHANS = _OF_RUNS + (
    "NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = r.node AND n.lease_until_us >= $1"
    " AND n.state NOT IN ('dead', 'left'))"
)
_LONG = _OF_RUNS + "coalesce(r.started_us, r.claimed_us) < $1"
_OF_JOBS = "SELECT d.name FROM jobs j JOIN definitions d ON d.job_id = j.id WHERE $1 > 0 AND "
_PARKED = _OF_JOBS + "j.parked <> '' ORDER BY j.id"
_QUARANTINED = _OF_JOBS + "j.quarantined <> '' ORDER BY j.id"
_OVERDUE = (
    "SELECT d.name FROM jobs j JOIN definitions d ON d.job_id = j.id WHERE j.next_slot_us < $1"
    " AND j.enabled AND j.parked = '' AND j.quarantined = '' AND j.held = 0"
    " AND j.next_slot_us IS NOT NULL ORDER BY j.next_slot_us"
)
# Text, not JSON: a definition that can't be read must not keep the others from being looked at.
_NEVER = _OF_JOBS + (
    "j.enabled AND j.next_slot_us IS NULL AND j.parked = '' AND j.quarantined = ''"
    ' AND d.definition ~ \'"schedule": ?"\''
    " AND NOT EXISTS (SELECT 1 FROM ledger r WHERE r.job_id = j.id) ORDER BY j.id"
)
_HOLDS = "SELECT scope || ' ' || reason FROM holds WHERE $1 > 0 ORDER BY id"
_INTERPRETERS = (
    'SELECT DISTINCT substring(definition from \'"interpreter": ?"([^"]*)"\')'
    ' FROM definitions WHERE definition ~ \'"kind": ?"script"\''
)


async def check_up(url: str, tls: Tls | None, clock: Clock) -> Checkup:
    """Look at a database. Raises ConfigError, StoreCorrupt, StoreUnavailable."""
    target = Target(url, tls, name="doctor")
    try:
        con = await connect(target, context(tls) if tls is not None else None)
    except FAILURES as error:
        raise translate(error, target.where, unknown=False) from error
    try:
        return await _look(con, target.where, clock)
    except FAILURES as error:
        raise translate(error, target.where, unknown=False) from error
    finally:
        con.terminate()


async def _look(con: Any, where: str, clock: Clock) -> Checkup:
    found, newest = await look(con, where), migrations()[-1][0]
    before = clock.now_us()
    at_us = int(await con.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint"))
    now = clock.now_us()
    known = Checkup(
        schema=found,
        newest=newest,
        server=f"PostgreSQL {con.get_server_version().major} at {where}",
        clock_offset_s=(at_us - (before + now) / 2) / US,
    )
    if found != newest:  # its tables are those of another version, or not there yet
        return known
    sql = Sql(con)
    return replace(
        known,
        secret_check=str(
            await sql.value("SELECT value FROM meta WHERE key = 'secret_check'") or ""
        ),
        nodes=tuple(await cluster.list_nodes(sql)),
        orphans=await _names(sql, _ORPHANS, now),
        long=await _names(sql, _LONG, now - LONG_US),
        parked=await _names(sql, _PARKED, 1),
        quarantined=await _names(sql, _QUARANTINED, 1),
        never=await _names(sql, _NEVER, 1),
        overdue=await _names(sql, _OVERDUE, now - OVERDUE_US),
        holds=await _names(sql, _HOLDS, 1),
        interpreters=tuple(str(row[0]) for row in await sql.rows(_INTERPRETERS)),
    )


async def _names(sql: Sql, query: str, value: int) -> Names:
    count = int(await sql.value(f"SELECT count(*) FROM ({query}) q", value))
    some = await sql.rows(f"SELECT * FROM ({query}) q LIMIT {NAMES}", value)
    return Names(count=count, names=tuple(str(row[0]) for row in some))

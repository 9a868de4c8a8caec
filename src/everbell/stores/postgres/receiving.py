"""The target of a move: an empty database, filled in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import asyncpg

from everbell.domain.errors import ConfigError, ConflictError, StoreCorrupt
from everbell.domain.moving import (
    ANEW,
    CARRIED_INTO,
    MARK,
    PARTS,
    Digest,
    Move,
    Row,
    Shape,
    decode_move,
    encode_move,
)
from everbell.ports.moving import Numbers, Standing
from everbell.stores.postgres.connection import SCHEMA, Target, Tls, connect, context
from everbell.stores.postgres.errors import is_lost, translate
from everbell.stores.postgres.schema import migrations, prepare

STEP_S = 4 * 3600.0
"""A single statement may take this long: reading back a ledger of years."""
_BEGIN = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    # Each table is read as a whole once, which the settings of a node's session forbid.
    "SET LOCAL enable_seqscan = on",
)
_COLUMNS = (
    "SELECT c.relname::text AS name, a.attname::text AS column,"
    " format_type(a.atttypid, NULL) AS kind"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    " ORDER BY c.relname, a.attnum"
)
# What the first command that opens a new database makes, and what nobody misses.
_FRESH = frozenset({"meta", "projects"})
_IN_TEXT = {
    "boolean": "CASE {} WHEN true THEN 'True' WHEN false THEN 'False' END",
    "bytea": "md5({})",
    "text[]": "array_to_string({}, ' ')",
    "double precision": "encode(float8send({}), 'hex')",
}
_LOST = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
)


class PostgresReceiver:
    """Implements ``everbell.ports.moving.Receiver``; the obligations are written there."""

    def __init__(self, con: Any, where: str) -> None:
        self._con = con
        self.where = where
        self._transaction: Any = None

    @classmethod
    async def open(
        cls, url: str, *, tls: Tls | None = None, busy_timeout_s: float = 5.0
    ) -> PostgresReceiver:
        """Connect to the primary that ``url`` names; nothing is changed.

        Raises ConfigError (the URL, files of ``tls``), StoreUnavailable (not there, refused).
        """
        target = Target(url, tls, busy_timeout_s)
        try:
            con = await connect(target, context(tls) if tls is not None else None)
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            message = f"the target can't be used: {error}"
            hint = "write postgresql://user:password@host:5432/database"
            raise ConfigError(message, hint=hint) from error
        except _LOST as error:
            raise translate(error, target.where, unknown=False) from error
        return cls(con, target.where)

    @contextlib.asynccontextmanager
    async def _told(self, *, unknown: bool = False) -> AsyncIterator[None]:
        try:
            yield
        except _LOST as error:
            lost = is_lost(error, closed=self._con.is_closed())
            raise translate(error, self.where, unknown=unknown and lost) from error

    async def standing(self) -> Standing:
        """See Receiver."""
        newest = migrations()[-1][0]
        async with self._told():
            tables = await self.columns()
            if "schema_version" not in tables:
                if tables:
                    name = min(tables)
                    message = f"the schema everbell of {self.where} is another program's: {name!r}"
                    raise StoreCorrupt(message, hint="name another database")
                return Standing(schema=0, newest=newest, rows={}, move=None)
            schema = await self._con.fetchval(f"SELECT max(number) FROM {SCHEMA}.schema_version")
            if schema > newest:
                message = f"{self.where} has schema version {schema}, this Everbell knows {newest}"
                raise StoreCorrupt(message, hint="use the newer everbell")
            return Standing(
                schema=schema,
                newest=newest,
                rows=await self._filled(tables),
                move=decode_move(await self._meta()),
            )

    async def _meta(self) -> Any:
        return await self._con.fetchval(f"SELECT value FROM {SCHEMA}.meta WHERE key = $1", MARK)

    async def _filled(self, tables: Iterable[str]) -> dict[str, int]:
        """Return how many rows there are, at most 1000 by table; {} = as good as empty."""
        found: dict[str, int] = {}
        for name in sorted(set(tables) - CARRIED_INTO - ANEW):
            query = f'SELECT count(*) FROM (SELECT 1 FROM {SCHEMA}."{name}" LIMIT 1000) AS few'
            if count := await self._con.fetchval(query):
                found[name] = count
        if set(found) <= _FRESH and found.get("projects", 0) <= 1:
            return {}
        return found

    async def begin(self, move: Move, days: Sequence[int]) -> None:
        """See Receiver."""
        async with self._told():
            await prepare(self._con, self.where)
            for day in days:
                await self._con.execute(f"SELECT {SCHEMA}.make_day_2($1)", day)
            self._transaction = self._con.transaction()
            await self._transaction.start()
            for setting in _BEGIN:
                await self._con.execute(setting)
            tables = sorted(await self.columns())
            names = ", ".join(f'{SCHEMA}."{name}"' for name in tables)
            await self._con.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
            # Once more, now that nobody else can write into it.
            there = decode_move(await self._meta())
            ours = there is not None and there.state == "copied" and there.id == move.id
            if not ours and (filled := await self._filled(tables)):
                message = f"{self.where} was filled meanwhile: {min(filled)} is not empty"
                raise ConflictError(message, hint="stop what uses it, or name another database")
            moved = ", ".join(f'{SCHEMA}."{part.name}"' for part in PARTS)
            await self._con.execute(f"TRUNCATE {moved} CASCADE")

    async def columns(self) -> dict[str, dict[str, str]]:
        """See Receiver."""
        found: dict[str, dict[str, str]] = {}
        async with self._told():
            for name, column, kind in await self._con.fetch(_COLUMNS, SCHEMA):
                found.setdefault(name, {})[column] = kind
        return found

    async def put(self, shape: Shape, rows: Sequence[Row]) -> None:
        """See Receiver."""
        async with self._told():
            await self._con.copy_records_to_table(
                shape.part.name,
                records=rows,
                columns=shape.columns,
                schema_name=SCHEMA,
                timeout=STEP_S,
            )

    async def carry(self, numbers: Numbers) -> None:
        """See Receiver."""
        async with self._told():
            if numbers.token:
                await self._con.execute(f"SELECT setval('{SCHEMA}.fence', {numbers.token})")
            for name, last in numbers.ids.items():
                if name == "audit":
                    sequence = f"pg_get_serial_sequence('{SCHEMA}.audit', 'id')"
                    if last:
                        await self._con.execute(f"SELECT setval({sequence}, {last})")
                    continue
                done = await self._con.execute(
                    f"UPDATE {SCHEMA}.counters SET value = $2 WHERE name = $1", name, last
                )
                if done != "UPDATE 1":
                    message = f"{self.where} counts no {name}"
                    raise StoreCorrupt(message, hint="was it changed by hand? name an empty one")

    async def digest(self, shape: Shape) -> Digest:
        """See Receiver."""
        values = []
        for name, kind in zip(shape.columns, shape.kinds, strict=True):
            text = _IN_TEXT.get(kind, "{}::text").format(f'"{name}"')
            values.append(f"coalesce({text}, 'None')")
        row = f"md5(concat_ws(chr(31), {', '.join(values)}))"
        query = (
            f"SELECT count(*), coalesce(sum(('x' || substr({row}, 1, 15))::bit(60)::bigint), 0)"
            f" FROM {SCHEMA}.{shape.part.name} WHERE {shape.part.where}"
        )
        async with self._told():
            count, total = await self._con.fetchrow(query, timeout=STEP_S)
        return Digest(count, int(total))

    async def commit(self, move: Move) -> None:
        """See Receiver."""
        async with self._told():
            await self._mark(move)
        async with self._told(unknown=True):
            await self._transaction.commit()
        self._transaction = None
        async with self._told():
            await self._con.execute("SET statement_timeout = 0")
            # The plans of the first batches are made from these figures.
            for part in PARTS:
                await self._con.execute(f"ANALYZE {SCHEMA}.{part.name}", timeout=STEP_S)

    async def done(self, move: Move) -> None:
        """See Receiver."""
        async with self._told(unknown=True):
            await self._mark(move)

    async def _mark(self, move: Move) -> None:
        await self._con.execute(
            f"INSERT INTO {SCHEMA}.meta (key, value) VALUES ($1, $2)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            MARK,
            encode_move(move),
        )

    async def close(self) -> None:
        """See Receiver."""
        if self._transaction is not None or self._con.is_closed():
            self._con.terminate()
            return
        try:
            await self._con.close(timeout=2)
        except _LOST:
            self._con.terminate()


async def refuse_unfinished(con: Any, where: str) -> None:
    """Raise ConfigError if a move into the database is not finished.

    Its source may still be in use: a node here would start the same slots again.
    """
    text = await con.fetchval(f"SELECT value FROM {SCHEMA}.meta WHERE key = $1", MARK)
    move = decode_move(text)
    if move is not None and move.state == "copied":
        message = f"{where} holds an unfinished move of {move.source}"
        hint = f"finish it: everbell migrate --from {move.source} --to this database"
        raise ConfigError(message, hint=hint)

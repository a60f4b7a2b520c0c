"""PostgreSQL, through any driver."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dataloader.database.backends import asyncpg_detours as detours
from dataloader.database.backends import postgresql_catalog as catalog
from dataloader.database.backends import postgresql_check as checking
from dataloader.database.backends import postgresql_merge as merging
from dataloader.database.backends import postgresql_replace as replacing
from dataloader.database.backends.base import Backend, Fingerprints, PreparedStatement
from dataloader.database.backends.borrowing import BORROWED
from dataloader.database.backends.casting import cast_from_text, unnest
from dataloader.database.backends.detours import LOOPBACK
from dataloader.database.backends.operators import pin
from dataloader.database.backends.replacing import NEW, OLD
from dataloader.database.schema import (
    Fingerprint,
    ForeignKey,
    Merge,
    Merged,
    MergeTarget,
    Replaceable,
    TableName,
    TableRights,
    TableSchema,
    UniqueKey,
    grouped,
)
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.backends.checking import Finding
    from dataloader.database.backends.detours import Login

SPEAKING = "SET LOCAL client_encoding = 'UTF8'"
"""COPY's bytes are UTF-8, and asyncpg's statements, whatever the session's encoding is."""

OWN_ROWS = """CASE WHEN pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) 0 THEN
    pg_catalog.txid_status(pg_catalog.txid_current() OPERATOR(pg_catalog.-) pg_catalog.age(xmin))
    OPERATOR(pg_catalog.=) 'in progress' ELSE false END"""
"""The age is counted from the transaction's own number, below which are those that began before. Of the others, which
savepoints have or transactions that began later, a row that is seen and not yet committed is one's own."""

READING = (
    "SET LOCAL array_nulls = on",
    "SET LOCAL intervalstyle = postgres",
    "SET LOCAL quote_all_identifiers = off",
)
"""With array_nulls off NULL is a word, and sql_standard lets one sign count for what follows; the fingerprint's types
are spelled alike whatever the role's settings are."""


_SETTINGS = ("client_encoding", "array_nulls", "intervalstyle", "quote_all_identifiers", "lock_timeout")
"""What we set for a transaction."""


class PostgreSQL(Backend):
    """PostgreSQL as SQLAlchemy reaches it; asyncpg has a file of its own."""

    title = "PostgreSQL"
    port = "5432"
    settings = READING
    name_bytes = 63
    most_columns = 1_600
    folds_unquoted = True
    has_named_types = True
    json_type = postgresql.JSONB()
    inserts = "arrays"
    checks_keys_late = True
    now = sa.func.pg_catalog.clock_timestamp()
    ledger_obstacle = None
    wire_obstacle = None
    experimental = None
    adds_where_missing = True
    widening_obstacle = None
    creates_in_transaction = True
    merge_obstacle = None
    functions = "pg_catalog."
    position = "ctid"
    among = "= ANY"
    order = "dataloader_row"
    staging = TableName("pg_temp", "dataloader_staged")
    refilled = replacing.REFILLED

    @property
    def copy_obstacle(self) -> str | None:
        return f"the driver {self.dialect.driver} is not asyncpg"

    def login(self, arguments: dict[str, Any]) -> Login:
        if self.dialect.driver not in {"psycopg", "psycopg_async"}:
            hint = "Use postgresql+asyncpg:// or postgresql+psycopg://."
            raise PlanError(f"the wire of the driver {self.dialect.driver} cannot be shown", hint=hint)
        _check_cancels()
        return detours.login_of_libpq(arguments)

    def redirected(self, arguments: dict[str, Any], login: Login, ports: Sequence[int]) -> dict[str, Any]:
        given = {name: value for name, value in arguments.items() if not name.startswith("ssl")}
        given |= {"host": ",".join([LOOPBACK] * len(ports)), "port": ",".join(map(str, ports))}
        given |= dict.fromkeys(("sslmode", "gssencmode", "channel_binding"), "disable")
        given |= {"user": login.user, "dbname": login.database}
        return given if login.password is None else {"password": login.password, **given}

    def cut(self, driver: Any) -> None:
        driver.pgconn.finish()

    def prepare_connection(self, connection: AsyncConnection) -> None:
        sa.event.listen(connection.sync_connection, "before_cursor_execute", pin, retval=True)

    def borrow(self, connection: AsyncConnection) -> None:
        super().borrow(connection)
        self.prepare_connection(connection)

    def give_back(self, connection: AsyncConnection) -> None:
        """The caller's statements mean the operators that they mean."""
        super().give_back(connection)
        if sa.event.contains(connection.sync_connection, "before_cursor_execute", pin):
            sa.event.remove(connection.sync_connection, "before_cursor_execute", pin)

    async def begin(self, connection: AsyncConnection) -> None:
        await super().begin(connection)
        await connection.exec_driver_sql(SPEAKING)

    @contextlib.asynccontextmanager
    async def savepoint(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """What is set for the transaction stays when a savepoint is released, so it is set back."""
        await self.check_transactional(connection)
        async with super().savepoint(connection):
            names = [*_SETTINGS]
            before = (await connection.execute(sa.select(*map(sa.func.pg_catalog.current_setting, names)))).one()
            await connection.exec_driver_sql(SPEAKING)
            for statement in READING:
                await connection.exec_driver_sql(statement)
            yield
            back = (sa.func.pg_catalog.set_config(*one, True) for one in zip(names, before, strict=True))
            await connection.execute(sa.select(*back))

    async def configure_transaction(self, connection: AsyncConnection, lock_seconds: float) -> None:
        settings = {"lock_timeout": f"{lock_seconds * 1000:.0f}", "client_encoding": "UTF8"}
        calls = (sa.func.pg_catalog.set_config(name, value, True) for name, value in settings.items())
        await connection.execute(sa.select(*calls))

    async def check_deferred(self, connection: AsyncConnection) -> None:
        await self.execute_all(connection, ("SET CONSTRAINTS ALL IMMEDIATE",))

    async def describe(self, connection: AsyncConnection, name: TableName) -> TableSchema | None:
        return await catalog.describe(connection, name, temporary=BORROWED in connection.sync_connection.info)  # type: ignore[union-attr]

    async def qualify(self, connection: AsyncConnection, name: TableName) -> TableName:
        if name.schema is not None:
            return name
        return TableName((await connection.execute(sa.text("SELECT current_schema"))).scalar_one(), name.name)

    async def place(self, connection: AsyncConnection) -> str | None:
        """When the server was started, to the microsecond, and which of its databases it is."""
        return str((await connection.execute(catalog.PLACE)).scalar_one())

    def limit_sql(self, seconds: float | None) -> tuple[str, ...]:
        return () if seconds is None else (f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}",)

    async def is_working(self, connection: AsyncConnection, session: Any) -> bool:
        """A session is known by its process and by when the server began: another server may answer at one address."""
        if session is None:
            return await super().is_working(connection, session)
        pid, began = session
        return bool((await connection.execute(catalog.IS_WORKING, {"pid": pid, "began": began})).scalar_one())

    async def losses(self, connection: AsyncConnection, name: TableName) -> dict[str, list[str]]:
        return grouped(await connection.execute(catalog.LOSSES, {"schema": name.schema, "name": name.name}))

    async def sequences(self, connection: AsyncConnection, name: TableName, columns: Sequence[str]) -> dict[str, str]:
        found = {}
        for column in columns:
            query = sa.select(sa.func.pg_catalog.pg_get_serial_sequence(self.quote_table(name), column))
            found[column] = (await connection.execute(query)).scalar_one()
        return {column: sequence for column, sequence in found.items() if sequence is not None}

    async def advance_sequences(self, connection: AsyncConnection, name: TableName, columns: Sequence[str]) -> None:
        for column, sequence in (await self.sequences(connection, name, columns)).items():
            most = f"SELECT pg_catalog.max({self.quote(column)}) AS number FROM {self.quote_table(name)}"
            advance = sa.text(catalog.ADVANCE.format(most=most, sequence=sequence))
            await connection.execute(advance, {"sequence": sequence})

    async def fixed_columns(self, connection: AsyncConnection, name: TableName) -> dict[str, str]:
        found = await connection.execute(catalog.FIXED, {"name": self.quote_table(name)})
        return {column: why for column, why in reversed(found.all())}

    def fingerprints(self, name: TableName, columns: Sequence[str]) -> Fingerprints:
        return _Fingerprints(self, name, columns)

    async def has_row_count(self, connection: AsyncConnection, name: TableName, rows: int) -> bool:
        return True  # the fingerprint knows by itself, and the table may not be read

    def empty_table_sql(self, table: TableSchema) -> str:
        return f"TRUNCATE TABLE {_only(table)}{self.quote_table(table.name)}"

    def delete_rows_sql(self, table: TableSchema) -> str:
        return f"DELETE FROM {_only(table)}{self.quote_table(table.name)}"

    def lock_table_sql(self, name: TableName, kind: str = "table") -> tuple[str, ...]:
        if kind == "foreign table":  # of which LOCK TABLE is refused: EXPLAIN locks it as well
            return (f"EXPLAIN INSERT INTO {self.quote_table(name)} DEFAULT VALUES",)
        return (f"LOCK TABLE {self.quote_table(name)} IN ROW EXCLUSIVE MODE",)

    def lock_timeout_sql(self, lock_seconds: float) -> tuple[str, ...]:
        return (f"SET LOCAL lock_timeout = {lock_seconds * 1000:.0f}",)

    def opening_sql(self, lock_seconds: float, *locked: TableName) -> list[str]:
        return ["SET LOCAL synchronous_commit = on", *super().opening_sql(lock_seconds, *locked)]

    async def execute_ddl(self, connection: AsyncConnection, statements: Sequence[str], lock_seconds: float) -> None:
        async with connection.begin_nested():
            await super().execute_ddl(connection, (*self.lock_timeout_sql(lock_seconds), *statements), lock_seconds)

    async def unique_keys(self, connection: AsyncConnection, name: TableName) -> list[tuple[str, ...]]:
        found = await connection.execute(catalog.UNIQUE_KEYS, {"name": self.quote_table(name)})
        return list(dict.fromkeys(tuple(names) for (names,) in found))

    async def foreign_keys(self, connection: AsyncConnection, name: TableName) -> list[ForeignKey]:
        found = await self._foreign_keys.fetch(connection, name=self.quote_table(name))
        return [ForeignKey(tuple(one[0]), TableName(one[1], one[2]), tuple(one[3]), one[4]) for one in found]

    def existing_keys_query(
        self, values: list[list[Any]], types: Sequence[ColumnType], parent: sa.TableClause
    ) -> tuple[sa.Select[Any], dict[str, Any]]:
        texts = postgresql.ARRAY(sa.Text())
        parameters = {f"k{number}": part for number, part in enumerate(values)}
        arrays = [sa.bindparam(name, type_=texts) for name in parameters]
        asked = unnest(arrays).table_valued(*parameters, with_ordinality="n", name="asked").render_derived()
        equal = [
            column == cast_from_text(asked.c[key], target)
            for column, key, target in zip(parent.c, parameters, types, strict=True)
        ]
        return sa.select(asked.c.n - 1).where(sa.exists().where(*equal).select_from(parent)), parameters

    @functools.cached_property
    def _foreign_keys(self) -> PreparedStatement:
        return self.prepare(catalog.FOREIGN_KEYS)

    @functools.cached_property
    def _deferred(self) -> PreparedStatement:
        return self.prepare(catalog.DEFERRED)

    async def check_keys_immediately(self, connection: AsyncConnection, name: TableName) -> None:
        found = await self._deferred.fetch(connection, name=self.quote_table(name))
        names = [constraint for (constraint,) in found]
        if names:
            await connection.exec_driver_sql(f"SET CONSTRAINTS {', '.join(names)} IMMEDIATE")

    async def merge_target(self, connection: AsyncConnection, table: TableSchema) -> MergeTarget:
        named = {"name": self.quote_table(table.name)}
        found = await connection.execute(merging.KEYS, named)
        keys = [UniqueKey(*map(merging.as_tuple, row)) for row in found]
        facts = (await connection.execute(merging.FACTS, named)).one()
        return merging.target_of(table, keys, tuple(facts))

    async def stage(self, connection: AsyncConnection, merge: Merge) -> None:
        table = self.quote_table(merge.table)
        await connection.exec_driver_sql(merging.stage_sql(merge, self.staging, table, self.quote))
        if merge.returning:
            numbered = f"ADD COLUMN {self.order} bigint GENERATED ALWAYS AS IDENTITY"
            await connection.exec_driver_sql(f"ALTER TABLE {self.quote_table(self.staging)} {numbered}")

    async def know_staged(self, connection: AsyncConnection, merge: Merge) -> None:
        await connection.exec_driver_sql(f"ANALYZE {self.quote_table(self.staging)}")

    def _differs(self, merge: Merge, ours: str, theirs: str) -> str:
        return merging.differs(merge, ours, theirs, self.quote)

    async def _insert_or_update(self, connection: AsyncConnection, merge: Merge, staged: int) -> Merged:
        statement = merging.merge_sql(merge, self.quote_table(self.staging), self.quote_table(merge.table), self.quote)
        counted: Any = (await connection.exec_driver_sql(statement)).one()
        inserted, stored, wanted, new = counted
        if wanted is None:
            return Merged(inserted, stored - inserted, staged - stored)
        inserted = min(new, stored)
        return Merged(inserted, stored - inserted, staged - wanted)

    async def replaceable(self, connection: AsyncConnection, table: TableSchema) -> Replaceable:
        return await replacing.replaceable(connection, self.quote_table(table.name))

    def replacing_lock_sql(self, name: TableName) -> tuple[str, ...]:
        return (f"LOCK TABLE {self.quote_table(name)} IN SHARE UPDATE EXCLUSIVE MODE",)

    def beside_sql(self, table: TableSchema, beside: TableName, columns: Sequence[str] | None) -> str:
        name, new = self.quote_table(table.name), self.quote_table(beside)
        if columns is not None:
            chosen = ", ".join(map(self.quote, columns))
            return f"CREATE TABLE {new} AS SELECT {chosen} FROM {name} WITH NO DATA"
        kind = "UNLOGGED TABLE" if table.unwatched else "TABLE"  # of a table that stands alone it says only that
        return f"CREATE {kind} {new} (LIKE {name} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS)"

    async def hide(self, connection: AsyncConnection, name: TableName, beside: TableName) -> None:
        await self._carry_out(connection, await self._duties(connection, replacing.PRIVACY, name, beside))

    async def dress(self, connection: AsyncConnection, name: TableName, beside: TableName) -> None:
        await self._carry_out(connection, await self._duties(connection, replacing.DRESS, name, beside))

    async def altered(self, connection: AsyncConnection, name: TableName, beside: TableName) -> list[str]:
        return [part for (part,) in await self._duties(connection, replacing.ALTERED, name, beside)]

    async def complete(
        self, connection: AsyncConnection, name: TableName, beside: TableName, renamed: dict[str, str]
    ) -> None:
        indexes = await self._duties(connection, replacing.INDEXES, name, beside)
        renamed.update({given: own for _, given, own in indexes})
        for statement in [*indexes, *await self._duties(connection, replacing.STATISTICS, name, beside)]:
            await connection.exec_driver_sql(statement[0])
        await self._carry_out(connection, await self._duties(connection, replacing.SETTINGS, name, beside))
        await connection.exec_driver_sql(f"ANALYZE {self.quote_table(beside)}")

    async def lock_alone(self, connection: AsyncConnection, name: TableName, seconds: float) -> None:
        await self.execute_ddl(connection, [f"LOCK TABLE {self.quote_table(name)} IN ACCESS EXCLUSIVE MODE"], seconds)

    async def swap(
        self, connection: AsyncConnection, name: TableName, beside: TableName, renamed: dict[str, str]
    ) -> None:
        old = TableName(name.schema, beside.name.replace(NEW, OLD))
        duties = await self._duties(connection, replacing.DUTIES, name, beside, old=old.name)
        renaming = [
            f"ALTER TABLE {self.quote_table(before)} RENAME TO {self.quote(after.name)}"
            for before, after in ((name, old), (beside, name))
        ]
        indexes = [
            f"ALTER INDEX {self.quote_table(TableName(name.schema, given))} RENAME TO {self.quote(own)}"
            for given, own in renamed.items()
        ]
        split = [[one.statement for one in duties if (one.step > replacing.DROPPING) is late] for late in (False, True)]
        await connection.exec_driver_sql(replacing.script([*renaming, *split[0], *indexes, *split[1]]))

    async def move(
        self, connection: AsyncConnection, table: TableSchema, beside: TableName, columns: Sequence[str], how: str
    ) -> int:
        chosen = ", ".join(map(self.quote, columns))
        query = f"SELECT {chosen} FROM {self.quote_table(beside)}"
        moved = await connection.exec_driver_sql(f"INSERT INTO {self.quote_table(table.name)} ({chosen}){how} {query}")
        await self.drop(connection, [beside])
        return moved.rowcount

    async def drop(self, connection: AsyncConnection, names: Sequence[TableName]) -> None:
        for name in names:
            await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {self.quote_table(name)}")

    async def _duties(
        self, connection: AsyncConnection, query: sa.TextClause, name: TableName, beside: TableName, **more: str
    ) -> list[Any]:
        named = {"name": self.quote_table(name), "beside": self.quote_table(beside)}
        return await replacing.statements(connection, query, **named, **more)

    async def _carry_out(self, connection: AsyncConnection, found: list[Any]) -> None:
        if found:
            await connection.exec_driver_sql(replacing.script([statement for (statement,) in found]))

    async def table_rights(
        self, connection: AsyncConnection, names: Sequence[str], schema: str | None = None, target: str | None = None
    ) -> list[TableRights]:
        asked = {"schema": schema, "target": target, "names": list(names)}
        return [TableRights(*found) for found in await connection.execute(catalog.RIGHTS, asked)]

    def pin_table_sql(self, name: TableName) -> tuple[str, ...]:
        return (f"LOCK TABLE {self.quote_table(name)} IN ACCESS SHARE MODE",)

    async def advisory_lock(self, connection: AsyncConnection, key: int) -> None:
        await connection.execute(sa.text("SELECT pg_catalog.pg_advisory_xact_lock(:key)"), {"key": key})

    async def check(
        self, connection: AsyncConnection, engine: AsyncEngine, table: TableName | None, *, is_ours: bool
    ) -> list[Finding]:
        return await checking.check(connection, table, is_ours=is_ours)

    async def free_connections(self, connection: AsyncConnection) -> tuple[int, int] | None:
        return await checking.free(connection)

    async def half_of_connections(self, connection: AsyncConnection) -> int | None:
        most = (await connection.execute(sa.text(catalog.MOST_CONNECTIONS))).scalar_one()
        return max(1, int(most) // 2)

    def insert_or_skip(self, table: sa.Table) -> Any:
        return postgresql.insert(table).on_conflict_do_nothing()

    def insert_rows_query(
        self, table: sa.Table, fixed: dict[str, Any], columns: dict[str, list[Any]]
    ) -> tuple[sa.Insert, Any]:
        """Arrays are sent, ten times as fast as rows.

        They are arrays of text, of all array types the only one about which asyncpg does not ask the server, by a query
        whose operators are those of whoever comes first in the search_path.
        """
        texts = postgresql.ARRAY(sa.Text())
        values = [
            *(sa.bindparam(name, type_=table.c[name].type) for name in fixed),
            *(
                sa.cast(sa.func.pg_catalog.unnest(sa.bindparam(name, type_=texts)), table.c[name].type)
                for name in columns
            ),
        ]
        sent = {name: [None if one is None else str(one) for one in column] for name, column in columns.items()}
        return sa.insert(table).from_select([*fixed, *columns], sa.select(*values)), fixed | sent


def _only(table: TableSchema) -> str:
    """The rows of tables that inherit from it are not its own."""
    return "" if table.kind == "partitioned table" else "ONLY "


class _Fingerprints(Fingerprints):
    """One query, which can be part of another statement."""

    def __init__(self, backend: PostgreSQL, name: TableName, columns: Sequence[str]) -> None:
        query = catalog.FINGERPRINT.bindparams(schema=name.schema, name=name.name, columns=[*columns])
        self._query = backend.prepare(query)
        self.column = query.columns(sa.column("fingerprint")).scalar_subquery()

    async def take(self, connection: AsyncConnection) -> Fingerprint | None:
        found = await self._query.fetch(connection)
        return Fingerprint(*found[0][0]) if found else None


def _check_cancels() -> None:
    """Refuse a libpq before 17: its cancel waits for the other side while no other thread of this process can run.

    Raises
    ------
    PlanError
        When psycopg has such a libpq.
    """
    from psycopg import capabilities  # noqa: PLC0415 - only for its engines

    if not capabilities.has_cancel_safe():
        hint = "Update it: pip install -U 'psycopg[binary]', or use postgresql+asyncpg://."
        raise PlanError("the wire of this psycopg cannot be shown: its libpq is older than 17", hint=hint)

"""Who loads a table of PostgreSQL: each as its own documentation has it done, from the form that it takes best.

What a contender needs before its clock starts (rows as tuples, an open connection pool) is made by `prepare`; turning a
frame into what goes over the wire is its work, and is timed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import pgpq
import pyarrow as pa
import sqlalchemy as sa
from measured import Load
from sqlalchemy.ext.asyncio import AsyncEngine
from tables import Rows

import dataloader as dl
from dataloader.database import embedded


@dataclass
class Place:
    """A server, the rows that go into its table, and a folder for files."""

    server: embedded.Server
    engine: AsyncEngine
    rows: Rows
    folder: Path

    @property
    def uri(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.server.sockets}"

    @cached_property
    def sync_engine(self) -> sa.Engine:
        return sa.create_engine(self.uri.replace("postgresql:", "postgresql+psycopg:"))

    @cached_property
    def table(self) -> sa.Table:
        return sa.Table("facts", sa.MetaData(), autoload_with=self.sync_engine)

    def encoded(self, parts: int) -> list[Path]:
        """The rows as files of binary COPY, which the server itself has written: nothing is left to do for a client."""
        paths = [self.folder / f"{number}-of-{parts}.bin" for number in range(parts)]
        count = len(self.rows)
        for number, path in enumerate(paths):
            start, end = (count * at // parts for at in (number, number + 1))
            some = f"SELECT * FROM facts OFFSET {start} LIMIT {end - start}"
            self.psql(f"\\copy ({some}) to '{path}' (format binary)")
        return paths

    def psql(self, command: str) -> None:
        program = str(embedded.find_binaries() / "psql")
        subprocess.run([program, self.uri, "-q", "-v", "ON_ERROR_STOP=1", "-c", command], check=True)


@dataclass(frozen=True)
class Contender:
    """One way to load the rows.

    Attributes
    ----------
    prepare : callable
        Given the place, whose table has the rows, gives what is timed.
    needs : tuple of str
        The packages without which it is left out, and named as missing.
    watches : bool
        Whether it is asynchronous, so that the loop's longest block says something.
    """

    name: str
    prepare: Callable[[Place], Load]
    needs: tuple[str, ...] = ()
    watches: bool = False

    @property
    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


async def empty_table(place: Place) -> None:
    """The table anew, and nothing left to be written that another contender has left."""
    async with place.engine.begin() as connection:
        tables = "facts, dataloader_loads, dataloader_chunks, dataloader_rejects"
        await connection.execute(sa.text(f"DROP TABLE IF EXISTS {tables} CASCADE"))
        await connection.execute(sa.text(place.rows.create))
    async with place.engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("CHECKPOINT"))


def dataloader(**options: Any) -> Callable[[Place], Load]:
    def prepare(place: Place) -> Load:
        async def load() -> object:
            return await dl.load_dataframe(
                place.rows.frame, "facts", engine=place.engine, progress="none", resume=False, **options
            )

        return load

    return prepare


def psql(parts: int) -> Callable[[Place], Load]:
    def prepare(place: Place) -> Load:
        paths = place.encoded(parts)

        async def load() -> object:
            copies = [f"\\copy facts from '{path}' (format binary)" for path in paths]
            return await asyncio.gather(*(asyncio.to_thread(place.psql, copy) for copy in copies))

        return load

    return prepare


def threaded(work: Callable[[Place], Callable[[], object]]) -> Callable[[Place], Load]:
    """For those who block: in a thread, as a notebook would."""

    def prepare(place: Place) -> Load:
        ready = work(place)

        async def load() -> object:
            return await asyncio.to_thread(ready)

        return load

    return prepare


def adbc(place: Place) -> Callable[[], object]:
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - it may be missing

    def load() -> None:
        table = pd_to_arrow(place.rows.frame)
        with dbapi.connect(place.uri) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("facts", table, mode="append")
            connection.commit()

    return load


def pd_to_arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


@contextlib.contextmanager
def attached(uri: str) -> Iterator[Any]:
    """DuckDB with the server attached as `target`, by the extension that its wheel brings."""
    import duckdb as engine  # noqa: PLC0415
    import duckdb_extension_postgres_scanner as extension  # noqa: PLC0415

    (path,) = Path(extension.__file__).parent.glob(f"extensions/v{engine.__version__}/*.duckdb_extension")
    with engine.connect() as connection:
        connection.execute(f"LOAD '{path}'")
        connection.execute(f"ATTACH '{uri}' AS target (TYPE postgres)")
        yield connection


def duckdb(place: Place) -> Callable[[], object]:
    def load() -> None:
        with attached(place.uri) as connection:
            connection.register("given", place.rows.frame)
            connection.execute("INSERT INTO target.public.facts SELECT * FROM given")

    return load


def asyncpg_records(place: Place) -> Load:
    async def load() -> None:
        connection = await asyncpg.connect(place.uri)
        records = place.rows.frame.itertuples(index=False, name=None)
        await connection.copy_records_to_table("facts", records=records, columns=place.rows.columns)
        await connection.close()

    return load


def bare_chunks(rows: int) -> Callable[[Place], Load]:
    """What a chunk costs at least: encoded by pgpq in a thread, one ahead, a COPY and a commit for each; no checks."""

    def prepare(place: Place) -> Load:
        def encoded(batch: Any) -> bytes:
            encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
            return bytes(encoder.write_header() + encoder.write_batch(batch) + encoder.finish())

        async def load() -> None:
            batches = pd_to_arrow(place.rows.frame).combine_chunks().to_batches(rows)
            connection = await asyncpg.connect(place.uri)
            ahead = asyncio.create_task(asyncio.to_thread(encoded, batches[0]))
            for batch in [*batches[1:], None]:
                content = io.BytesIO(await ahead)
                if batch is not None:
                    ahead = asyncio.create_task(asyncio.to_thread(encoded, batch))
                async with connection.transaction():
                    await connection.copy_to_table("facts", columns=place.rows.columns, source=content, format="binary")
            await connection.close()

        return load

    return prepare


def psycopg_copy(place: Place) -> Callable[[], object]:
    import psycopg  # noqa: PLC0415

    def load() -> None:
        columns = ", ".join(place.rows.columns)
        with psycopg.connect(place.uri) as connection, connection.cursor() as cursor:
            with cursor.copy(f"COPY facts ({columns}) FROM STDIN") as copy:
                for row in place.rows.frame.itertuples(index=False, name=None):
                    copy.write_row(row)

    return load


def executemany(place: Place) -> Load:
    """Core, as SQLAlchemy's tutorial has it: a statement and a list of dicts; asyncpg binds them one by one."""
    table = place.table

    async def load() -> None:
        async with place.engine.begin() as connection:
            await connection.execute(sa.insert(table), place.rows.frame.to_dict("records"))

    return load


def insertmanyvalues(place: Place) -> Load:
    """Core with RETURNING, by which SQLAlchemy sends many rows in one statement."""
    table = place.table

    async def load() -> None:
        async with place.engine.begin() as connection:
            statement = sa.insert(table).returning(table.c[0])
            (await connection.execute(statement, place.rows.frame.to_dict("records"))).all()

    return load


def pandas_to_sql(method: str | None) -> Callable[[Place], Callable[[], object]]:
    def prepare(place: Place) -> Callable[[], object]:
        options: dict[str, Any] = {"method": method, "chunksize": 1_000 if method else None}
        return lambda: place.rows.frame.to_sql("facts", place.sync_engine, if_exists="append", index=False, **options)

    return prepare


def polars(place: Place) -> Callable[[], object]:
    import polars as pl  # noqa: PLC0415

    def load() -> None:
        frame = pl.from_pandas(place.rows.frame)
        frame.write_database("facts", place.uri, if_table_exists="append", engine="adbc")

    return load


def pangres_upsert(place: Place) -> Callable[[], object]:
    import pangres  # noqa: PLC0415

    def load() -> None:
        key = place.rows.columns[0]
        frame = place.rows.frame.set_index(key)
        pangres.upsert(place.sync_engine, frame, "facts", if_row_exists="update", create_table=False, chunksize=1_000)

    return load


ONE_TRANSACTION = Contender("dataloader", dataloader(commit="load"), watches=True)
BY_CHUNKS = Contender("dataloader", dataloader(commit="chunk", workers=2), watches=True)
PSQL = Contender("psql \\copy, 1 connection", psql(1))
PSQL_2 = Contender("psql \\copy, 2 connections", psql(2))
ADBC = Contender("ADBC", threaded(adbc), ("adbc_driver_postgresql",))
DUCKDB = Contender("DuckDB", threaded(duckdb), ("duckdb", "duckdb_extension_postgres_scanner"))
ASYNCPG = Contender("asyncpg records", asyncpg_records, watches=True)
BARE = Contender("bare COPY, commit per chunk", bare_chunks(20_000), watches=True)
PSYCOPG = Contender("psycopg copy", threaded(psycopg_copy), ("psycopg",))
EXECUTEMANY = Contender("Core executemany", executemany, watches=True)
INSERTMANYVALUES = Contender("Core insertmanyvalues", insertmanyvalues, watches=True)
PANDAS = Contender("pandas to_sql", threaded(pandas_to_sql(None)), ("psycopg",))
PANDAS_MULTI = Contender("pandas to_sql, multi", threaded(pandas_to_sql("multi")), ("psycopg",))
POLARS = Contender("polars, by ADBC", threaded(polars), ("polars", "adbc_driver_postgresql"))
PANGRES = Contender("pangres upsert", threaded(pangres_upsert), ("pangres",))

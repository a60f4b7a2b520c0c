"""A query's rows from PostgreSQL: COPY TO STDOUT, decoded in a thread a step behind the server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dataloader.database.backends.cursor_reading import CursorReading
from dataloader.database.backends.postgresql_arrow import Decoder, Described, read_column
from dataloader.database.backends.postgresql_binary import BinaryDecoder, gains
from dataloader.database.backends.reading import Statement, positions, replaced, without_end
from dataloader.errors import ReadError

if TYPE_CHECKING:
    import pyarrow as pa

    from dataloader.database.backends.reading import Receiver

FIRST_BYTES, BLOCK_BYTES = 1 << 16, 4 << 20
"""The first batch is small, so that it comes soon."""
PIECE_BYTES, PAUSE_SECONDS = 32 * 1024, 0.001
"""After a small piece of CSV more is awaited: each takes the loop 30 microseconds, in which the server writes 8 KB.
In binary it writes more, and would have to wait: its buffer is full before the loop is back."""
_MOST_ROWS = 1e12
_READ = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(select|with|values|table)\b", re.IGNORECASE | re.DOTALL)
_COMMAND = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(explain|show|fetch)\b", re.IGNORECASE | re.DOTALL)
"""What has rows, and not many, and cannot be copied."""
_SESSION = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_postmaster_start_time()"
_MODIFIER = 5

SETTINGS = (
    "SET TRANSACTION READ ONLY",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL datestyle = ISO",
    "SET LOCAL bytea_output = hex",
    "SELECT CASE WHEN pg_catalog.current_setting('client_connection_check_interval', true) OPERATOR(pg_catalog.=) '0' "
    "AND pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0 "
    "THEN pg_catalog.set_config('client_connection_check_interval', '500', true) END",
)
"""As COPY's text is read; of the date style the order of day and month stays.

Since PostgreSQL 14, on Linux, a server notices that its client is gone though it has nothing to send.
"""

_CATALOG = """
SELECT t.oid, e.typname AS element, t.typname AS name, e.oid IS NOT NULL AS is_array,
       CASE WHEN coalesce(e.typtype, t.typtype) = 'e' THEN ARRAY(
           SELECT CAST(n.enumlabel AS pg_catalog.text) FROM pg_catalog.pg_enum n
           WHERE n.enumtypid = coalesce(e.oid, t.oid) ORDER BY n.enumsortorder) END AS labels,
       coalesce(e.typnamespace, t.typnamespace) = CAST('pg_catalog' AS pg_catalog.regnamespace) AS is_builtin
FROM pg_catalog.pg_type t
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.oid = ANY (CAST($1 AS pg_catalog.oid[]))
"""


async def read(driver: Any, statement: Statement, receiver: Receiver) -> None:
    """Hand on the rows of a query, in the open transaction.

    Parameters
    ----------
    driver : asyncpg.Connection
        In a transaction that began with `SETTINGS`.
    """
    receiver.begun(await session_of(driver))
    if _COMMAND.match(statement.text):
        await _fetched(driver, statement, receiver)
        return
    if not _READ.match(statement.text):
        raise ReadError(
            "the query is none that only reads", hint="Give a SELECT, VALUES, TABLE, WITH, SHOW or EXPLAIN."
        )
    text = await inlined(driver, statement)
    columns = await _described(driver, text)
    wanted = positions([column.name for column in columns], statement.columns)
    if not wanted:
        raise ReadError("the query has no columns", hint="Select at least one: SELECT 1 counts rows.")
    decoder = _decoder([columns[at] for at in wanted])
    query = _selecting(text, len(columns), [(wanted[at], part) for at, part in decoder.selects], statement.max_rows)
    receiver.describe(decoder.schema, await about_rows_of(driver, query))
    await _copied(driver, query, decoder, receiver)


async def session_of(driver: Any) -> object:
    """By what another connection finds the session."""
    return tuple(await driver.fetchrow(_SESSION))


async def inlined(driver: Any, statement: Statement) -> str:
    """The query with its parameters as literals, as the server itself writes and quotes them."""
    text = without_end(statement.text)
    if not statement.values:
        return text
    prepared = await driver.prepare(text, name="")
    types = [_spelled(one) for one in prepared.get_parameters()]
    if len(types) != len(statement.values):
        what = f"the query has {len(types)} parameters, and {len(statement.values)} values were given"
        raise ReadError(what, hint="Give each $1, $2, ... its value in params=[...].")
    shown = (f"pg_catalog.format('%L', CAST(${at} AS {kind}))" for at, kind in enumerate(types, start=1))
    literals = await driver.fetchrow(f"SELECT {', '.join(shown)}", *statement.values)
    known = {
        str(at): f"CAST({literal} AS {kind})" for at, (literal, kind) in enumerate(zip(literals, types, strict=True), 1)
    }
    return replaced(text, lambda key: known[key] if key.isdigit() else None)


def _spelled(kind: Any) -> str:
    name = f"_{kind.name[:-2]}" if kind.name.endswith("[]") else kind.name
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in (kind.schema, name))


async def _described(driver: Any, text: str) -> list[Described]:
    """The columns of a query: of a domain the type that is stored."""
    prepared = await driver.prepare(text, name="")
    attributes = prepared.get_attributes()
    rows = await driver.fetch(_CATALOG, [one.type.oid for one in attributes])
    types = {row["oid"]: row for row in rows}
    modifiers = modifiers_of(prepared, len(attributes))
    return [_column(one.name, types[one.type.oid], limit) for one, limit in zip(attributes, modifiers, strict=True)]


def modifiers_of(prepared: Any, count: int) -> list[int]:
    """The type modifiers of the columns, -1 where one has none, or none is known.

    The server sends them, and asyncpg keeps them where only the garbage collector looks: no query would tell them
    without writing to the catalog. Where they are not found a number has its digits by what it is.
    """
    for found in gc.get_referents(getattr(prepared, "_state", None)):
        if isinstance(found, list) and len(found) == count and all(_is_description(one) for one in found):
            return [one[_MODIFIER] for one in found]
    return [-1] * count


def _is_description(one: Any) -> bool:
    """Whether it is a column of the protocol's RowDescription: its name, and six numbers."""
    return isinstance(one, tuple) and len(one) == 7 and all(isinstance(part, int) for part in one[1:])


def _column(name: str, found: Any, modifier: int) -> Described:
    kind = found["element"] if found["is_array"] else found["name"]
    kind = kind if found["is_builtin"] else "other"  # as text: nobody else knows its bytes
    digits, scale = numeric_limits(modifier) if kind == "numeric" else (None, 0)
    if digits is None and kind == "numeric" and found["is_array"]:
        kind = "text"
    return Described(name, kind, found["is_array"], digits, scale, tuple(found["labels"] or ()))


def numeric_limits(modifier: int) -> tuple[int | None, int]:
    """The digits and the scale of a numeric column; the scale has eleven bits, the first of which is its sign.

    >>> numeric_limits(655366), numeric_limits(((3 << 16) | 0x7FD) + 4), numeric_limits(-1)
    ((10, 2), (3, -3), (None, 0))
    """
    if modifier < 0:
        return None, 0
    return (modifier - 4) >> 16 & 0xFFFF, ((modifier - 4) & 0x7FF ^ 1024) - 1024


def _decoder(described: Sequence[Described]) -> Decoder | BinaryDecoder:
    columns = [read_column(one) for one in described]
    return BinaryDecoder(described, columns) if gains(described) else Decoder(columns)


def _selecting(text: str, count: int, selects: Sequence[tuple[int, str]], max_rows: int | None) -> str:
    names = ", ".join(f"c{at}" for at in range(count))
    asked = (part.format(f"q.c{at}") for at, part in selects)
    limit = "" if max_rows is None else f" LIMIT {max_rows:d}"
    return f"SELECT {', '.join(asked)} FROM (\n{text}\n) AS q ({names}){limit}"


async def about_rows_of(driver: Any, query: str) -> int | None:
    plan = await driver.fetchval(f"EXPLAIN (FORMAT JSON) {query}")
    plan = json.loads(plan) if isinstance(plan, str) else plan  # SQLAlchemy has its connections read it
    rows = plan[0]["Plan"]["Plan Rows"]
    return int(rows) if rows < _MOST_ROWS else None


async def _fetched(driver: Any, statement: Statement, receiver: Receiver) -> None:
    """Hand on what a command says, whose values the driver decodes."""
    prepared = await driver.prepare(await inlined(driver, statement), name="")
    names = [one.name for one in prepared.get_attributes()]
    found = [[_undecoded(value) for value in row] for row in await prepared.fetch()]
    rows = iter(found if statement.max_rows is None else found[: statement.max_rows])

    async def fetch(count: int) -> list[Any]:
        return [*itertools.islice(rows, count)]

    await CursorReading(names, [None] * len(names), statement.columns).hand_on(fetch, receiver)


def _undecoded(value: Any) -> Any:
    """JSON as text: SQLAlchemy has its connections read it."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


async def _copied(driver: Any, query: str, decoder: Decoder | BinaryDecoder, receiver: Receiver) -> None:
    async with _Decoding(decoder, receiver) as decoding:
        await driver.copy_from_query(query, output=decoding.take, format=decoder.format)
        await decoding.finish()


class _Decoding:
    """Collects whole rows, as the server sends each as one message, and decodes them a block behind it."""

    def __init__(self, decoder: Decoder | BinaryDecoder, receiver: Receiver) -> None:
        self._decoder = decoder
        self._receiver = receiver
        self._pauses = decoder.format == "csv"
        self._pieces: list[bytes] = []
        self._nbytes = 0
        self._limits = itertools.chain([FIRST_BYTES, 1 << 20], itertools.repeat(BLOCK_BYTES))
        self._limit = next(self._limits)
        self._behind: asyncio.Future[pa.RecordBatch | None] | None = None
        self._behind_bytes = 0
        self._has_first = False

    async def __aenter__(self) -> _Decoding:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._behind is not None:  # its error, if it has one, is told by the one that ended this
            with contextlib.suppress(Exception):
                await asyncio.wait({self._behind})
                self._behind.exception()

    async def take(self, data: bytes) -> None:
        self._pieces.append(data)
        self._nbytes += len(data)
        self._receiver.answered()
        if self._nbytes >= self._limit:
            self._limit = next(self._limits)
            await self._decode()
        elif self._pauses and len(data) < PIECE_BYTES:
            await asyncio.sleep(PAUSE_SECONDS)

    async def finish(self) -> None:
        if self._pieces:
            await self._decode()
        await self._hand_on()

    async def _decode(self) -> None:
        await self._hand_on()
        data, self._pieces = self._pieces, []
        self._behind_bytes, self._nbytes = self._nbytes, 0
        self._behind = asyncio.get_running_loop().run_in_executor(None, self._decoded, data)
        if not self._has_first:
            self._has_first = True
            await self._hand_on()

    def _decoded(self, data: list[bytes]) -> pa.RecordBatch | None:
        return self._decoder.decode(data[0] if len(data) == 1 else b"".join(data))  # one may have hundreds of megabytes

    async def _hand_on(self) -> None:
        if self._behind is None:
            return
        batch = await asyncio.shield(self._behind)
        self._behind = None
        if batch is not None:
            await self._receiver.put(batch, self._behind_bytes)

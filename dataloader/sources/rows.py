"""Rows that come one by one: dicts, tuples or objects with fields, from any iterable, become a Source."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataloader.conversion.inference import inferred, varying
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import did_you_mean
from dataloader.sources.base import CHUNK_BYTES, Rechunker, Source, check_names, check_not_exhausted
from dataloader.sources.selection import Columns
from dataloader.sources.tables import is_query, label
from dataloader.sync import in_thread

Row = Mapping[Any, Any] | Sequence[Any]

PEEKED_ROWS = 10_000
"""How many rows are read to learn the columns of a stream of rows."""
STEP_ROWS = 20
"""How many more are read after a load has ended: a generator cannot be closed while it makes a row."""


@dataclass(frozen=True, slots=True)
class RowSource(Source):
    """A stream of dicts with the given keys, or of tuples; `first` are those that were read for the schema.

    Attributes
    ----------
    is_whole : bool
        Whether a dict with another key is refused; else the keys are a selection.
    """

    first: list[Row]
    rest: AsyncGenerator[list[Row]]
    keys: tuple[Any, ...]
    is_whole: bool = True

    async def aclose(self) -> None:
        await self.rest.aclose()

    async def chunks(self, chunk_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        rechunker = Rechunker(chunk_rows)
        async with contextlib.aclosing(self._batches(chunk_rows)) as batches:
            async for batch in batches:
                for chunk in rechunker.add(batch):
                    yield chunk
        for chunk in rechunker.rest():
            yield chunk

    async def _batches(self, chunk_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        """Batches of as many rows as a chunk has, or of as many bytes: the types of a batch are those of its values."""
        waiting, first_row = self.first, 0
        async for block in self.rest:
            waiting += block
            whole = len(waiting) // chunk_rows * chunk_rows or (len(waiting) if _is_large(waiting) else 0)
            for start in range(0, whole, chunk_rows):
                rows = waiting[start : min(start + chunk_rows, whole)]
                yield await in_thread(self._batch, rows, first_row + start)
            del waiting[:whole]  # the first rows too: a stream is read once
            first_row += whole
        for start in range(0, len(waiting), chunk_rows):
            rows = waiting[start : start + chunk_rows]
            yield await in_thread(self._batch, rows, first_row + start)

    def _batch(self, rows: list[Row], first_row: int) -> pa.RecordBatch:
        return batch_of_rows(rows, self.keys, first_row, is_whole=self.is_whole)


def batch_of_rows(
    rows: list[Row], keys: tuple[Any, ...] | None, first_row: int, *, is_whole: bool = True
) -> pa.RecordBatch:
    """Make a batch of dicts or tuples; without keys, those of the dicts are taken.

    Raises
    ------
    SchemaMismatch
        When a row has another length or an unknown key.
    UnsupportedType
        When a column's values have no type.
    """
    known = _keys(rows) if keys is None else keys
    columns = _columns_of(rows, known, first_row, is_whole=is_whole)
    names = [label(key) for key in known]
    arrays = [inferred(name, values) for name, values in zip(names, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=names)


async def open_rows(rows: object, columns: Columns | None) -> RowSource:
    """Open dicts, or tuples with their column names; the first rows are read to learn the types.

    Raises
    ------
    PlanError
        When `rows` is not a stream of dicts or tuples, or tuples come without `columns`.
    """
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "to_records"):
        hint = "Load it with load_dataframe(data, table)."
        raise PlanError(f"expected a stream of rows, got {type(rows).__name__}", hint=hint)
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, (Iterable, AsyncIterable)):
        hint = "Pass an iterable or async iterable of dicts, tuples or objects; load frames with load_dataframe."
        if is_query(rows):
            hint = "Run it and pass its result, or copy_table(query, table, source=engine) loads its rows."
        raise PlanError(f"expected a stream of rows, got {type(rows).__name__}", hint=hint)
    _check_result(rows)
    known = len(rows) if isinstance(rows, Sequence) else None
    blocks = _async_blocks(rows) if isinstance(rows, AsyncIterable) else _blocks(rows)
    first: list[Row] = await anext(blocks, [])
    check_not_exhausted(rows, has_rows=bool(first))
    columns = _columns_of_result(rows) if columns is None and not first else columns
    keys = _keys(first) if columns is None else _given_keys(first, columns)
    names = [label(key) for key in keys]
    check_names(names)
    values = _columns_of(first, keys, 0, is_whole=columns is None)
    kinds = [inferred(name, one).type for name, one in zip(names, values, strict=True)]
    fields = [pa.field(name, kind) for name, kind in zip(names, kinds, strict=True)]
    schema = pa.schema(map(varying, fields) if first else fields)
    return RowSource("stream of rows", schema, known, first, blocks, keys, columns is None, loader="load_rows")


def _check_result(rows: object) -> None:
    """Refuse SQLAlchemy's result when its rows were taken already: it looks like one of a query without rows."""
    real = getattr(rows, "_real_result", None)
    result: Any = rows if real is None else real
    if getattr(result, "_soft_closed", False) and getattr(result, "returns_rows", True):
        what = f"the {type(rows).__name__} has been read already"
        raise PlanError(what, hint="It can be read once: execute the query anew.", committed_rows=0)


def _columns_of_result(rows: object) -> Columns | None:
    """The columns of a result without rows; it is closed where a statement returns none."""
    try:
        return list(rows.keys()) if hasattr(rows, "keys") else None
    except Exception:  # SQLAlchemy's own: it has no columns then
        return None


async def _blocks(rows: Iterable[Row]) -> AsyncGenerator[list[Row]]:
    reading, has_ended = iter(rows), threading.Event()

    def read() -> list[Row]:
        block: list[Row] = []
        size = 0
        while len(block) < PEEKED_ROWS and not has_ended.is_set():
            step = _taken(reading, min(STEP_ROWS, PEEKED_ROWS - len(block)))
            if not step:
                break
            block += step
            size += len(step) * _weight(step[0])
            if size > CHUNK_BYTES:
                break
        return by_name(block)

    try:
        while block := await in_thread(read):
            yield block
    finally:
        has_ended.set()


def _taken(rows: Iterator[Row], count: int) -> list[Row]:
    try:
        return list(itertools.islice(rows, count))
    except Exception as error:  # sqlite3's own, or SQLAlchemy's around it
        if not isinstance(getattr(error, "orig", error), sqlite3.ProgrammingError) or "thread" not in str(error):
            raise
        hint = "Open its connection with check_same_thread=False, or pass cursor.fetchall() or result.all()."
        raise PlanError("the cursor can be read in the thread of its connection only", hint=hint) from error


async def _async_blocks(rows: AsyncIterable[Row]) -> AsyncGenerator[list[Row]]:
    block: list[Row] = []
    size = 0
    async for row in rows:
        size += 0 if len(block) % STEP_ROWS else STEP_ROWS * _weight(row)
        block.append(row)
        if len(block) == PEEKED_ROWS or size > CHUNK_BYTES:
            yield by_name(block)
            block, size = [], 0
    if block:
        yield by_name(block)


def _is_large(rows: list[Row]) -> bool:
    """Whether the rows fill a chunk by their bytes, as far as some of them tell."""
    return sum(map(_weight, rows[::STEP_ROWS])) * STEP_ROWS > CHUNK_BYTES


def _weight(row: Any) -> int:
    """The bytes of a row's strings; objects with fields have none that can be seen."""
    values = row.values() if isinstance(row, Mapping) else row if isinstance(row, Sequence) else ()
    return sum(len(value) for value in values if isinstance(value, (str, bytes)))


def by_name(rows: list[Any]) -> list[Row]:
    """Rows that name their fields become dicts: namedtuples, drivers' rows, dataclasses, attrs, pydantic, ORM."""
    kinds = set(map(type, rows))
    if kinds <= {dict, tuple, list}:
        return rows
    reading = {kind: _reading(kind) for kind in kinds}
    return [reading[type(row)](row) for row in rows]


def _reading(kind: type) -> Callable[[Any], Row]:
    """How a row of a class is read."""
    if issubclass(kind, type):  # a class in the place of its object
        return _named
    if callable(getattr(kind, "model_dump", None)):  # pydantic, with extra and computed fields
        return lambda row: row.model_dump()
    if names := _attributes(kind):
        return lambda row: {name: _plain(getattr(row, name)) for name in names}
    return _named


def _attributes(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass, of an attrs or msgspec class, or the columns of an ORM class; none for any other."""
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else kind.__attrs_attrs__
        return tuple(field.name for field in fields)
    if hasattr(kind, "__mapper__"):
        return tuple(kind.__mapper__.column_attrs.keys())
    return tuple(getattr(kind, "model_fields", ()) or getattr(kind, "__struct_fields__", ()))


def _plain(value: Any) -> Any:
    """A value, as dicts and lists where it has fields of its own: a column of JSON keeps it."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind in {list, tuple}:
        return kind(map(_plain, value))
    if kind is dict:
        return {key: _plain(one) for key, one in value.items()}
    return _reading(kind)(value) if hasattr(kind, "model_dump") or _attributes(kind) else value


_SCALARS = frozenset((type(None), bool, int, float, str, bytes))


def _named(row: Any) -> Row:
    if hasattr(row, "_fields"):  # a namedtuple, SQLAlchemy's row
        names, values = row._fields, row
        if len(row) == 1 and hasattr(type(row[0]), "__mapper__"):  # of select(User)
            return _reading(type(row[0]))(row[0])
    elif hasattr(row, "keys") and not isinstance(row, Mapping):  # asyncpg's and sqlite3's rows
        names = tuple(row.keys())
        values = [row[name] for name in names]
    else:
        return row  # type: ignore[no-any-return]  # what is no row is refused with its position
    named = dict(zip(names, values, strict=True))
    if len(named) < len(names):
        check_names(names)
    return named


def _keys(rows: list[Row]) -> tuple[Any, ...]:
    """Every key of the first rows, in the order of appearance: the first dict may lack some."""
    if not rows:
        hint = "Pass columns=[...] so that an empty stream has columns."
        raise PlanError("there are no rows, so the columns are unknown", hint=hint)
    if not isinstance(rows[0], Mapping):
        what = f"the rows have no column names: expected dicts, got {type(rows[0]).__name__}"
        raise PlanError(what, hint=_naming_hint(rows[0]))
    return tuple(dict.fromkeys(key for row in rows if isinstance(row, Mapping) for key in row))


def _naming_hint(row: object) -> str:
    if isinstance(row, Sequence) and not isinstance(row, (str, bytes)):
        return "Pass columns=[...] with the tuples' column names."
    is_value = isinstance(row, (str, bytes, int, float)) or row is None
    return "Make each a dict, like {'name': row}." if is_value else "Make each a dict of its fields."


def _given_keys(rows: list[Row], columns: Columns) -> tuple[Any, ...]:
    """The columns that the caller names: all fields of tuples, or the keys of dicts that are wanted.

    Raises
    ------
    PlanError
        When tuples would have to be renamed.
    SchemaMismatch
        When no row has one of the keys, and some have others.
    """
    if rows and not isinstance(rows[0], Mapping):
        if isinstance(columns, Mapping):
            hint = "Pass columns=[...] with the names that the tuples' values have in the table, in their order."
            raise PlanError("tuples have no names that columns={...} could change", hint=hint)
        return tuple(columns)
    offered = [key for key in (_keys(rows) if rows else ()) if key not in columns]
    for name in columns if offered else ():
        if not any(name in row for row in rows):
            hint = did_you_mean(name, offered)
            raise SchemaMismatch(f"no row of the first {len(rows):,} has the key {name!r}", hint=hint)
    return tuple(columns)


def _columns_of(rows: list[Row], keys: tuple[Any, ...], first_row: int, *, is_whole: bool) -> list[list[Any]]:
    if not rows:
        return [[] for _ in keys]
    if isinstance(rows[0], Mapping):
        known = dict.fromkeys(keys).keys() if is_whole else None  # in their order, for the error
        for offset, row in enumerate(rows):
            _check_dict(row, known, first_row + offset)
        return [[row.get(key) for row in rows] for key in keys]  # type: ignore[union-attr]
    for offset, row in enumerate(rows):
        _check_tuple(row, keys, first_row + offset)
    return [list(values) for values in zip(*rows, strict=True)]


def _check_dict(row: Row, known: KeysView[Any] | None, position: int) -> None:
    if not isinstance(row, Mapping):
        hint = "Yield dicts only."
        raise PlanError(f"row {position} must be a dict like the first, got {type(row).__name__}", hint=hint)
    if known is not None and not row.keys() <= known:
        unknown = next(key for key in row if key not in known)
        hint = f"The columns are {', '.join(map(str, known))}: drop the key, or pass columns=[...]."
        raise SchemaMismatch(f"row {position} has the unknown key {unknown!r}", hint=hint)


def _check_tuple(row: Row, keys: tuple[Any, ...], position: int) -> None:
    if isinstance(row, (str, bytes)) or not isinstance(row, Sequence):
        hint = "Yield dicts only, or tuples only, together with columns=[...]."
        raise PlanError(f"row {position} must be a tuple or list, got {type(row).__name__}", hint=hint)
    if len(row) != len(keys):
        hint = f"Give every row a value for each of: {', '.join(map(str, keys))}."
        raise SchemaMismatch(f"row {position} has {len(row)} values for {len(keys)} columns", hint=hint)

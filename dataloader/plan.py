"""LoadPlan: source columns x table x options -> every decision of a load. Pure: no I/O."""

from __future__ import annotations

import difflib
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import quoted_name
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement, DropTable

from dataloader.errors import PlanError, SchemaMismatch, UnsafeCast, UnsupportedType
from dataloader.options import LoadOptions, Target, did_you_mean
from dataloader.schema import (
    DECIMAL256_DIGITS,
    MICROSECOND,
    TYPES,
    Column,
    ColumnType,
    TableName,
    TableSchema,
    carrier,
    check_identifier,
    created_type,
    family,
    parse_type,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect

CHUNK_ROWS = {"copy": 50_000, "insert": 10_000}
"""Rows per chunk where none are asked for: below it round trips show, above it only memory grows."""


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What happens to one column.

    Attributes
    ----------
    source : pyarrow.DataType
        What the source offers.
    target : ColumnType
        What the table holds.
    carrier : pyarrow.DataType
        The Arrow type in which the values travel.
    as_text : bool
        Whether the values travel as text that the server reads.
    verdict : str
        ``exact``: every value fits. ``checked``: each value is looked at, and refused if it would change.
    """

    name: str
    source: pa.DataType
    target: ColumnType
    carrier: pa.DataType
    as_text: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Everything that a load will do, decided and printable; making one writes nothing.

    Attributes
    ----------
    source : str
        What is loaded.
    rows : int or None
        How many rows, None if the source does not know.
    place : str
        The database.
    table : TableSchema
        The table as it will be when the rows arrive.
    columns : tuple of ColumnPlan
        One for each column of the source, in its order.
    statements : tuple of str
        The DDL that runs first, inside the load's transaction.
    method, reason : str
        ``copy`` or ``insert``, and why.
    chunk_rows : int
        Rows per chunk.
    creates : bool
        Whether the load makes the table.
    """

    source: str
    rows: int | None
    place: str
    table: TableSchema
    columns: tuple[ColumnPlan, ...]
    statements: tuple[str, ...]
    method: str
    reason: str
    chunk_rows: int
    creates: bool

    @property
    def transactions(self) -> str:
        return "one transaction: every row is there, or none"

    def __str__(self) -> str:
        rows = "an unknown number of rows" if self.rows is None else f"{self.rows:,} rows"
        width = max((len(column.name) for column in self.columns), default=0)
        lines = [f"load {self.source} ({rows}) into {self.table.name} of {self.place}"]
        lines += [f"  {c.name:<{width}}  {c.source} → {c.target}  ({c.verdict})" for c in self.columns]
        lines += [f"  first: {' '.join(statement.split())}" for statement in self.statements]
        lines.append(f"  method: {self.method}, because {self.reason}")
        lines.append(f"  chunks: {self.chunk_rows:,} rows each, in {self.transactions}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "an unknown number of rows" if self.rows is None else f"{self.rows:,} rows"
        cells = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in line) + "</tr>"
            for line in [(c.name, c.source, c.target, c.verdict) for c in self.columns]
        )
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("column", "source", "table", "verdict"))
        first = "".join(f"<pre>{html.escape(statement.strip())}</pre>" for statement in self.statements)
        return (
            f"<div><b>load {html.escape(self.source)}</b> ({rows}) into "
            f"<code>{html.escape(str(self.table.name))}</code> of {html.escape(self.place)}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>{first}"
            f"<div>method <b>{self.method}</b>, because {html.escape(self.reason)}</div>"
            f"<div>chunks of {self.chunk_rows:,} rows, in {self.transactions}</div></div>"
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source says of itself: its name, columns and number of rows."""

    name: str
    schema: pa.Schema
    rows: int | None


def make_plan(  # noqa: PLR0917 - what is loaded, where to, and what is known of both
    offer: Offer,
    target: Target,
    found: TableSchema | None,
    options: LoadOptions,
    dialect: Dialect,
    place: str,
) -> LoadPlan:
    """Decide a load.

    Raises
    ------
    PlanError
        When the options, the source's columns and the table do not go together.
    """
    for name in offer.schema.names:
        check_identifier(name, "column name", dialect.name)
    if found is not None and options.if_exists == "fail":
        hint = "Choose if_exists='append', 'truncate' or 'replace', or another table."
        raise PlanError(f"the table {found.name} exists already", hint=hint)
    if not offer.schema.names:
        raise PlanError(f"{offer.name} is without columns", hint="Pass a source with at least one column.")
    name = target.name if found is None else found.name
    creates = found is None or options.if_exists == "replace"
    definition = _definition(offer.schema, target.definition, name, options, dialect) if creates else None
    table = _schema_of(definition, name, dialect) if definition is not None else found
    assert table is not None
    _check_columns(offer.schema.names, table)
    columns = tuple(_column_plan(offered, table.column(offered.name)) for offered in offer.schema)
    method, reason = _method(options.method, columns, table, dialect)
    return LoadPlan(
        offer.name,
        offer.rows,
        place,
        table,
        columns,
        _statements(definition, name, found, options, dialect),
        method,
        reason,
        options.chunk_rows or CHUNK_ROWS[method],
        creates,
    )


def _definition(
    schema: pa.Schema,
    given: sa.Table | None,
    name: TableName,
    options: LoadOptions,
    dialect: Dialect,
) -> sa.Table:
    """The table to create; every name is quoted, because no list of a database's keywords is complete."""
    if given is not None:
        return given
    chosen = _chosen_types(options, schema)
    columns = [
        sa.Column(quoted_name(one.name, True), chosen.get(one.name) or created_type(one.name, one.type, dialect))
        for one in schema
    ]
    return _table(name, *columns)


def _table(name: TableName, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(quoted_name(name.name, True), sa.MetaData(), *columns, schema=name.schema)


def _chosen_types(options: LoadOptions, schema: pa.Schema) -> dict[str, sa.types.TypeEngine[Any]]:
    """The types of dtype=, each an object: a class is called."""
    types: dict[str, sa.types.TypeEngine[Any]] = {}
    for name, given in (options.dtype or {}).items():
        if name not in schema.names:
            hint = did_you_mean(name, schema.names)
            raise PlanError(f"dtype= names {name!r}, which the source does not have", hint=hint)
        chosen = given() if isinstance(given, type) else given
        if not isinstance(chosen, sa.types.TypeEngine):
            hint = "Pass a SQLAlchemy type, like sqlalchemy.Numeric(12, 4)."
            raise PlanError(f"dtype[{name!r}] is {given!r}", hint=hint)
        types[name] = chosen
    return types


def _schema_of(table: sa.Table, name: TableName, dialect: Dialect) -> TableSchema:
    """How the catalog will describe a table that SQLAlchemy creates."""
    columns = tuple(
        Column(
            column.name,
            parse_type(column.type.compile(dialect=dialect), dialect.name),
            nullable=bool(column.nullable),
            has_default=column.server_default is not None
            or column.identity is not None
            or column is table.autoincrement_column,
            generated=column.computed is not None,
        )
        for column in table.columns
    )
    return TableSchema(name, columns)


def _statements(
    definition: sa.Table | None, name: TableName, found: TableSchema | None, options: LoadOptions, dialect: Dialect
) -> tuple[str, ...]:
    if definition is not None:
        indexes = sorted(definition.indexes, key=lambda index: str(index.name))
        elements: list[DDLElement] = [CreateTable(definition), *map(CreateIndex, indexes)]
        if found is not None:
            elements.insert(0, DropTable(_table(name)))
        moved: Any = {"schema_translate_map": {definition.schema: name.schema}, "render_schema_translate": True}
        where = moved if definition.schema != name.schema else {}
        return tuple(str(element.compile(dialect=dialect, **where)).strip() for element in elements)
    quote = dialect.identifier_preparer.quote_identifier
    quoted = ".".join(quote(part) for part in (name.schema, name.name) if part is not None)
    if options.if_exists == "truncate":
        return (f"TRUNCATE TABLE {quoted}" if dialect.name == "postgresql" else f"DELETE FROM {quoted}",)
    return (f"LOCK TABLE {quoted} IN ROW EXCLUSIVE MODE",) if dialect.name == "postgresql" else ()


def _check_columns(offered: list[str], table: TableSchema) -> None:
    known = [column.name for column in table.columns]
    unknown = [name for name in offered if name not in known]
    missing = [column.name for column in table.columns if column.required and column.name not in offered]
    generated = [column.name for column in table.columns if column.generated and column.name in offered]
    if not (unknown or missing or generated):
        return
    problems = [
        f"{problem}: {', '.join(map(repr, names))}"
        for problem, names in (
            ("not in the table", unknown),
            ("required by the table but not in the source", missing),
            ("computed by the database", generated),
        )
        if names
    ]
    facts = f"source: {', '.join(offered)}; table: {', '.join(known)}"
    raise SchemaMismatch(
        f"the columns do not match {table.name} ({facts}). {'; '.join(problems)}",
        hint=_rename_hint(unknown, known) or "Rename, add or drop columns of the source so that they agree.",
    )


def _rename_hint(unknown: list[str], known: list[str]) -> str | None:
    folded = {name.casefold(): name for name in known}
    for name in unknown:
        close = difflib.get_close_matches(name.casefold(), folded, n=1)
        if close:
            return f"Did you mean {folded[close[0]]!r} instead of {name!r}?"
    return None


def _column_plan(offered: pa.Field, column: Column) -> ColumnPlan:
    source, target = plain(offered.type), column.type
    check_cast(offered.name, source, target)
    chosen = carrier(target, source)
    as_text = chosen is None or pa.types.is_decimal256(chosen)
    chosen = pa.string() if chosen is None else chosen
    verdict = "exact" if keeps_every_value(source, chosen, target) else "checked"
    return ColumnPlan(offered.name, offered.type, target, chosen, as_text, verdict)


def check_cast(name: str, source: pa.DataType, target: ColumnType) -> None:
    """Refuse a source type none of whose values can be stored unchanged.

    Raises
    ------
    UnsafeCast
        For a naive timestamp into timestamptz, and an aware one into timestamp.
    UnsupportedType
        For any other pair that the type table does not accept.
    """
    offered = family(source)
    precision, scale = target.precision or 0, target.scale or 0
    storable = precision <= DECIMAL256_DIGITS and 0 <= scale <= max(precision, 0)
    if storable and (offered == "null" or offered in TYPES[target.kind].accepts):
        return
    what = f"column {name!r}: {source} cannot be stored as {target}"
    if {offered, target.kind} == {"timestamp", "timestamptz"}:
        hint = {
            "timestamp": "Say what the times mean: df[c] = df[c].dt.tz_localize('Europe/Berlin').",
            "timestamptz": "Choose the wall clock: df[c] = df[c].dt.tz_convert('UTC').dt.tz_localize(None).",
        }[offered or ""]
        raise UnsafeCast(what, hint=hint)
    raise UnsupportedType(what, hint="Convert the column in the source, for example to text, or change the table.")


def keeps_every_value(source: pa.DataType, chosen: pa.DataType, target: ColumnType) -> bool:
    """Whether no value of `source` can be refused by `chosen`, so that nothing needs a look."""
    if target.length is not None or target.kind == "other":
        return False
    if pa.types.is_floating(chosen) and not target.keeps_nan:
        return False
    if source.equals(chosen) or pa.types.is_null(source):
        return True
    if family(source) != family(chosen):
        return pa.types.is_decimal(chosen) and _fits_decimal(source, chosen)
    return _WIDENS.get(family(source) or "", _never)(source, chosen)


def _never(_source: pa.DataType, _chosen: pa.DataType) -> bool:
    return False


def _always(_source: pa.DataType, _chosen: pa.DataType) -> bool:
    return True


def _fits_integer(source: pa.DataType, chosen: pa.DataType) -> bool:
    return bool(source.bit_width + pa.types.is_unsigned_integer(source) <= chosen.bit_width)


def _fits_float(source: pa.DataType, chosen: pa.DataType) -> bool:
    return bool(source.bit_width <= chosen.bit_width)


def _fits_moment(source: pa.DataType, chosen: pa.DataType) -> bool:
    return bool(source.unit != "ns" and chosen.unit == MICROSECOND)


def _fits_decimal(source: pa.DataType, chosen: pa.DataType) -> bool:
    if pa.types.is_integer(source):
        return bool(chosen.precision - chosen.scale >= _INTEGER_DIGITS[source.bit_width])
    if not pa.types.is_decimal(source) or source.scale > chosen.scale:
        return False
    return bool(source.precision - source.scale <= chosen.precision - chosen.scale)


_INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
_WIDENS: dict[str, Callable[[pa.DataType, pa.DataType], bool]] = {
    "int": _fits_integer,
    "float": _fits_float,
    "decimal": _fits_decimal,
    "timestamp": _fits_moment,
    "timestamptz": _fits_moment,
    "string": _always,
}
"""Within a family of Arrow types: when the second holds every value of the first."""


def _method(asked: str, columns: tuple[ColumnPlan, ...], table: TableSchema, dialect: Dialect) -> tuple[str, str]:
    obstacle = _copy_obstacle(columns, table, dialect)
    if asked == "copy" and obstacle:
        hint = "Leave method='auto', which chooses insert here."
        raise PlanError(f"COPY cannot write to {table.name}: {obstacle}", hint=hint)
    if asked == "insert":
        return "insert", "you asked for it"
    if obstacle:
        return "insert", obstacle
    return "copy", "PostgreSQL takes rows fastest by binary COPY"


def _copy_obstacle(columns: tuple[ColumnPlan, ...], table: TableSchema, dialect: Dialect) -> str | None:
    if dialect.name != "postgresql":
        return f"{dialect.name} has no COPY"
    if dialect.driver != "asyncpg":
        return f"the driver {dialect.driver} is not asyncpg"
    if table.copy_refused:
        return table.copy_refused
    text = [f"{column.name} ({column.target})" for column in columns if column.as_text]
    return f"binary COPY cannot carry {', '.join(text)}" if text else None

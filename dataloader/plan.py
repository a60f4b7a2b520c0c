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
from dataloader.infer import MixedType
from dataloader.options import LoadOptions, Target, did_you_mean
from dataloader.schema import Column, TableName, TableSchema, check_identifier, created_type
from dataloader.types import ColumnType, carrier, family, parse_type, plain
from dataloader.verdicts import Cell, cell
from dataloader.violations import REJECT_COLUMNS

if TYPE_CHECKING:
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
        ``lossy``: something is given up, because ``casts="lossy"`` allows it.
    how : str
        What is looked at, or what is given up.
    nullable : bool
        Whether the table takes NULL.
    zone : str or None
        The time zone that a naive time is taken to mean.
    """

    name: str
    source: pa.DataType
    target: ColumnType
    carrier: pa.DataType
    as_text: bool
    verdict: str
    how: str = ""
    nullable: bool = True
    zone: str | None = None

    @property
    def is_lossy(self) -> bool:
        return self.verdict == "lossy"

    @property
    def can_refuse(self) -> bool:
        """Whether there are values that it does not take."""
        return self.verdict != "exact" or not self.nullable


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
    rejects : bool
        Whether rows that do not fit are kept aside; else the first one ends the load.
    empties : bool
        Whether the table's present rows go first.
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
    rejects: bool = False
    empties: bool = False

    @property
    def transactions(self) -> str:
        return "one transaction: every row is there, or none"

    @property
    def invalid(self) -> str:
        return "kept in report.rejects, the others are loaded" if self.rejects else "nothing is loaded"

    @property
    def travels_as_text(self) -> bool:
        """Whether some column needs the server to read text, so that COPY carries all of them as text."""
        return any(column.as_text for column in self.columns)

    def __str__(self) -> str:
        rows = "an unknown number of rows" if self.rows is None else f"{self.rows:,} rows"
        width = max((len(column.name) for column in self.columns), default=0)
        lines = [f"load {self.source} ({rows}) into {self.table.name} of {self.place}"]
        lines += [f"  {c.name:<{width}}  {c.source} → {c.target}  ({_verdict(c)})" for c in self.columns]
        lines += [f"  first: {' '.join(statement.split())}" for statement in self.statements]
        lines.append(f"  method: {self.method}, because {self.reason}")
        lines.append(f"  chunks: {self.chunk_rows:,} rows each, in {self.transactions}")
        lines += [f"  rows that do not fit: {self.invalid}"]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "an unknown number of rows" if self.rows is None else f"{self.rows:,} rows"
        cells = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in line) + "</tr>"
            for line in [(c.name, c.source, c.target, c.verdict, c.how) for c in self.columns]
        )
        names = ("column", "source", "table", "verdict", "what is looked at")
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in names)
        first = "".join(f"<pre>{html.escape(statement.strip())}</pre>" for statement in self.statements)
        return (
            f"<div><b>load {html.escape(self.source)}</b> ({rows}) into "
            f"<code>{html.escape(str(self.table.name))}</code> of {html.escape(self.place)}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>{first}"
            f"<div>method <b>{self.method}</b>, because {html.escape(self.reason)}</div>"
            f"<div>chunks of {self.chunk_rows:,} rows, in {self.transactions}</div>"
            f"<div>rows that do not fit: {self.invalid}</div></div>"
        )


def _verdict(column: ColumnPlan) -> str:
    nulls = "" if column.nullable else "not null"
    looks = "; ".join(part for part in (column.how, nulls) if part)
    return f"{column.verdict}: {looks}" if looks else column.verdict


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
    offered = _without_reasons(offer.schema)
    for name in offered.names:
        check_identifier(name, "column name", dialect.name)
    if found is not None and options.if_exists == "fail":
        hint = "Choose if_exists='append', 'truncate' or 'replace', or another table."
        raise PlanError(f"the table {found.name} exists already", hint=hint)
    if not offered.names:
        raise PlanError(f"{offer.name} is without columns", hint="Pass a source with at least one column.")
    name = target.name if found is None else found.name
    creates = found is None or options.if_exists == "replace"
    definition = _definition(offered, target.definition, name, options, dialect) if creates else None
    table = _schema_of(definition, name, dialect) if definition is not None else found
    assert table is not None
    _check_columns(offered.names, table)
    columns = tuple(_column_plan(field, table.column(field.name), options) for field in offered)
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
        options.on_invalid == "reject",
        options.if_exists in {"truncate", "replace"},
    )


def _without_reasons(schema: pa.Schema) -> pa.Schema:
    """Rejects that come again bring the reasons of their refusal; those are not data."""
    if not set(REJECT_COLUMNS) <= set(schema.names):
        return schema
    return pa.schema([field for field in schema if field.name not in REJECT_COLUMNS])


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


def _column_plan(offered: pa.Field, column: Column, options: LoadOptions) -> ColumnPlan:
    source, target = plain(offered.type), column.type
    zone = options.assume_timezone if _may_be_naive(source, target) else None
    found = _decided(offered.name, source, target, options.casts, zone)
    chosen = carrier(target, source)
    as_text = chosen is None or pa.types.is_decimal256(chosen)
    chosen = pa.string() if chosen is None else chosen
    how = f"taken as the clock of {zone}; {found.how}" if zone else found.how
    verdict = found.verdict
    if verdict == "exact" and isinstance(offered.type, MixedType):
        verdict, how = "checked", "objects of several kinds"
    return ColumnPlan(offered.name, offered.type, target, chosen, as_text, verdict, how, column.nullable, zone)


def _may_be_naive(source: pa.DataType, target: ColumnType) -> bool:
    return target.kind == "timestamptz" and family(source) in {"timestamp", "string"}


def _decided(name: str, source: pa.DataType, target: ColumnType, casts: str, zone: str | None) -> Cell:
    """The type table's cell, as far as casts= and assume_timezone= allow it.

    Raises
    ------
    UnsafeCast
        For a naive timestamp into timestamptz, and for what always loses something.
    UnsupportedType
        For any other pair that the type table does not have.
    """
    found = cell(source if zone is None or family(source) == "string" else pa.timestamp(source.unit, zone), target)
    what = f"column {name!r}: {source} cannot be stored as {target}"
    if found.verdict == "impossible" and (family(source), target.kind) == ("timestamp", "timestamptz"):
        hint = "Say what the times mean: assume_timezone='Europe/Berlin', or df[c] = df[c].dt.tz_localize('UTC')."
        raise UnsafeCast(what, hint=hint)
    if found.verdict == "impossible":
        raise UnsupportedType(what, hint="Convert the column in the source, for example to text, or change the table.")
    if found.verdict == "lossy" and casts == "exact":
        clock = "df[c] = df[c].dt.tz_convert('UTC').dt.tz_localize(None), or " if target.kind == "timestamp" else ""
        hint = f"Convert it in the source, {clock}allow it with casts='lossy'."
        raise UnsafeCast(f"{what} without losing {found.loses}", hint=hint)
    if casts == "lossy" and found.loses is not None:
        return Cell("lossy", f"gives up {found.loses}", found.loses)
    return found


def _method(asked: str, columns: tuple[ColumnPlan, ...], table: TableSchema, dialect: Dialect) -> tuple[str, str]:
    obstacle = _copy_obstacle(columns, table, dialect)
    if asked == "copy" and obstacle:
        hint = "Leave method='auto', which chooses insert here."
        raise PlanError(f"COPY cannot write to {table.name}: {obstacle}", hint=hint)
    if asked == "insert":
        return "insert", "you asked for it"
    if obstacle:
        return "insert", obstacle
    text = [f"{column.name} ({column.target})" for column in columns if column.as_text]
    if text:
        return "copy", f"PostgreSQL takes rows fastest by COPY, here as text, in which it reads {', '.join(text)}"
    return "copy", "PostgreSQL takes rows fastest by binary COPY"


def _copy_obstacle(columns: tuple[ColumnPlan, ...], table: TableSchema, dialect: Dialect) -> str | None:
    if dialect.name != "postgresql":
        return f"{dialect.name} has no COPY"
    if dialect.driver != "asyncpg":
        return f"the driver {dialect.driver} is not asyncpg"
    if table.copy_refused:
        return table.copy_refused
    money = [column.name for column in columns if column.target.kind == "money"]
    if money and any(column.as_text for column in columns):
        return f"the server's locale decides how it reads {money[0]} (money) from text"
    return None

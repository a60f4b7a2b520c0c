"""Options and plans: what is refused, what is decided, and what the plan shows."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.dialects.sqlite import aiosqlite

from dataloader.conversion.column_types import parse_type
from dataloader.conversion.inference import mixed_array
from dataloader.database.backends import backend_for
from dataloader.database.schema import Column, TableName, TableSchema
from dataloader.errors import PlanError, SchemaMismatch, UnsafeCast, UnsupportedType
from dataloader.plan import LoadOptions, LoadPlan, Target, make_plan
from dataloader.transactions import Database, SourceInfo

POSTGRES, PSYCOPG, SQLITE = asyncpg.dialect(), psycopg.dialect(), aiosqlite.dialect()
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])


def table(*columns: Column, name: str = "orders", schema: str | None = None, **facts: Any) -> TableSchema:
    return TableSchema(TableName(schema, name), columns, **facts)


def column(name: str, sql: str, dialect: str = "postgresql", **facts: Any) -> Column:
    return Column(name, parse_type(sql, dialect), **facts)


ORDERS = table(column("id", "bigint", nullable=False), column("name", "text"))


def planned(
    schema: pa.Schema = SCHEMA,
    found: TableSchema | None = ORDERS,
    dialect: sa.Dialect = POSTGRES,
    target: str | sa.Table = "orders",
    rows: int | None = 2,
    **options: Any,
) -> LoadPlan:
    offer = SourceInfo("DataFrame", schema, rows)
    given = LoadOptions.of(options)
    return make_plan(
        offer,
        Target.of(target, backend_for(dialect)),
        found,
        given,
        Database(backend_for(dialect), "PostgreSQL shop at db.example"),
    )


def planned_column(source: pa.DataType, sql: str, dialect: sa.Dialect = POSTGRES) -> LoadPlan:
    return planned(pa.schema([("c", source)]), table(column("c", sql, dialect.name)), dialect)


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(PlanError, match=r"'if_exist'.*Did you mean 'if_exists'\?"):
        LoadOptions.of({"if_exist": "append"})


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("if_exists", "apend", "append"),
        ("method", "copi", "copy"),
        ("progress", "widgets", "widget"),
        ("on_invalid", "rejects", "reject"),
        ("casts", "loss", "lossy"),
    ],
)
def test_an_unknown_value_is_refused_with_a_suggestion(option: str, value: str, meant: str) -> None:
    with pytest.raises(PlanError, match=rf"{option}='{value}'.*Did you mean '{meant}'\?"):
        LoadOptions.of({option: value})


@pytest.mark.parametrize("value", [None, 5, ["append"]])
def test_a_value_that_is_no_text_is_refused_with_the_choices(value: object) -> None:
    with pytest.raises(PlanError, match="The choices are: append, fail, truncate, replace"):
        LoadOptions.of({"if_exists": value})


@pytest.mark.parametrize("rows", [0, -1, True, "5", 2.0])
def test_chunk_rows_that_are_no_positive_integer_are_refused(rows: object) -> None:
    with pytest.raises(PlanError, match="chunk_rows must be a count, got "):
        LoadOptions.of({"chunk_rows": rows})


@pytest.mark.parametrize("option", ["on_invalid", "casts"])
@pytest.mark.parametrize("value", [None, True, ["raise"], ""])
def test_a_value_of_the_new_options_that_is_no_choice_is_refused(option: str, value: object) -> None:
    with pytest.raises(PlanError, match=f"^{option}={re.escape(repr(value))} is unknown. .*The choices are: "):
        LoadOptions.of({option: value})


@pytest.mark.parametrize("limit", [-1, 0.0, 1.0, 1.5, -0.1, True, False, "5", float("nan"), float("inf"), [1]])
def test_max_rejects_that_is_neither_a_count_nor_a_share_is_refused(limit: object) -> None:
    problem = rf"^max_rejects must be a count or a share between 0 and 1, got {re.escape(repr(limit))}\. Pass a count"
    with pytest.raises(PlanError, match=problem):
        LoadOptions.of({"on_invalid": "reject", "max_rejects": limit})


@pytest.mark.parametrize("limit", [None, 0, 1, 10**9, 0.01, 0.999])
def test_max_rejects_that_is_a_count_or_a_share_is_taken(limit: Any) -> None:
    assert LoadOptions.of({"on_invalid": "reject", "max_rejects": limit}).max_rejects == limit


@pytest.mark.parametrize("limit", [0, 5, 0.5])
@pytest.mark.parametrize("more", [{}, {"on_invalid": "raise"}], ids=["default", "raise"])
def test_max_rejects_without_rejects_is_refused(limit: float, more: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"max_rejects requires on_invalid='reject'\. Pass on_invalid='reject'"):
        LoadOptions.of({"max_rejects": limit} | more)


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "+02:00", "../etc/passwd", "Europe/Berlin\0", 5, b"UTC", ["UTC"]])
def test_a_time_zone_that_nobody_knows_is_refused_by_name(zone: object) -> None:
    with pytest.raises(PlanError) as refused:
        LoadOptions.of({"assume_timezone": zone})
    assert str(refused.value).startswith(f"assume_timezone={zone!r} is not a time zone. ")
    assert "'Europe/Berlin'" in refused.value.hint


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_a_time_zone_of_the_database_is_taken(zone: str | None) -> None:
    assert LoadOptions.of({"assume_timezone": zone}).assume_timezone == zone


def test_options_that_are_not_given_have_the_documented_defaults() -> None:
    options = LoadOptions.of({})
    assert options == LoadOptions(
        options.engine,
        if_exists="append",
        method="auto",
        chunk_rows=None,
        on_invalid="raise",
        max_rejects=None,
        casts="exact",
        assume_timezone=None,
        dtype=None,
        progress="auto",
    )


def test_chunk_rows_that_are_asked_for_are_planned() -> None:
    assert planned(chunk_rows=7).chunk_rows == 7


@pytest.mark.parametrize("name", ["", "n" * 64, "sales." + "n" * 64, "n" * 64 + ".orders", "a\0"])
def test_a_target_whose_name_postgres_would_not_keep_is_refused(name: str) -> None:
    with pytest.raises(PlanError):
        Target.of(name, backend_for(POSTGRES))


def test_a_target_that_is_a_sqlalchemy_table_keeps_its_schema_and_definition() -> None:
    definition = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer), schema="sales")
    assert Target.of(definition, backend_for(POSTGRES)) == Target(TableName("sales", "orders"), definition)


def test_an_existing_table_is_refused_when_it_should_fail() -> None:
    with pytest.raises(PlanError, match=r"orders exists already.*if_exists='append'"):
        planned(if_exists="fail")


def test_a_missing_table_is_created_in_every_mode() -> None:
    for mode in ("append", "fail", "truncate", "replace"):
        decided = planned(found=None, if_exists=mode)
        assert decided.creates_table
        assert [" ".join(one.split()) for one in decided.statements] == [
            'CREATE TABLE "orders" ( "id" BIGINT, "name" TEXT )'
        ]


def test_replace_drops_the_table_under_its_qualified_name_and_creates_it() -> None:
    found = table(*ORDERS.columns, schema="sales")
    drop, create = planned(found=found, if_exists="replace").statements
    assert drop == 'DROP TABLE sales."orders"'
    assert create.startswith('CREATE TABLE sales."orders"')


@pytest.mark.parametrize(
    ("dialect", "mode", "expected"),
    [
        (POSTGRES, "append", ('LOCK TABLE "sales"."odd ""name" IN ROW EXCLUSIVE MODE',)),
        (POSTGRES, "truncate", ('TRUNCATE TABLE ONLY "sales"."odd ""name"',)),
        (SQLITE, "append", ()),
        (SQLITE, "truncate", ('DELETE FROM "sales"."odd ""name"',)),
    ],
    ids=["postgres append", "postgres truncate", "sqlite append", "sqlite truncate"],
)
def test_the_first_statement_quotes_the_table_that_was_found(
    dialect: sa.Dialect, mode: str, expected: tuple[str, ...]
) -> None:
    found = table(*ORDERS.columns, name='odd "name', schema="sales")
    assert planned(found=found, dialect=dialect, if_exists=mode).statements == expected


def test_a_definition_is_created_as_it_was_given() -> None:
    definition = sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(10), nullable=False),
    )
    decided = planned(found=None, target=definition)
    assert "VARCHAR(10) NOT NULL" in decided.statements[0]
    assert "PRIMARY KEY (id)" in decided.statements[0]
    assert decided.table.column("id").has_default
    assert decided.table.column("name").required


def test_the_indexes_of_a_definition_are_created_with_it() -> None:
    definition = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer, index=True, unique=True))
    decided = planned(pa.schema([("id", pa.int64())]), None, target=definition)
    assert any("CREATE UNIQUE INDEX" in statement for statement in decided.statements)


def test_a_source_without_columns_cannot_create_a_table() -> None:
    with pytest.raises(PlanError, match="without columns"):
        planned(pa.schema([]), None)


def test_columns_are_matched_by_name_and_not_by_position() -> None:
    decided = planned(pa.schema([("name", pa.string()), ("id", pa.int64())]))
    assert [(one.name, one.target.sql) for one in decided.columns] == [("name", "text"), ("id", "bigint")]


def test_columns_that_differ_are_listed_on_both_sides() -> None:
    found = table(
        column("id", "bigint", nullable=False),
        column("total", "numeric", generated=True),
        column("amount", "numeric", nullable=False),
    )
    offered = pa.schema([("id", pa.int64()), ("total", pa.int64()), ("colour", pa.string())])
    with pytest.raises(SchemaMismatch) as refused:
        planned(offered, found)
    text = str(refused.value)
    assert "source: id, total, colour; table: id, total, amount" in text
    assert "not in the table: 'colour'" in text
    assert "required by the table but not in the source: 'amount'" in text
    assert "computed by the database: 'total'" in text


def test_a_column_that_differs_in_case_only_is_taken_for_the_table_s() -> None:
    plan = planned(pa.schema([("id", pa.int64()), ("Name", pa.string())]))
    assert [(one.name, one.taken_from) for one in plan.columns] == [("id", "id"), ("name", "Name")]
    assert plan.warnings == ("the source's column 'Name' is taken for 'name' of orders",)


def test_a_column_that_is_spelled_otherwise_is_refused_with_the_right_spelling() -> None:
    with pytest.raises(SchemaMismatch, match="Did you mean 'name' instead of 'naem'"):
        planned(pa.schema([("id", pa.int64()), ("naem", pa.string())]))


@pytest.mark.parametrize("facts", [{}, {"nullable": False, "has_default": True}, {"generated": True}])
def test_a_column_of_the_table_that_needs_no_value_may_be_absent(facts: dict[str, bool]) -> None:
    found = table(*ORDERS.columns, column("more", "text", **facts))
    assert [one.name for one in planned(found=found).columns] == ["id", "name"]


def test_a_column_name_that_postgres_would_cut_is_refused() -> None:
    with pytest.raises(PlanError, match="64 bytes"):
        planned(pa.schema([("n" * 64, pa.int64())]), None)


def test_postgres_and_asyncpg_are_written_by_copy() -> None:
    decided = planned()
    assert (decided.method, decided.chunk_rows) == ("copy", 50_000)


@pytest.mark.parametrize(
    ("found", "dialect", "reason"),
    [
        (table(*ORDERS.columns, copy_refused="it is a view"), POSTGRES, "it is a view"),
        (table(*ORDERS.columns, copy_refused="row-level security"), POSTGRES, "row-level security"),
        (ORDERS, SQLITE, "only PostgreSQL has COPY"),
        (ORDERS, PSYCOPG, "psycopg is not asyncpg"),
    ],
    ids=["view", "row-level security", "sqlite", "another driver"],
)
def test_what_stands_against_copy_chooses_insert_and_is_the_reason(
    found: TableSchema, dialect: sa.Dialect, reason: str
) -> None:
    decided = planned(found=found, dialect=dialect)
    assert (decided.method, decided.chunk_rows) == ("insert", 10_000)
    assert reason in decided.reason
    with pytest.raises(PlanError, match="COPY cannot write to orders") as refused:
        planned(found=found, dialect=dialect, method="copy")
    assert reason in str(refused.value)


def test_what_only_text_can_carry_is_copied_as_text_and_named_in_the_reason() -> None:
    found = table(column("id", "bigint"), column("name", "tsvector"))
    decided = planned(found=found)
    assert (decided.method, decided.chunk_rows, decided.travels_as_text) == ("copy", 50_000, True)
    assert "as text, in which it reads name (tsvector)" in decided.reason
    assert planned(found=found, method="copy").method == "copy"


def test_a_column_that_binary_copy_carries_does_not_travel_as_text() -> None:
    decided = planned()
    assert (decided.travels_as_text, decided.reason) == (False, "PostgreSQL takes rows fastest by binary COPY")


def test_money_beside_text_that_the_server_reads_is_inserted() -> None:
    found = table(column("id", "money"), column("name", "inet"))
    decided = planned(found=found)
    assert (decided.method, decided.reason) == (
        "insert",
        "the server's locale decides how it reads id (money) from text",
    )
    assert planned(found=table(column("id", "money"), column("name", "text"))).method == "copy"


def test_insert_is_used_when_it_is_asked_for() -> None:
    decided = planned(method="insert")
    assert (decided.method, decided.reason) == ("insert", "it was requested")


def test_a_naive_timestamp_into_timestamptz_is_unsafe() -> None:
    with pytest.raises(UnsafeCast, match=r"'c': timestamp\[us\] cannot be stored.*tz_localize"):
        planned_column(pa.timestamp("us"), "timestamp with time zone")


def test_an_aware_timestamp_into_timestamp_is_unsafe() -> None:
    with pytest.raises(UnsafeCast, match=r"'c': .*cannot be stored.*tz_convert"):
        planned_column(pa.timestamp("us", "UTC"), "timestamp without time zone")


@pytest.mark.parametrize(
    ("source", "sql"),
    [
        (pa.binary(), "text"),
        (pa.date32(), "bigint"),
        (pa.bool_(), "numeric"),
        (pa.timestamp("us"), "time"),
        (pa.duration("us"), "text"),
        (pa.list_(pa.duration("us")), "integer[]"),
        (pa.list_(pa.int64()), "integer"),
        (pa.month_day_nano_interval(), "text"),
        (pa.int64(), "numeric(3,-2)"),
        (pa.int64(), "numeric(2,5)"),
        (pa.int64(), "numeric(77,2)"),
    ],
    ids=str,
)
def test_a_pair_of_types_that_keeps_no_value_is_refused_by_name(source: pa.DataType, sql: str) -> None:
    with pytest.raises(UnsupportedType) as refused:
        planned_column(source, sql)
    assert all(part in str(refused.value) for part in ("'c'", str(source), sql))


@pytest.mark.parametrize(
    ("source", "sql", "verdict"),
    [
        (pa.int16(), "integer", "exact"),
        (pa.uint16(), "integer", "exact"),
        (pa.uint32(), "integer", "checked"),
        (pa.int64(), "integer", "checked"),
        (pa.int64(), "numeric(20,0)", "exact"),
        (pa.int64(), "numeric(20,4)", "checked"),
        (pa.float64(), "numeric(12,4)", "checked"),
        (pa.float32(), "double precision", "exact"),
        (pa.float64(), "real", "checked"),
        (pa.decimal128(10, 2), "numeric(12,4)", "exact"),
        (pa.decimal128(10, 5), "numeric(12,4)", "checked"),
        (pa.decimal128(12, 2), "numeric(12,4)", "checked"),
        (pa.timestamp("ms"), "timestamp", "checked"),
        (pa.date32(), "date", "checked"),
        (pa.timestamp("ns"), "timestamp", "checked"),
        (pa.timestamp("us"), "timestamp(3)", "checked"),
        (pa.string(), "text", "checked"),
        (pa.large_string(), "text", "checked"),
        (pa.int64(), "bigint", "exact"),
        (pa.binary(), "bytea", "exact"),
        (pa.time64("us"), "time", "checked"),
        (pa.list_(pa.int64()), "integer[]", "checked"),
        (pa.month_day_nano_interval(), "interval", "checked"),
        (pa.string(), "varchar(3)", "checked"),
        (pa.string(), "inet", "checked"),
        (pa.string(), "bytea", "checked"),
        (pa.null(), "integer", "exact"),
        (pa.null(), "date", "exact"),
    ],
    ids=str,
)
def test_a_verdict_is_exact_only_where_every_value_fits(source: pa.DataType, sql: str, verdict: str) -> None:
    assert planned_column(source, sql).columns[0].verdict == verdict


def test_an_aware_timestamp_into_timestamp_is_lossy_where_that_is_allowed() -> None:
    (decided,) = planned(
        pa.schema([("c", pa.timestamp("us", "UTC"))]), table(column("c", "timestamp")), casts="lossy"
    ).columns
    assert (decided.verdict, decided.checks) == ("lossy", "gives up the time zone: UTC's clock is kept")


def test_a_fraction_into_an_integer_is_checked_and_only_lossy_where_that_is_allowed() -> None:
    offered, found = pa.schema([("c", pa.float64())]), table(column("c", "integer"))
    assert [planned(offered, found, casts=casts).columns[0].verdict for casts in ("exact", "lossy")] == [
        "checked",
        "lossy",
    ]


def test_what_loses_nothing_keeps_its_verdict_under_lossy_casts() -> None:
    assert [one.verdict for one in planned(casts="lossy").columns] == ["exact", "checked"]


@pytest.mark.parametrize("source", [pa.timestamp("us"), pa.string()], ids=str)
def test_a_naive_time_is_taken_as_the_clock_of_the_zone_that_is_assumed(source: pa.DataType) -> None:
    offered, found = pa.schema([("c", source)]), table(column("c", "timestamptz"))
    (decided,) = planned(offered, found, assume_timezone="Europe/Berlin").columns
    assert (decided.zone, decided.verdict) == ("Europe/Berlin", "checked")
    assert decided.checks.startswith("interpreted in Europe/Berlin; ")


@pytest.mark.parametrize(
    ("source", "sql"),
    [(pa.timestamp("us", "Asia/Tokyo"), "timestamptz"), (pa.timestamp("us"), "timestamp"), (pa.string(), "timestamp")],
    ids=["aware", "naive into timestamp", "text into timestamp"],
)
def test_a_zone_is_not_assumed_for_times_that_need_none(source: pa.DataType, sql: str) -> None:
    offered, found = pa.schema([("c", source)]), table(column("c", sql))
    assert planned(offered, found, assume_timezone="Europe/Berlin").columns[0].zone is None


def test_the_columns_that_rejects_bring_are_left_out_if_all_four_are_there() -> None:
    more = [("reject_row", pa.int64()), *((f"reject_{one}", pa.string()) for one in ("column", "reason", "problem"))]
    assert [one.name for one in planned(pa.schema([*SCHEMA, *more])).columns] == ["id", "name"]
    with pytest.raises(SchemaMismatch, match="not in the table: 'reject_row', 'reject_column', 'reject_reason'"):
        planned(pa.schema([*SCHEMA, *more[:3]]))


def test_a_column_that_takes_no_null_can_refuse_even_what_is_exact() -> None:
    first, second = planned(found=table(*ORDERS.columns[:1], column("name", "text"))).columns
    assert (first.verdict, first.can_refuse, second.can_refuse) == ("exact", True, True)
    assert planned_column(pa.int64(), "bigint").columns[0].can_refuse is False


@pytest.mark.parametrize(
    ("values", "sql"), [([1, 2, "x"], "bigint"), (["x", b"x"], "text"), ([True, True, 2], "boolean")], ids=str
)
def test_a_column_of_objects_of_several_kinds_is_checked(values: list[Any], sql: str) -> None:
    (decided,) = planned_column(mixed_array(values).type, sql).columns
    assert (decided.verdict, decided.can_refuse) == ("checked", True)


def test_dtype_decides_the_type_of_a_created_column() -> None:
    decided = planned(found=None, dtype={"id": sa.Numeric(12, 4), "name": sa.String})
    assert [one.target.sql for one in decided.columns] == ["NUMERIC(12, 4)", "VARCHAR"]


def test_dtype_for_a_column_that_the_source_lacks_is_refused_with_a_suggestion() -> None:
    with pytest.raises(PlanError, match=r"'nam'.*Did you mean 'name'\?"):
        planned(found=None, dtype={"nam": sa.Text()})


@pytest.mark.parametrize("given", ["numeric", int, 5])
def test_dtype_that_is_no_sqlalchemy_type_is_refused(given: object) -> None:
    with pytest.raises(PlanError, match=r"dtype\['id'\].*sqlalchemy\.Numeric"):
        planned(found=None, dtype={"id": given})


def test_a_plan_prints_its_columns_types_statements_and_method() -> None:
    text = str(planned(found=None))
    assert "load DataFrame (2 rows) into orders of PostgreSQL shop at db.example" in text
    assert "id    int64 → BIGINT  (exact)" in text
    assert "name  string → TEXT  (checked: NUL)" in text
    assert "rows that do not fit: nothing is loaded" in text
    assert "rows that do not fit: kept in report.rejects, the others are loaded" in str(planned(on_invalid="reject"))
    assert "id    int64 → bigint  (exact: not null)" in str(planned())
    assert 'first: CREATE TABLE "orders" ( "id" BIGINT, "name" TEXT )' in text
    assert "method: copy, because" in text
    assert "50,000 rows each" in text
    assert repr(planned(found=None)) == text


def test_a_plan_says_when_nobody_knows_the_rows() -> None:
    assert "an unknown number of rows" in str(planned(rows=None))
    assert "an unknown number of rows" in planned(rows=None)._repr_html_()


def test_a_plan_shows_the_same_facts_as_html() -> None:
    shown = planned(found=None)._repr_html_()
    assert all(
        fact in shown for fact in ("DataFrame", "int64", "BIGINT", "exact", "CREATE TABLE &quot;orders&quot;", "copy")
    )
    assert "not null</td>" in planned()._repr_html_()


def test_mathjax_leaves_a_plan_alone() -> None:
    assert planned()._repr_html_().startswith('<div class="mathjax_ignore tex2jax_ignore"')


def test_html_of_a_plan_escapes_what_comes_from_outside() -> None:
    evil = "<script>alert(1)</script>"
    found = table(column(evil, "text"), name=evil, copy_refused=evil)
    given = LoadOptions.of({"if_exists": "truncate"})
    offer = SourceInfo(evil, pa.schema([(evil, pa.string())]), 1)
    backend = backend_for(POSTGRES)
    shown = make_plan(offer, Target.of("orders", backend), found, given, Database(backend, evil))._repr_html_()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 6

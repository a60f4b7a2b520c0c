"""Queries and tables of SQLAlchemy, in each call that reads, on each database."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import fetch


class Mood(enum.Enum):
    SAD = "sad"
    GLAD = "glad"


class Base(orm.DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    day: orm.Mapped[dt.date]
    mood: orm.Mapped[Mood]
    amount: orm.Mapped[Decimal] = orm.mapped_column(sa.Numeric(10, 2))
    note: orm.Mapped[str | None]


OTHER = orm.aliased(Order)
ID = sa.select(Order.id)
PAID = Decimal("1.10")
QUERIES: dict[str, tuple[Any, dict[str, Any] | None]] = {
    "a class": (Order, None),
    "a table": (Order.__table__, None),
    "an entity": (sa.select(Order), None),
    "an alias": (sa.select(OTHER.id).where(OTHER.id > 0), None),
    "columns": (sa.select(Order.id, Order.amount.label("price")), None),
    "values of types": (ID.where(Order.day > dt.date(2023, 1, 1), Order.mood == Mood.SAD, Order.amount == PAID), None),
    "a list": (ID.where(Order.id.in_([1, 2, 3])), None),
    "a text as a value": (ID.where(sa.literal("it's :x $1 %s ?") != Order.note), None),
    "a bundle": (sa.select(orm.Bundle("b", Order.id, Order.day)), None),
    "a union": (sa.union(ID, sa.select(OTHER.id)), None),
    "a subquery": (ID.subquery(), None),
    "a common table expression": (ID.cte("c"), None),
    "a join": (sa.select(Order.id).join(OTHER, OTHER.id == Order.id), None),
    "a text": (sa.text("SELECT id FROM orders WHERE id > 0"), None),
    "a text with a value": (sa.text("SELECT id FROM orders WHERE id > :least").bindparams(least=0), None),
    "a text with a parameter": (sa.text("SELECT id FROM orders WHERE id > :least"), {"least": 0}),
    "a text with columns": (sa.text("SELECT id FROM orders").columns(Order.id), None),
    "a parameter": (ID.where(Order.id > sa.bindparam("least")), {"least": 0}),
}
IDS = [1, 2, 3]


@pytest.fixture
async def orders(database: AsyncEngine) -> AsyncEngine:
    async with database.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        common = {"day": dt.date(2024, 1, 1), "mood": Mood.SAD, "amount": PAID, "note": "n"}
        await connection.execute(sa.insert(Order), [{"id": number, **common} for number in IDS])
    return database


async def _frame(query: Any, params: Any, engine: AsyncEngine, _folder: Path) -> list[int]:
    return sorted((await dl.read_dataframe(query, params, engine=engine))["id"].tolist())


async def _batches(query: Any, params: Any, engine: AsyncEngine, _folder: Path) -> list[int]:
    batches = dl.read_batches(query, params, engine=engine)
    return sorted([one async for batch in batches for one in batch["id"].to_pylist()])


async def _started(query: Any, params: Any, engine: AsyncEngine, _folder: Path) -> list[int]:
    url = engine.url.render_as_string(hide_password=False)
    return sorted((await dl.start_read(query, params, engine=url, as_="arrow"))["id"].to_pylist())


async def _export(query: Any, params: Any, engine: AsyncEngine, folder: Path) -> list[int]:
    await dl.export(query, folder / "t.csv", params, engine=engine)
    lines = (folder / "t.csv").read_text().splitlines()
    return sorted(int(line.split(",")[0]) for line in lines[1:])


async def _copy(query: Any, params: Any, engine: AsyncEngine, folder: Path) -> list[int]:
    target = dl.connect(f"sqlite:///{folder / 'copy.db'}")
    try:
        await dl.copy_table(query, "copied", params, source=engine, engine=target)
        return [one for (one,) in await fetch(target, "SELECT id FROM copied ORDER BY id")]
    finally:
        await target.dispose()


async def _compare(query: Any, params: Any, engine: AsyncEngine, _folder: Path) -> list[int]:
    found = await dl.compare({"id": IDS}, query, params, key="id", engine=engine)
    return IDS if found.equal else []


Call = Callable[[Any, Any, AsyncEngine, Path], Awaitable[list[int]]]
CALLS: dict[str, Call] = {
    "read_dataframe": _frame,
    "read_batches": _batches,
    "start_read": _started,
    "export": _export,
    "copy_table": _copy,
    "compare": _compare,
}


@pytest.mark.parametrize("call", CALLS)
async def test_each_query_of_sqlalchemy_is_read_by_each_call(orders: AsyncEngine, tmp_path: Path, call: str) -> None:
    for number, (what, (query, params)) in enumerate(QUERIES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert await CALLS[call](query, params, orders, folder) == IDS, what


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "no value": (ID.where(Order.id == sa.bindparam("q")), None, "A value is required for bind parameter 'q'"),
    "a value too many": (ID, {"q": 1}, "no parameter 'q'"),
    "a list": (ID, [1], r"has no \$1"),
    "parameters of a table": ("orders", {"q": 1}, "given for a table"),
    "a statement that writes": (sa.delete(Order), None, "got Delete"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("call", CALLS)
async def test_what_is_wrong_with_a_query_of_sqlalchemy_is_said(
    sqlite: AsyncEngine, tmp_path: Path, call: str, what: str
) -> None:
    query, params, words = REFUSED[what]
    with pytest.raises(dl.PlanError, match=words):
        await CALLS[call](query, params, sqlite, tmp_path)

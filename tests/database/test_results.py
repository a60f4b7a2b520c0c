"""Rows of SQLAlchemy are loaded by name, from whatever database they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import dataloader as dl
from dataloader.errors import PlanError
from tests.conftest import execute, fetch


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
async def users(database: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    await execute(database, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    await execute(database, "INSERT INTO users VALUES (1, 'a'), (2, 'b')")
    async with database.connect() as connection:
        yield connection


SELECT = sa.select(User.id, User.name).order_by(User.id)


async def test_a_result_of_sqlalchemy_is_loaded_by_name(users: AsyncConnection, tmp_path: Path) -> None:
    sqlite = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/target.db")
    taken = 0
    for rows in (
        await users.execute(SELECT),
        (await users.execute(SELECT)).all(),
        (await users.execute(SELECT)).mappings(),
        await users.stream(SELECT),
    ):
        await dl.load_rows(rows, "t", engine=sqlite)
        taken += 1
        assert await fetch(sqlite, "SELECT count(*), count(DISTINCT id), min(name) FROM t") == [(2 * taken, 2, "a")]
    await sqlite.dispose()


async def test_an_empty_result_has_columns_and_one_that_was_read_is_refused(
    users: AsyncConnection, tmp_path: Path
) -> None:
    sqlite = f"sqlite:///{tmp_path}/target.db"
    await dl.load_rows([{"id": 1, "name": "x"}], "t", engine=sqlite)
    nothing = SELECT.where(User.id > 5)
    for empty in (await users.execute(nothing), await users.stream(nothing), (await users.execute(nothing)).mappings()):
        assert (await dl.load_rows(empty, "t", engine=sqlite)).loaded == 0
    for query in (SELECT, nothing):
        taken = await users.execute(query)
        taken.all()
        with pytest.raises(PlanError, match="CursorResult has been read already"):
            await dl.load_rows(taken, "t", engine=sqlite)


async def test_the_entities_of_a_session_are_loaded_by_their_columns(sqlite: AsyncEngine) -> None:
    other = sa.create_engine("sqlite://")
    Base.metadata.create_all(other)
    with Session(other) as session:
        session.add_all([User(id=1, name="a"), User(id=2, name="b")])
        session.flush()
        for rows in (session.scalars(sa.select(User)).all(), session.execute(sa.select(User)).all()):
            await dl.load_rows(rows, "t", engine=sqlite)
        with pytest.raises(PlanError, match=r"the thread of its connection only.*result.all\(\)"):
            await dl.load_rows(session.execute(sa.select(User)), "t", engine=sqlite)
        session.rollback()
    other.dispose()
    assert await fetch(sqlite, "SELECT * FROM t ORDER BY id, name") == [(1, "a")] * 2 + [(2, "b")] * 2

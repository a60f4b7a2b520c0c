"""One PostgreSQL database for the whole folder, emptied after each test: a new one for each takes ten times as long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from dataloader import embedded
from dataloader.engine import open_engine

_EMPTY = (
    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()""",
    """DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name);
        END LOOP;
        EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    END $$""",
    "CREATE SCHEMA public",
)


@pytest.fixture
async def postgres_url(server: embedded.Server) -> AsyncIterator[sa.URL]:
    """The URL of an empty database."""
    yield server.url
    admin = open_engine(server.url)
    async with admin.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in _EMPTY:
            await connection.exec_driver_sql(statement)
    await admin.dispose()

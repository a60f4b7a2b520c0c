"""Backends: what differs between databases, one file each, behind the one class of `base`; `backend_for` picks one.

Whoever is outside asks a backend for a fact or an act, and never a dialect for its name. A backend knows no load, no
source and no ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataloader.database.backends.base import Backend

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

__all__ = ["Backend", "backend_for"]


def backend_for(dialect: Dialect) -> Backend:
    """The backend of an engine's or a connection's dialect; only that of the database at hand is imported."""
    # PostgreSQL's takes 0.09 s, a third of the first load into SQLite.
    if dialect.name == "sqlite":
        from dataloader.database.backends.sqlite import SQLite  # noqa: PLC0415 - as above

        return SQLite(dialect)
    if dialect.name == "postgresql":
        return _postgresql(dialect)
    from dataloader.database.backends.generic import Generic  # noqa: PLC0415 - as above

    return Generic(dialect)


def _postgresql(dialect: Dialect) -> Backend:
    if getattr(dialect, "driver", None) == "asyncpg":  # a dialect that only spells SQL has none
        from dataloader.database.backends.asyncpg import Asyncpg  # noqa: PLC0415 - as above

        return Asyncpg(dialect)
    from dataloader.database.backends.postgresql import PostgreSQL  # noqa: PLC0415 - as above

    return PostgreSQL(dialect)

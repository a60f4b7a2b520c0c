"""Backends: what differs between databases, one file each, behind the one class of `base`; `backend_for` picks one.

Whoever is outside asks a backend for a fact or an act, and never a dialect for its name. A backend knows no load, no
source and no ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataloader.database.backends.asyncpg import Asyncpg
from dataloader.database.backends.base import Backend
from dataloader.database.backends.generic import Generic
from dataloader.database.backends.postgresql import PostgreSQL
from dataloader.database.backends.sqlite import SQLite

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

__all__ = ["Backend", "backend_for"]


def backend_for(dialect: Dialect) -> Backend:
    """The backend of an engine's or a connection's dialect."""
    if dialect.name == "sqlite":
        return SQLite(dialect)
    if dialect.name == "postgresql":
        is_asyncpg = getattr(dialect, "driver", None) == "asyncpg"  # a dialect that only spells SQL has none
        return Asyncpg(dialect) if is_asyncpg else PostgreSQL(dialect)
    return Generic(dialect)

"""Any other database, as SQLAlchemy knows it."""

from __future__ import annotations

from dataloader.database.backends.base import Backend


class Generic(Backend):
    """A database without a file of its own here."""

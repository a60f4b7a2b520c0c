"""What a database's SQL makes of types and values, whichever the column: one row for each that differs."""

from __future__ import annotations

from dataclasses import dataclass

from dataloader.conversion import temporal


@dataclass(frozen=True, slots=True)
class SqlDialect:
    """How types are spelled and which values are kept.

    Attributes
    ----------
    name : str
        SQLAlchemy's.
    has_arrays : bool
        Whether a type that ends in brackets is an array.
    has_affinities : bool
        Whether a type is whatever was declared, and only its affinity counts.
    keeps_nul : bool
        Whether a text may contain the character U+0000.
    days, timestamps : tuple of int
        The first day and the one after the last, since 1970; the same for timestamps, in microseconds.
    """

    name: str
    has_arrays: bool = False
    has_affinities: bool = False
    keeps_nul: bool = True
    days: tuple[int, int] = (temporal.FIRST_YEAR, temporal.END_OF_YEARS)
    timestamps: tuple[int, int] = (temporal.FIRST_YEAR * temporal.DAY, temporal.END_OF_YEARS * temporal.DAY)


POSTGRESQL = SqlDialect(
    "postgresql",
    has_arrays=True,
    keeps_nul=False,
    days=(temporal.FIRST_DAY, temporal.LAST_DAY + 1),
    timestamps=(temporal.FIRST_TIMESTAMP, temporal.END_OF_TIMESTAMPS),
)
SQLITE = SqlDialect("sqlite", has_affinities=True)
_DIFFERENT = {one.name: one for one in (POSTGRESQL, SQLITE)}


def dialect_of(name: str) -> SqlDialect:
    """The row of a database by SQLAlchemy's name; of one that is not known, the years and texts of any."""
    return _DIFFERENT.get(name) or SqlDialect(name)

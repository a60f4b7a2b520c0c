"""Checkpoints: what is committed of a load, and whether the source still gives the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataloader.errors import SourceChanged

if TYPE_CHECKING:
    from dataloader.conversion.violations import Violation
    from dataloader.database.schema import Fingerprint
    from dataloader.ledger.owners import Owner


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed chunk."""

    chunk: int
    first_row: int
    rows: int
    loaded: int
    rejected: int
    digest: str

    def check(self, chunk: Checkpoint) -> None:
        """Refuse a chunk of the source that is not the one that was committed.

        Raises
        ------
        SourceChanged
            Naming the chunk.
        """
        if (chunk.digest, chunk.rows, chunk.first_row) != (self.digest, self.rows, self.first_row):
            raise source_changed(self.chunk, f"its {chunk.rows:,} rows from row {chunk.first_row:,} on differ")


def rows_of(violations: list[Violation]) -> int:
    """How many rows the violations are about."""
    return len({one.row for one in violations})


@dataclass(slots=True)
class LedgerLoad:
    """A load that this process owns: its name, the table as it was, and what earlier runs have committed."""

    load_id: str
    owner: Owner
    fingerprint: Fingerprint
    finished: bool = False
    committed: dict[int, Checkpoint] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The rows of the source that earlier runs have committed."""
        return sum(one.rows for one in self.committed.values())

    @property
    def rejected(self) -> int:
        """How many of them were refused."""
        return sum(one.rejected for one in self.committed.values())

    @property
    def loaded(self) -> int:
        """How many of them are in the table."""
        return sum(one.loaded for one in self.committed.values())


def source_changed(chunk: int, how: str) -> SourceChanged:
    hint = "Pass the data that the load began with, or load this as another one: resume=False."
    what = f"the source has changed since it was loaded: chunk {chunk}, {how}"
    return SourceChanged(what, hint=hint, committed_rows=0, chunk=chunk)

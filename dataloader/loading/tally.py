"""What a load has done so far, whoever of its workers did it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dataloader.conversion.violations import Violation
    from dataloader.display.progress import Progress
    from dataloader.loading.chunks import Chunk
    from dataloader.loading.storage import Stored
    from dataloader.rejects import Rejects


@dataclass(slots=True)
class Tally:
    """Counts chunks as they are stored, and shows it."""

    rejects: Rejects
    progress: Progress
    read: int = 0
    loaded: int = 0
    chunks: int = 0
    nbytes: int = 0
    earlier_rejected: int = 0
    notices: list[str] = field(default_factory=list)

    def add(self, chunk: Chunk, stored: Stored) -> None:
        self.read += chunk.rows
        self.loaded += stored.rows
        self.chunks += 1
        self.nbytes += chunk.nbytes
        self.progress.state.advance(chunk.rows, chunk.nbytes, self._reject(chunk, stored.violations))

    def recall(self, chunk: Chunk, violations: Sequence[Violation]) -> None:
        """Take in what an earlier run has refused."""
        rejected = self._reject(chunk, violations)
        self.earlier_rejected += rejected
        self.progress.state.rejected += rejected

    def _reject(self, chunk: Chunk, violations: Sequence[Violation]) -> int:
        state = self.progress.state
        if violations and state.first_rejected is None:
            state.first_rejected = str(violations[0])
        return self.rejects.add(chunk.batch, chunk.first_row, violations)

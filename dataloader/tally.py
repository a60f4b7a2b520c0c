"""What a load has done so far, whoever of its workers did it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataloader.chunks import Chunk
    from dataloader.progress import Progress
    from dataloader.rejects import Rejects
    from dataloader.storing import Stored


@dataclass(slots=True)
class Tally:
    """Counts chunks as they are stored, and shows it."""

    rejects: Rejects
    progress: Progress
    read: int = 0
    loaded: int = 0
    chunks: int = 0
    nbytes: int = 0
    notices: list[str] = field(default_factory=list)

    def add(self, chunk: Chunk, stored: Stored) -> None:
        self.read += chunk.rows
        self.loaded += stored.rows
        self.chunks += 1
        self.nbytes += chunk.nbytes
        state, before = self.progress.state, len(self.rejects)
        self.rejects.add(chunk.batch, chunk.first_row, stored.violations)
        state.advance(chunk.rows, chunk.nbytes, len(self.rejects) - before)
        if stored.violations and state.first_rejected is None:
            state.first_rejected = str(stored.violations[0])

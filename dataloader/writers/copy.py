"""Binary COPY: pgpq writes the bytes, asyncpg sends them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pgpq
import pyarrow as pa
from pgpq import encoders
from pgpq.schema import Jsonb

from dataloader.engine import driver_of
from dataloader.errors import LoadError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.guard import Lifeline
    from dataloader.plan import ColumnPlan, LoadPlan

PIECE_BYTES = 256 * 1024
"""How much is handed to the socket at once: enough to keep it busy, little enough to stop at once."""
ENCODED_ROWS = 4_096
"""pgpq 0.12 holds the GIL while it encodes, 0.2 s for a million rows of five columns, and the loop cannot feed the
socket meanwhile. In slices, with the GIL let go between them, the server does not run dry."""


class CopyWriter:
    """Writes chunks by binary COPY, one COPY for each chunk."""

    def __init__(self, plan: LoadPlan) -> None:
        self._name = plan.table.name
        self._columns = [column.name for column in plan.columns]
        self._schema = pa.schema([pa.field(column.name, column.carrier) for column in plan.columns])
        self._builders = {column.name: _builder(column) for column in plan.columns}

    def encode(self, batch: pa.RecordBatch) -> tuple[list[bytes], int]:
        encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(self._schema, self._builders)
        parts = [encoder.write_header()]
        for start in range(0, batch.num_rows, ENCODED_ROWS):
            parts.append(encoder.write_batch(batch.slice(start, ENCODED_ROWS)))
            time.sleep(0)
        parts.append(encoder.finish())
        return parts, sum(map(len, parts))

    async def write(self, connection: AsyncConnection, encoded: list[bytes], line: Lifeline) -> int | None:
        driver = await driver_of(connection)
        if not driver.is_in_transaction():
            # A COPY outside SQLAlchemy's transaction is committed at once and survives its rollback.
            hint = "Report it, with the versions of SQLAlchemy and asyncpg."
            raise LoadError("COPY would not be part of the transaction", hint=hint)
        status = await driver.copy_to_table(
            self._name.name,
            schema_name=self._name.schema,
            columns=self._columns,
            source=_pieces(encoded, line),
            format="binary",
        )
        return int(status.removeprefix("COPY "))


async def _pieces(parts: list[bytes], line: Lifeline) -> AsyncIterator[memoryview]:
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            yield memoryview(part)[start : start + PIECE_BYTES]
            line.progress()


def _builder(column: ColumnPlan) -> Any:
    field = pa.field(column.name, column.carrier)
    if column.target.kind == "jsonb":
        return encoders.StringEncoderBuilder.new_with_output(field, Jsonb())
    return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)

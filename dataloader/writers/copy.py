"""COPY: pgpq writes the binary form, Arrow the text form, asyncpg sends them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pgpq
import pgpq.schema
import pyarrow as pa
import pyarrow.csv
from pgpq import encoders

from dataloader.database.backends.base import driver_of, raise_as_sqlalchemys
from dataloader.errors import LoadError
from dataloader.writers.base import Written

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.rules import ColumnPlan
    from dataloader.database.watchdog import Watchdog
    from dataloader.plan import LoadPlan

PIECE_BYTES = 256 * 1024
"""How much is handed to the socket at once: enough to keep it busy, little enough to stop at once."""
ENCODED_ROWS = 16_384
"""pgpq 0.12 holds the GIL while it encodes, 0.2 s for a million rows of five columns, and the loop cannot feed the
socket meanwhile. In slices, with the GIL let go between them, the server does not run dry."""


class CopyWriter:
    """Writes chunks by binary COPY, one COPY for each chunk."""

    _format = "binary"

    def __init__(self, plan: LoadPlan) -> None:
        self._name = plan.table.name
        self._plans = plan.columns
        self._columns = [column.name for column in plan.columns]
        self._schema = pa.schema([_field(column) for column in plan.columns])
        self._builders = {column.name: _builder(column) for column in plan.columns}

    def encode(self, batch: pa.RecordBatch) -> tuple[list[bytes], int]:
        arrays = [_binary(values, column) for values, column in zip(batch.columns, self._plans, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(self._schema, self._builders)
        parts = [encoder.write_header()]
        for start in range(0, batch.num_rows, ENCODED_ROWS):
            parts.append(encoder.write_batch(batch.slice(start, ENCODED_ROWS)))
            time.sleep(0)
        parts.append(encoder.finish())
        return parts, sum(map(len, parts))

    async def write(self, connection: AsyncConnection, encoded: list[bytes], watchdog: Watchdog) -> Written | None:
        driver = await driver_of(connection)
        if not driver.is_in_transaction():
            # A COPY outside SQLAlchemy's transaction is committed at once and survives its rollback.
            hint = "Report it, with the versions of SQLAlchemy and asyncpg."
            raise LoadError("COPY would not be part of the transaction", hint=hint)
        try:
            status = await self._copy(driver, encoded, watchdog)
        except Exception as error:
            raise_as_sqlalchemys(connection, error, f"COPY {self._name}")
            raise
        return Written(int(status.removeprefix("COPY ")))

    async def _copy(self, driver: Any, encoded: list[bytes], watchdog: Watchdog) -> str:
        status: str = await driver.copy_to_table(
            self._name.name,
            schema_name=self._name.schema,
            columns=self._columns,
            source=_pieces(encoded, watchdog),
            format=self._format,
        )
        return status


class CsvCopyWriter(CopyWriter):
    """Writes chunks by COPY as CSV, for the types that the server can only be given as text.

    A value is quoted and NULL is not, so that an empty text is a value.
    """

    _format = "csv"

    def __init__(self, plan: LoadPlan) -> None:
        self._name = plan.table.name
        self._plans = plan.columns
        self._columns = [column.name for column in plan.columns]

    def encode(self, batch: pa.RecordBatch) -> tuple[list[bytes], int]:
        arrays = [column.target.to_text(values) for values, column in zip(batch.columns, self._plans, strict=True)]
        buffer = pa.BufferOutputStream()
        options = pa.csv.WriteOptions(include_header=False, quoting_style="all_valid")
        pa.csv.write_csv(pa.RecordBatch.from_arrays(arrays, names=self._columns), buffer, options)
        encoded = buffer.getvalue().to_pybytes()
        return [encoded], len(encoded)

    async def _copy(self, driver: Any, encoded: list[bytes], watchdog: Watchdog) -> str:
        try:
            return await super()._copy(driver, encoded, watchdog)
        except Exception as error:
            driver_error: Any = error
            if isinstance(context := getattr(error, "context", None), str):
                driver_error.context = _LINE.sub(
                    lambda found: found[1] + str(_row_at(encoded[0], int(found[2]))), context
                )
            raise


_LINE = re.compile(r"^(COPY .*, line )(\d+)", re.MULTILINE)


def _row_at(encoded: bytes, line: int) -> int:
    """Which row ends with a line, both counted from 1: the server counts the lines inside texts as well."""
    content = np.frombuffer(encoded, np.uint8)
    ends = np.flatnonzero(content == ord("\n"))[:line]
    return int(np.count_nonzero(np.cumsum(content == ord('"'))[ends] % 2 == 0))


async def _pieces(parts: list[bytes], watchdog: Watchdog) -> AsyncIterator[memoryview]:
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            yield memoryview(part)[start : start + PIECE_BYTES]
            watchdog.reset_timeout()


def _field(column: ColumnPlan) -> pa.Field:
    return pa.field(column.name, column.target.row.copy_arrow or column.arrow_type)


def _binary(values: pa.Array, column: ColumnPlan) -> pa.Array:
    """A decimal that PostgreSQL keeps as a count of its smallest unit: that is what the decimal's lower half holds."""
    wanted = column.target.row.copy_arrow
    if wanted is None:
        return values
    digits = values.buffers()[1]
    counts = np.frombuffer(digits, np.int64)[::2][values.offset : values.offset + len(values)]
    return pa.array(counts, wanted, mask=values.is_null().to_numpy(zero_copy_only=False))


def _builder(column: ColumnPlan) -> Any:
    field = _field(column)
    if column.target.row.copy_type:
        output = getattr(pgpq.schema, column.target.row.copy_type)()
        return encoders.StringEncoderBuilder.new_with_output(field, output)
    return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)

"""CSV files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dataloader.conversion.inference import SPELLED
from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.sources.formats import READ_BYTES, Format, no_rows
from dataloader.sources.paths import File, TooLarge


def _csv_options(types: dict[str, pa.DataType] | None = None) -> pa.csv.ConvertOptions:
    """PostgreSQL's rule for CSV: an empty field without quotes is NULL, and nothing else is."""
    return pa.csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _csv_schema(file: File) -> pa.Schema:
    """The types that the first megabyte suggests, for a table that is to be created."""
    with file.stream() as stream, _naming_long_rows(), _csv_reader(stream, _csv_options()) as reader:
        return pa.schema([field.with_metadata(SPELLED) for field in reader.schema])


def _csv_batches(file: File, _chunk_rows: int, _names: list[str]) -> Iterator[pa.RecordBatch]:
    """Read every field as text: the converter turns it into what the column wants, to the last digit."""
    names = _csv_schema(file).names
    options = _csv_options(dict.fromkeys(names, pa.string()))
    are_rejects = set(REJECT_COLUMNS) <= set(names)
    with file.stream() as stream, _naming_long_rows(), _csv_reader(stream, options) as reader:
        for batch in reader:
            yield _without_apostrophes(batch) if are_rejects else batch


_GUARDED = r"^'('*[=+\-@\t\r])"


def _without_apostrophes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The strings that a spreadsheet would run as formulas, without what a file of rejects puts in front of them."""
    arrays = [pc.replace_substring_regex(values, _GUARDED, r"\1") for values in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


@contextlib.contextmanager
def _naming_long_rows() -> Iterator[None]:
    """Arrow advises an option that is not ours."""
    try:
        yield
    except pa.ArrowInvalid as error:
        if "straddling object" not in str(error):
            raise
        hint = "check that every quote has its end, shorten the row, or load it from JSON lines or Parquet"
        raise TooLarge(f"a row is longer than {READ_BYTES:,} bytes: {hint}") from error


def _csv_reader(stream: Any, options: pa.csv.ConvertOptions) -> pa.csv.CSVStreamingReader:
    reading = pa.csv.ReadOptions(block_size=READ_BYTES)
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.open_csv(stream, read_options=reading, convert_options=options, parse_options=parsing)


CSV = Format(_csv_schema, no_rows, _csv_batches)

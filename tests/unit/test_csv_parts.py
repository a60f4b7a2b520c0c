"""A CSV file that is read in parts gives the rows that it gives as a whole, with their lines; else it is one part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataloader.errors import PlanError
from dataloader.sources import csv_parts
from dataloader.sources.csv_options import CsvOptions
from dataloader.sources.files import listing_of, listings_of_parts, open_listing
from dataloader.sources.paths import Listing
from dataloader.sources.selection import Reading
from tests.conftest import FULL

ROWS = "".join(f"{number},text {number}\n" for number in range(40))
QUOTED = "".join(f'{number},"a ""text""\nof {number} lines, and\r\nmore"\n' for number in range(40))


def rows_of(listings: list[Listing], reading: Reading) -> list[Any]:
    return [
        row
        for listing in listings
        for chunk in open_listing(listing, reading).batches(7)
        for row in (batch_rows(chunk))
    ]


def batch_rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """The rows of a batch, ragged ones as what is stored of them."""
    columns = [getattr(column, "storage", column).to_pylist() for column in batch.columns]
    return [tuple(_plain(value) for value in row) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    """A value of a column in which others are ragged rows is that value."""
    is_sound = isinstance(value, dict) and [key for key, held in value.items() if held is not None] in ([], ["0"])
    return next(iter(value.values())) if is_sound else value if not isinstance(value, dict) else str(value)


def in_parts(
    monkeypatch: pytest.MonkeyPatch, path: Path, options: CsvOptions | None, part_bytes: int, block_bytes: int
) -> int:
    """Compare a file with its parts; how many there are."""
    monkeypatch.setattr(csv_parts, "PART_BYTES", part_bytes)
    monkeypatch.setattr(csv_parts, "BLOCK_BYTES", block_bytes)
    reading = Reading(csv=options)
    whole = listing_of(path, reading)
    parts = listings_of_parts(whole, reading)
    assert rows_of(parts, reading) == rows_of([whole], reading)
    return len(parts)


SPLIT: dict[str, tuple[bytes, CsvOptions | None]] = {
    "plain": (("id,t\n" + ROWS).encode(), None),
    "lines that end as Windows ends them": (("id,t\n" + ROWS).replace("\n", "\r\n").encode(), None),
    "lines within quotes": (("id,t\n" + QUOTED).encode(), None),
    "a header of several lines": (('id,"t\nin a\nfew lines"\n' + QUOTED).encode(), None),
    "no header": ((ROWS).encode(), CsvOptions(header=False)),
    "no header, and lines within quotes": (QUOTED.encode(), CsvOptions(header=False)),
    "lines before the header": (('5" wide\nand more\nid,t\n' + QUOTED).encode(), CsvOptions(skip=2)),
    "a byte order mark": (('"id",t\n' + QUOTED).encode("utf-8-sig"), None),
    "cp1252": (("id,t\n" + ROWS.replace("text", "prix €")).encode("cp1252"), None),
    "no quotes": (("id,t\n" + ROWS.replace("text", '5" wide')).encode(), CsvOptions(quote="")),
    "another quote": (("id,t\n" + QUOTED.replace('"', "'")).encode(), CsvOptions(quote="'")),
    "semicolons": (("id;t\n" + QUOTED.replace(',"', ';"')).encode(), None),
    "ragged rows": (("id,t\n" + ROWS.replace(",text 7", "").replace(",text 3", ",a,b")).encode(), None),
    "ragged rows, and lines within quotes": (("id,t\n" + QUOTED.replace("\n2", "\n1,2,3\n2")).encode(), None),
    "empty lines": (("id,t\n" + ROWS.replace("\n3", "\n\n\n3")).encode(), None),
    "empty lines of one column": (("t\n" + "a\n\nb\n" * 40).encode(), None),
    "no line end at the end": (("id,t\n" + ROWS).encode().rstrip(), None),
}
WHOLE: dict[str, tuple[bytes, CsvOptions | None]] = {
    "a quote within a field": (("id,t\n" + ROWS.replace("text 33", '5" wide')).encode(), None),
    "a space before a quote": (("id,t\n" + QUOTED.replace(',"', ', "')).encode(), None),
    "a quote that is never closed": (("id,t\n" + ROWS + '41,"open\n').encode(), None),
    "UTF-16": (("id,t\n" + ROWS).encode("utf-16"), None),
    "small": (b"id,t\n1,a\n", None),
}


@pytest.mark.parametrize(("part_bytes", "block_bytes"), [(1, 1), (60, 100), (150, 1 << 20)])
@pytest.mark.parametrize("name", SPLIT)
def test_parts_have_the_rows_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, part_bytes: int, block_bytes: int
) -> None:
    content, options = SPLIT[name]
    (tmp_path / "a.csv").write_bytes(content)
    count = in_parts(monkeypatch, tmp_path / "a.csv", options, part_bytes, block_bytes)
    assert count > 1
    assert part_bytes > 1 or count >= 40


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_cannot_be_split_for_sure_is_one_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    content, options = WHOLE[name]
    (tmp_path / "a.csv").write_bytes(content)
    if "never closed" in name:
        monkeypatch.setattr(csv_parts, "PART_BYTES", 60)
        listing = listing_of(tmp_path / "a.csv", Reading())
        assert len(listings_of_parts(listing, Reading())) == 1
    else:
        assert in_parts(monkeypatch, tmp_path / "a.csv", options, 60, 100) == 1


@settings(
    max_examples=3_000 if FULL else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.text('ab",\n\r', min_size=2, max_size=40), st.sampled_from([1, 3, 8]), st.sampled_from([1, 2, 5, 100]))
@example('a,"b\n"\n"",\n', 1, 1)
@example('a,"\n"b"\n"a",b\n"a\n', 1, 1)
def test_whatever_quotes_a_file_has_no_row_is_read_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, part_bytes: int, block_bytes: int
) -> None:
    (tmp_path / "a.csv").write_bytes(("x,y\n" + text).encode())
    options = CsvOptions(delimiter=",", header=True, skip=0)
    try:
        rows_of([listing_of(tmp_path / "a.csv", Reading(csv=options))], Reading(csv=options))
    except Exception:  # a file that cannot be read has no rows to compare
        return
    in_parts(monkeypatch, tmp_path / "a.csv", options, part_bytes, block_bytes)


def test_one_that_is_empty_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    monkeypatch.setattr(csv_parts, "PART_BYTES", -1)
    with pytest.raises(PlanError, match=r"a\.csv cannot be read: it is empty"):
        listings_of_parts(listing_of(tmp_path / "a.csv", Reading()), Reading())

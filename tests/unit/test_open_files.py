"""Open files load, whatever they are; what can be read once is never half of itself."""

from __future__ import annotations

import asyncio
import gc
import gzip
import http.server
import io
import json
import os
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import openpyxl
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest

import dataloader as dl
from dataloader.errors import LoadError, PlanError
from dataloader.sources import streams
from dataloader.sources.files import open_files
from dataloader.sources.kinds import KINDS
from dataloader.sources.selection import FileFormat, Reading
from tests.unit.test_files import TABLE, texts, write_arrow_file, write_arrow_stream

ROWS = texts(TABLE.to_pylist())


class Once:
    """A stream that gives a few bytes at a time, and each once."""

    def __init__(self, content: bytes, name: str | None = None) -> None:
        self._content = io.BytesIO(content)
        if name is not None:
            self.name = name

    def read(self, count: int = -1) -> bytes:
        return self._content.read(min(count, 7_000) if count > 0 else 7_000)


def rows_of(data: Any, **reading: Any) -> list[dict[str, Any]]:
    source = open_files(data, Reading(**reading))
    return texts([row for batch in source.batches(1_000) for row in batch.to_pylist()])


def workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [list(TABLE.column_names), *(list(one.values()) for one in TABLE.to_pylist())]:
        book.active.append(row)
    book.save(path)


CSV = b"id,name\n1,x\n2,\n3,z\n"
JSON = json.dumps(TABLE.to_pylist()).encode()
WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "csv": ("csv", lambda path: path.write_bytes(CSV)),
    "csv.gz": ("csv", lambda path: path.write_bytes(gzip.compress(CSV))),
    "csv.zip": ("csv", lambda path: zipfile.ZipFile(path, "w").writestr("a.csv", CSV)),
    "parquet": ("parquet", lambda path: pa.parquet.write_table(TABLE, path)),
    "orc": ("orc", lambda path: pa.orc.write_table(TABLE, path)),
    "arrow": ("arrow", lambda path: write_arrow_file(TABLE, path)),
    "arrow stream": ("arrow", lambda path: write_arrow_stream(TABLE, path)),
    "json": ("json", lambda path: path.write_bytes(JSON)),
    "json.gz": ("json", lambda path: path.write_bytes(gzip.compress(JSON))),
    "lines": ("json", lambda path: path.write_text("".join(json.dumps(one) + "\n" for one in TABLE.to_pylist()))),
    "xlsx": ("excel", workbook),
}


@pytest.mark.parametrize(("kind", "write"), WRITERS.values(), ids=WRITERS)
def test_an_open_file_of_every_kind_is_known_by_its_beginning(
    tmp_path: Path, kind: str, write: Callable[[Path], object]
) -> None:
    path = tmp_path / "nameless"
    write(path)
    content = path.read_bytes()
    with path.open("rb") as opened:
        for data in (opened, io.BytesIO(content), Once(content)):
            source = open_files(data)
            assert ("format", f"{kind}, by its beginning; format= decides") in source.facts
            assert texts([row for batch in source.batches(2) for row in batch.to_pylist()]) == ROWS
        assert opened.tell() == 0
    assert rows_of(Once(content), format=kind) == ROWS
    assert rows_of(path, format=kind) == ROWS


def test_the_formats_that_can_be_said_are_the_kinds_that_there_are() -> None:
    assert {kind.name for kind in KINDS} == set(get_args(FileFormat))


def test_the_name_of_an_open_file_says_what_it_is() -> None:
    assert open_files(Once(CSV, "/tmp/some.tsv"), Reading()).name == "some.tsv"
    with pytest.raises(PlanError, match=r"x.parquet cannot be read"):
        open_files(Once(CSV, "x.parquet"))
    assert rows_of(Once(CSV, "x.parquet"), format="csv") == ROWS
    packed = gzip.GzipFile("x.csv.gz", fileobj=io.BytesIO(gzip.compress(CSV)))
    assert rows_of(packed) == ROWS, "called gzip, and unpacked already"


def test_an_open_file_is_read_from_where_it_stands_and_stands_there_afterwards() -> None:
    data = io.BytesIO(b"a comment\n" + CSV)
    data.readline()
    assert (rows_of(data), data.tell(), rows_of(data)) == (ROWS, 10, ROWS)
    reading = open_files(data).batches(1)
    next(reading)
    reading.close()
    assert data.tell() == 10


def test_a_stream_that_was_planned_is_loaded_whole_and_after_that_refused() -> None:
    data = Once(b"id\n" + b"".join(b"%d\n" % number for number in range(50_000)))
    source = open_files(data)
    assert "to continue the load, pass it again from its start" in dict(source.facts)["Once"]
    assert len(rows_of(data)) == 50_000
    with pytest.raises(PlanError, match="Once has been read already"):
        open_files(data)


def test_a_stream_whose_load_ended_early_can_be_loaded_again() -> None:
    data = Once(b"id\n" + b"1\n" * 30_000)
    reading = open_files(data).batches(10)
    next(reading)
    reading.close()
    assert len(rows_of(data)) == 30_000


class Endless:
    """Rows for as long as somebody reads."""

    given = 0

    def read(self, count: int) -> bytes:
        self.given += 65_536
        return b"%s\n" % (b"x" * 63) * 1_024


def test_the_first_rows_of_a_stream_that_never_ends_are_there_at_once() -> None:
    data = Endless()
    reading = open_files(data, Reading(format="csv")).batches(100)
    assert next(reading).num_rows == 100
    reading.close()
    assert data.given < 80e6, "8 MB for the types and what Arrow reads ahead"


def test_what_was_kept_of_a_stream_is_gone_with_it() -> None:
    data = Once(CSV)
    open_files(data)
    key = id(data)
    spool = streams._spools[key][1]
    del data
    gc.collect()
    assert (key in streams._spools, spool.is_closed) == (False, True)


def test_a_row_that_is_ragged_or_long_is_found_in_a_stream_too() -> None:
    content = b"id,text\n1,a\n2\n" + b"3," + b"x" * (3 << 20) + b"\n"
    source = open_files(Once(content), Reading(format="csv"))
    assert sum(batch.num_rows for batch in source.batches(10)) == 3


class Failing(Once):
    def read(self, count: int = -1) -> bytes:
        found = super().read(count)
        if not found:
            raise ConnectionResetError("the peer went away")
        return found


def test_a_stream_that_fails_ends_the_load_with_its_reason() -> None:
    big = b"id,text\n" + b"".join(b"%d,%s\n" % (number, b"x" * 1_000) for number in range(20_000))
    with pytest.raises(LoadError, match="Failing cannot be read further: the peer went away"):
        rows_of(Failing(big))
    with pytest.raises(PlanError, match="Failing cannot be read: the peer went away"):
        rows_of(Failing(CSV))


class Async:
    async def read(self, count: int = -1) -> bytes:
        return b""


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.open(), "open as text.*'rb'"),
    "string": (lambda _: io.StringIO("id\n1\n"), r"BytesIO\(text.encode\(\)\)"),
    "async": (lambda _: Async(), "read by an async function"),
    "empty": (lambda _: io.BytesIO(), "kind of 'BytesIO' is unknown"),
    "a page of errors": (lambda _: io.BytesIO(b"\n<!DOCTYPE html>\n"), "kind of 'BytesIO' is unknown.*format='csv'"),
    "twice": (lambda _: [io.BytesIO(CSV)] * 2, "twice"),
}


@pytest.mark.parametrize(("make", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_gives_no_bytes_is_refused(tmp_path: Path, make: Callable[[Path], Any], problem: str) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    data = make(tmp_path / "a.csv")
    with pytest.raises(PlanError, match=problem):
        open_files(data)
    if hasattr(data, "close"):
        data.close()
        with pytest.raises(PlanError):
            open_files(data)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serves the folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


async def test_a_response_and_a_pipe_and_a_member_of_an_archive_are_loaded(tmp_path: Path, address: str) -> None:
    lines = "".join(f"{number},x\n" for number in range(30_000))
    (tmp_path / "a.csv").write_text(f"id,name\n{lines}")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.csv", "of/a.csv")
        archive.writestr("notes", "")
    url = f"sqlite:///{tmp_path}/shop.db"

    def pump(into: int) -> None:
        with os.fdopen(into, "wb") as pipe:
            pipe.write((tmp_path / "a.csv").read_bytes())

    with await asyncio.to_thread(urllib.request.urlopen, f"{address}/a.csv") as response:
        plan = await dl.plan_load(response, "t", engine=url, format="csv")
        assert "it is read once" in str(plan)
        report = await dl.load_files(response, "t", engine=url, format="csv")
        assert report.loaded == 30_000
        with pytest.raises(PlanError, match="read already"):
            await dl.load_files(response, "t", engine=url, format="csv")
    (tmp_path / "small.csv").write_bytes(CSV)
    with await asyncio.to_thread(urllib.request.urlopen, f"{address}/small.csv") as response:
        await dl.plan_load(response, "small", engine=url)
        assert (await dl.load_files([response], "small", engine=url)).loaded == 3
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("of/a.csv") as member:
        assert (await dl.load_files(member, "t", engine=url, filename=True, if_exists="replace")).source == "a.csv"
    reads, writes = os.pipe()
    pumping = threading.Thread(target=pump, args=(writes,))
    pumping.start()
    with os.fdopen(reads, "rb") as pipe:
        job = dl.start_load(pipe, "t", engine=url, if_exists="replace", progress="none")
        assert (await job).loaded == 30_000
    pumping.join()

"""Files behind URLs, from real servers on this machine: good and bad ones of the web, S3, Google's storage."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet
import pytest

import dataloader as dl
from dataloader.errors import DataLoaderError, PlanError
from dataloader.sources import urls
from dataloader.sources.files import open_files
from dataloader.sources.selection import Reading
from tests.conftest import INTERNAL
from tests.notebook.lab import free_port

pytestmark = pytest.mark.any_version

ROWS = 20_000
CSV = b"id,name\n" + b"".join(b"%d,name %d\n" % (number, number) for number in range(ROWS))
LARGE = b"id,name\n" + b"".join(b"%d,%s\n" % (number, b"x" * 1_000) for number in range(20_000))
"""More than fsspec asks for at a time, and than a network keeps under way."""
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"


def parquet() -> bytes:
    names = [f"name {number}" for number in range(ROWS)]
    pyarrow.parquet.write_table(pa.table({"id": range(ROWS), "name": names}), sink := io.BytesIO())
    return sink.getvalue()


FILES = {
    "a.csv": CSV,
    "a.csv.gz": gzip.compress(CSV),
    "a.parquet": parquet(),
    "export": CSV,
    "large.csv": LARGE,
    "page.csv": PAGE,
    "empty.csv": b"",
    "day-1.csv": b"id,name\n1,a\n",
    "day-2.csv": b"id,name\n2,b\n",
    "": b'<a href="day-1.csv">1</a> <a href="day-2.csv">2</a> <a href="notes.md">3</a>',
}


class Web(http.server.BaseHTTPRequestHandler):
    """A web server; the first folder of a path says how it behaves."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has read enough
            super().handle()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        how, _, name = urllib.parse.urlsplit(self.path).path[1:].partition("/")
        content, part = FILES.get(name), self.headers.get("Range")
        if how.isdigit() or content is None:
            return self.send_error(int(how) if how.isdigit() else 404)
        if how == "no-head" and self.command == "HEAD":
            return self.send_error(405)
        status, headers = HTTPStatus.OK, {}
        if how == "parts" and part:
            first, last = (int(one) for one in part.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
            status, content = HTTPStatus.PARTIAL_CONTENT, content[first : last + 1]
        if how == "packs":
            headers["Content-Encoding"], content = "gzip", gzip.compress(content)
        headers |= {"Transfer-Encoding": "chunked"} if how == "pieces" else {"Content-Length": str(len(content))}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self._send(how, content)

    def _send(self, how: str, content: bytes) -> None:
        if how == "pieces":
            for start in range(0, len(content), 50_000):
                piece = content[start : start + 50_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif how == "breaks":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif how in {"slow", "stalls"}:
            for start in range(0, len(content), 50_000):
                self.wfile.write(content[start : start + 50_000])
                time.sleep(0.02 if how == "slow" else 3)
        else:
            self.wfile.write(content)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def rows_of(url: str, **reading: Any) -> list[dict[str, Any]]:
    source = open_files(url, Reading(**reading))
    return [row for batch in source.batches(5_000) for row in batch.to_pylist()]


def ids(url: str, **reading: Any) -> list[int]:
    return [int(row["id"]) for row in rows_of(url, **reading)]


WAYS = ("parts", "plain", "no-head", "pieces", "packs", "slow")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "export"])
def test_a_file_of_the_web_is_its_rows_however_its_server_gives_it(web: str, how: str, name: str) -> None:
    assert ids(f"{web}/{how}/{name}?token=secret") == list(range(ROWS))


@pytest.mark.parametrize("how", ["parts", "plain"])
def test_more_than_a_part_is_the_whole_file_though_the_server_gives_no_parts(web: str, how: str) -> None:
    assert ids(f"{web}/{how}/large.csv") == list(range(20_000))


def test_a_plan_says_that_a_file_is_kept_where_its_server_gives_no_parts(web: str) -> None:
    told = "its server gives it as a whole only: it is read once, and kept in a temporary file meanwhile"
    assert ("a.csv", told) in open_files(f"{web}/plain/a.csv?token=secret").facts
    assert "kept" not in str(open_files(f"{web}/parts/a.csv?token=secret").facts)


def test_a_glob_of_the_web_is_what_the_page_links_to(web: str) -> None:
    assert ids(f"{web}/parts/day-*.csv") == [1, 2]


async def test_the_file_column_and_the_report_have_no_secret(web: str) -> None:
    url = f"{web.replace('//', '//me:pw@')}/plain/day-1.csv?token=secret"
    report = await dl.load_files(url, "t", engine="sqlite:///:memory:", progress="none", filename=True)
    assert (report.loaded, report.source) == (1, "day-1.csv")
    assert rows_of(url, filename="file")[0]["file"] == f"{web}/plain/day-1.csv"


def refused(kind: type[DataLoaderError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "secret" not in text
    assert not INTERNAL.search(text), text
    return text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("404/a.csv", "cannot be read: its server answers 404 Not Found. Check the URL"),
        ("403/a.parquet", "cannot be read: its server answers 403 Forbidden. Check the URL, and that you may read it"),
        ("500/a.csv", "cannot be read: its server answers 500 Internal Server Error. Try again later"),
        ("599/a.csv", "cannot be read: its server answers 599. Try again later"),
        ("plain/missing.csv", "its server answers 404 Not Found"),
        ("plain/page.csv", "is a web page, and no file. Take the address of the file itself"),
        ("parts/page.csv", "is a web page, and no file"),
        ("plain/empty.csv", "it is empty"),
        ("parts/empty.csv", "it is empty"),
        ("breaks/a.csv", "cannot be read: the connection to its server was lost before its end"),
        ("breaks/a.parquet", "cannot be read: the connection to its server was lost before its end"),
    ],
)
def test_a_file_that_its_server_does_not_give_is_told_in_words(web: str, path: str, expected: str) -> None:
    assert expected in refused(PlanError, lambda: rows_of(f"{web}/{path}?token=secret"))


def test_a_file_that_breaks_off_ends_the_load_with_where_and_why(web: str) -> None:
    """Arrow reads ahead, so that the end may be met while the file is still looked at."""
    text = refused(DataLoaderError, lambda: rows_of(f"{web}/breaks/large.csv?token=secret"))
    assert re.search(r"large.csv cannot be read( further)?: the connection to its server was lost before its end", text)


async def test_nothing_of_a_file_that_breaks_off_is_in_the_table(web: str, tmp_path: Any) -> None:
    engine = dl.connect(f"sqlite:///{tmp_path / 't.db'}")
    await dl.load_rows([{"id": "0", "name": "there"}], "t", engine=engine, progress="none")
    with pytest.raises(DataLoaderError):
        await dl.load_files(f"{web}/breaks/large.csv", "t", engine=engine, progress="none")
    found = await dl.read_dataframe("SELECT count(*) AS n FROM t", engine=engine, progress="none")
    assert found["n"].tolist() == [1]
    await engine.dispose()


def test_a_server_that_sends_nothing_any_more_is_not_waited_for_for_ever(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "STALL_SECONDS", 0.3)
    began = time.monotonic()
    assert "its server sends nothing for too long" in refused(DataLoaderError, lambda: rows_of(f"{web}/stalls/a.csv"))
    assert time.monotonic() - began < 2.5


@contextlib.contextmanager
def served(*command: str, health: str) -> Iterator[int]:
    """A server in a process of its own: Arrow closes files with the GIL held, and one in this process would need it."""
    port = free_port()
    arguments = [one.format(port=port) for one in command]
    with subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{health}"):
                    break
                time.sleep(0.05)
            yield port
        finally:
            process.kill()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with served("moto.server", "-H", "127.0.0.1", "-p", "{port}", health="/moto-api/") as port:
        keys = {"aws_access_key_id": "me", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)
        client.create_bucket(Bucket="shop")
        for name, content in OBJECTS.items():
            client.put_object(Bucket="shop", Key=name, Body=content)
        client.close()
        yield f"s3://me:secret@shop/{{}}?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    start = ("start", "--host=127.0.0.1", "--port={port}", "--in-memory", "--default-bucket=shop")
    with served("gcp_storage_emulator", *start, health="/") as port:
        for name, content in OBJECTS.items():
            query = urllib.parse.urlencode({"uploadType": "media", "name": name})
            url = f"http://127.0.0.1:{port}/upload/storage/v1/b/shop/o?{query}"
            asked = urllib.request.Request(url, content, {"Content-Type": "text/csv"}, method="POST")
            urllib.request.urlopen(asked).close()
        yield f"gs://anonymous@shop/{{}}?scheme=http&endpoint_override=127.0.0.1:{port}&retry_limit_seconds=2"


OBJECTS = {
    "day/a.csv": b"id,name\n1,x\n2,y\n",
    "day/b.csv": b"id,name\n3,z\n",
    "day/b.txt": b"nothing of it\n",
    "parts/year=2024/a.csv": b"id\n4\n",
    "parts/year=2025/deep/b.csv": b"id\n5\n",
    "large.parquet": FILES["a.parquet"],
    "export": b"id\n6\n",
}


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("day/a.csv", [1, 2]),
        ("day/*.csv", [1, 2, 3]),
        ("day/[!a].csv", [3]),
        ("parts", [4, 5]),
        ("parts/*/*.csv", [4]),
        ("parts/**/*.csv", [4, 5]),
        ("large.parquet", list(range(ROWS))),
        ("export", [6]),
    ],
)
def test_objects_of_a_bucket_are_their_rows(bucket: str, path: str, expected: list[int]) -> None:
    assert ids(bucket.format(path)) == expected


def test_folders_of_a_bucket_are_columns(bucket: str) -> None:
    for path in ("parts", "parts/**/*.csv"):
        assert [row["year"] for row in rows_of(bucket.format(path))] == ["2024", "2025"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("day/c.csv", r"(s3|gs)://shop/day/c.csv cannot be read: there is no such file"),
        ("day/x*.csv", r"no file matches '(s3|gs)://\*\*\*@shop/day/x\*.csv\?\*\*\*'"),
        ("nothing/*.csv", r"no file matches"),
    ],
)
def test_what_is_not_in_a_bucket_is_told_in_words(bucket: str, path: str, expected: str) -> None:
    assert re.search(expected, refused(PlanError, lambda: rows_of(bucket.format(path))))


async def test_a_load_of_a_bucket_names_its_object_without_the_key(s3: str) -> None:
    engine, url = "sqlite:///:memory:", s3.format("day/a.csv")
    report = await dl.load_files(url, "t", engine=engine, progress="none")
    assert (report.loaded, report.source) == (2, "a.csv")
    assert rows_of(url, filename="file")[0]["file"] == "s3://shop/day/a.csv"

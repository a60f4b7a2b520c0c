"""A folder is the files in it, and the columns that its subfolders are named for; nothing is lost without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from dataloader.conversion.inference import SPELLED
from dataloader.errors import LoadError, PlanError, SchemaMismatch
from dataloader.options import LoadOptions
from dataloader.sources.base import ArrowSource
from dataloader.sources.files import open_files
from dataloader.sources.paths import _remote_file
from dataloader.sources.selection import Reading


def rows_of(paths: Any, columns: Any = None) -> list[tuple[Any, ...]]:
    return rows_in(open_files(paths, Reading(columns=columns)))


def rows_in(source: ArrowSource) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for batch in source.batches(100) for row in batch.to_pylist()]


def write(folder: Path, *names: str, content: str = "id\n{}\n") -> Path:
    for number, name in enumerate(names, start=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pa.parquet.write_table(pa.table({"id": [number]}), path)
        else:
            path.write_text(content.format(number))
    return folder


def test_a_folder_is_all_files_below_it_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, "b.csv", "a/z.csv", "a/b/c.tsv", ".hidden.csv", "_SUCCESS", "_old/x.csv", ".git/x.csv", "notes.md")
    source = open_files(tmp_path)
    assert [row[0] for row in rows_in(source)] == ["3", "2", "1"]
    assert source.facts == (("folder", "3 files of csv; left out, of unknown kinds: notes.md"),)
    assert list(source.paths) == [str(tmp_path / name) for name in ("a/b/c.tsv", "a/z.csv", "b.csv")]


def test_a_folder_that_is_linked_into_itself_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "data", "a.csv")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    write(tmp_path / "elsewhere", "b.csv")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(rows_of(tmp_path / "data")) == 2


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "no file in the folder"),
        (["notes.md", "_x.csv"], "only notes.md"),
        (["a.csv", "b/c.parquet", "d.txt"], "several kinds: 2 files of csv, 1 file of parquet"),
        (["_delta_log/0.json", "a.parquet"], "is a Delta table"),
        (["year=2024/year=2025/a.csv"], "'year' twice"),
        (["year=%FF/a.csv"], "not UTF-8"),
    ],
)
def test_a_folder_that_is_no_source_is_refused(tmp_path: Path, names: list[str], problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        open_files(write(tmp_path, *names))


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "exports/a.csv", "exports/b.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/exports", "~/exports/*.csv", ["~/exports/a.csv", Path("~/exports/b.csv")]):
        assert len(rows_of(path)) == 2
    monkeypatch.chdir(write(tmp_path / "here", "~a.csv"))
    assert len(rows_of("~a.csv")) == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_folders_of_a_path_are_columns(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, f"year=2024/month=05/a.{suffix}", f"year=2025/month=12/a.{suffix}", f"year=-7/month=1/x/a.{suffix}")
    source = open_files(tmp_path)
    assert source.schema.names == ["id", "year", "month"]
    assert [source.schema.field(name).type for name in ("year", "month")] == [pa.int64(), pa.string()]
    assert all(source.schema.field(name).metadata == SPELLED for name in ("year", "month"))
    assert sorted(row[1:] for row in rows_in(source)) == [("-7", "1"), ("2024", "05"), ("2025", "12")]
    assert rows_of(tmp_path, ["year"]) == [("-7",), ("2024",), ("2025",)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "__HIVE_DEFAULT_PARTITION__"], pa.int64()),
        (["__HIVE_DEFAULT_PARTITION__"], pa.string()),
        (["1", "01"], pa.string()),
        (["-0"], pa.string()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.string()),
        (["\N{ARABIC-INDIC DIGIT ONE}"], pa.string()),
        ([""], pa.string()),
    ],
)
def test_a_column_of_folders_is_an_integer_only_if_all_give_their_text_back(
    tmp_path: Path, values: list[str], kind: pa.DataType
) -> None:
    write(tmp_path, *(f"k={value}/a.csv" for value in values))
    source = open_files(tmp_path)
    expected = [None if value == "__HIVE_DEFAULT_PARTITION__" else value for value in sorted(values)]
    assert (source.schema.field("k").type, [row[1] for row in rows_in(source)]) == (kind, expected)


def test_what_is_encoded_in_a_folder_is_decoded(tmp_path: Path) -> None:
    write(tmp_path, "the%20city=S%C3%A3o%2FPaulo=1/a.csv")
    source = open_files(tmp_path)
    assert (source.schema.names[1], rows_in(source)) == ("the city", [("1", "São/Paulo=1")])


def test_one_year_of_many_is_still_that_year_and_what_lies_above_the_data_is_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "user=me/ds/year=2024/month=5/a.csv", "user=me/ds/year=2024/month=6/a.csv")
    monkeypatch.chdir(tmp_path / "user=me")
    for path in ("ds/year=2024", "ds/year=2024/*/*.csv", "ds/**/*.csv", "ds/year=2024/month=?/a.csv", "ds"):
        source = open_files(path)
        assert rows_in(source) == [("1", "2024", "5"), ("2", "2024", "6")], path
        monkeypatch.chdir("/")
        assert rows_of(list(source.paths)) == rows_of(tmp_path / "user=me" / path), "found again from elsewhere"
        monkeypatch.chdir(tmp_path / "user=me")
    assert rows_of("ds/year=2024/month=5/a.csv") == [("1",)], "a file that is named is what is in it"


def test_a_glob_of_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "year=2024/a.csv")
    with pytest.raises(PlanError, match="matches folders only"):
        open_files(str(tmp_path / "*"))


@pytest.mark.parametrize("kind", [pa.int32(), pa.string(), pa.float64()])
def test_a_column_that_is_in_the_file_too_must_agree(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "year=2024" / "a.parquet"
    path.parent.mkdir()
    pa.parquet.write_table(pa.table({"id": [1, 2], "year": pa.array([2024, 2024]).cast(kind)}), path)
    source = open_files(tmp_path)
    assert (source.schema.field("year").type, len(rows_in(source))) == (kind, 2)
    for years in ([2024, 1999], [2024, None]):
        pa.parquet.write_table(pa.table({"id": [1, 2], "year": pa.array(years).cast(kind)}), path)
        with pytest.raises(LoadError, match=r"column 'year' of a.parquet is '?(1999|None).*its folder says '2024'"):
            rows_of(tmp_path)
    assert rows_of(tmp_path, ["id"]) == [(1,), (2,)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_text_in_a_file_must_agree_with_its_folder(tmp_path: Path, suffix: str) -> None:
    def content(year: str) -> str:
        return f"id,year\n1,{year}\n1\n" if suffix == "csv" else f'{{"id": 1, "year": "{year}"}}\n'

    write(tmp_path, f"year=2024/a.{suffix}", content=content("2024").replace("{", "{{").replace("}", "}}"))
    assert len(rows_of(tmp_path)) >= 1
    write(tmp_path, f"year=2024/a.{suffix}", content=content("2025").replace("{", "{{").replace("}", "}}"))
    with pytest.raises(LoadError, match="is '2025', and its folder says '2024'"):
        rows_of(tmp_path)


def test_files_whose_paths_have_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "year=2024/a.csv", "month=5/a.csv")
    with pytest.raises(SchemaMismatch, match="month"):
        open_files(tmp_path)


@pytest.mark.parametrize("path", ["memory://ds-{}", "memory://ds-{}/", "memory://ds-{}/*/*.csv"])
def test_a_folder_of_a_remote_filesystem_is_its_files(path: str) -> None:
    remote, name = fsspec.filesystem("memory"), f"ds-{os.getpid()}"
    for year in (2023, 2024):
        remote.pipe(f"/{name}/year={year}/a.csv", f"id\n{year}\n".encode())
    remote.pipe(f"/{name}/_SUCCESS", b"")
    try:
        assert rows_of(path.format(os.getpid())) == [("2023", "2023"), ("2024", "2024")]
    finally:
        remote.rm(f"/{name}", recursive=True)


def test_a_file_url_of_a_folder_is_that_folder(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path, "a.csv", "b/c.csv").as_uri())) == 2


def test_the_file_of_each_row_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, "ds/a.csv", "ds/year=2024/b.csv", "home/c.csv"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, expected in (
        (["ds/a.csv", tmp_path / "ds/a.csv"], ["ds/a.csv", str(tmp_path / "ds/a.csv")]),
        ("ds/year=2024", ["ds/year=2024/b.csv"]),
        ("ds/*/*.csv", ["ds/year=2024/b.csv"]),
        ("~/c.csv", [str(tmp_path / "home/c.csv")]),
        (Path("ds/a.csv").absolute().as_uri(), [(tmp_path / "ds/a.csv").as_uri()]),
    ):
        source = open_files(given, Reading(filename="of"))
        rows = rows_in(source)
        assert ([row[-1] for row in rows], source.schema.names[-1]) == (expected, "of")
        assert rows_in(open_files(list(source.paths), Reading(filename="of"))) == rows, "resumed from here"


def test_only_the_name_of_each_file_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", "b.parquet")
    source = open_files(tmp_path, Reading(columns=["filename"], filename="filename"))
    assert [Path(row[0]).name for row in rows_in(source)] == ["a.parquet", "b.parquet"]


def test_a_column_for_the_file_does_not_hide_one_of_the_files(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"a.csv has a column 'id', which filename= would add"):
        open_files(write(tmp_path, "a.csv"), Reading(filename="id"))


def test_a_url_is_named_without_its_secrets() -> None:
    remote, name = fsspec.filesystem("memory"), f"name-{os.getpid()}.csv"
    remote.pipe(f"/{name}", b"id\n1\n")
    try:
        assert rows_in(open_files(f"memory://{name}", Reading(filename="of"))) == [("1", f"memory:///{name}")]
    finally:
        remote.rm(f"/{name}")
    made = _remote_file(pa.fs.LocalFileSystem(), "https://me:pw@host/a.csv?token=1", "https://me:pw@host/a.csv?token=1")
    assert made.given == "https://host/a.csv"


@pytest.mark.parametrize(
    ("given", "columns", "expected"),
    [
        (True, None, ("filename", None)),
        (False, ["id"], (None, ["id"])),
        (True, ["id"], ("filename", ["id", "filename"])),
        ("of", {"id": "key", "of": "file"}, ("of", {"id": "key", "of": "file"})),
        ("of", {"id": "key"}, ("of", {"id": "key", "of": "of"})),
    ],
)
def test_the_column_for_the_file_is_selected_without_being_named(given: Any, columns: Any, expected: Any) -> None:
    options = LoadOptions.of({"filename": given, "columns": columns})
    assert (options.filename, options.columns) == expected
    assert options.call.get("filename") == expected[0]


@pytest.mark.parametrize("given", ["", 1, ["a"]])
def test_what_names_no_column_for_the_file_is_refused(given: Any) -> None:
    with pytest.raises(PlanError, match="filename must be True or a name"):
        LoadOptions.of({"filename": given})

"""Arrays of JSON are read object by object: what json.loads finds in them, or an error that says where it ends."""

from __future__ import annotations

import io
import itertools
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pytest

from dataloader.errors import LoadError, PlanError
from dataloader.sources import json_files
from dataloader.sources.files import open_files
from dataloader.sources.json_files import array_blocks
from dataloader.sources.selection import Reading

TEXTS = ["", "a", 'q"\\', "]", "}{,", "\n\t", "é", "\N{GRINNING FACE}", "\x7f", "\\u0041"]


def read(text: str, read_characters: int) -> list[Any]:
    return list(itertools.chain(*array_blocks(io.BytesIO(text.encode()), read_characters)))


def value(chosen: random.Random, depth: int = 0) -> Any:
    kinds: list[Any] = [chosen.choice(TEXTS), chosen.randrange(-(10**20), 10**20), -0.5, 1e300, True, False, None]
    if depth < 3:
        kinds += [[value(chosen, depth + 1) for _ in range(2)], {"k": value(chosen, depth + 1), "": 1}]
    return chosen.choice(kinds)


def test_an_array_is_read_as_what_it_says_wherever_its_parts_are_cut() -> None:
    chosen = random.Random(7)
    for number in range(60):
        rows = [{"a": value(chosen), 'b"]': value(chosen)} for _ in range(chosen.randrange(1, 6))]
        text = json.dumps(rows, indent=chosen.choice([None, 40]), ensure_ascii=chosen.choice([True, False]))
        for size in (1, 2, 7, 64, 10_000):
            assert read(f" \n{text}\r\n ", size) == json.loads(text), (number, size)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"a": 1}', "ends within row 1"),
        ('[{"a": 1},', "ends within row 2"),
        ('[{"a": 1}, {"a": "x', "ends within row 2"),
        ('[{"a": 1}, ]', "row 2 of a JSON array is no object: it begins with ']'"),
        ('[{"a": 1} {"a": 2}]', "row 1 is followed by '{'"),
        ('[{"a": 1}] [', "more after the end"),
        ('[{"a": 1}]x', "more after the end"),
        ("[[1, 2]]", "row 1 of a JSON array is no object.*orient='records'"),
        ("[1, 2]", "no object"),
        ('{"data": [{"a": 1}]}', "one JSON object"),
        ('{"a": {"0": 1},\n "b": {"0": 2}}', "one JSON object"),
        ("[]", "it has no rows"),
        ("", "the array"),
        ("null", "the array is followed by 'n'"),
        ('[{"a": 1, "a": 2}]', "'a' occurs twice"),
        ('[{"a": tru, "b": "%s"}]' % ("x" * 99), "row 1 is not JSON.*'{\"a\": '"),
        ('[{"a": ' + "[" * 101 + "]" * 101 + "}]", "nested more than 100 levels"),
        ('[{"a": ' + "[" * 9_999 + "]" * 9_999 + "}]", "nested more than 100 levels"),
    ],
)
def test_what_is_no_array_of_objects_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(PlanError, match=problem):
        open_files(tmp_path / "a.json")


def test_an_array_that_ends_late_is_refused_where_it_ends(tmp_path: Path) -> None:
    text = json.dumps([{"a": number} for number in range(30_000)])
    (tmp_path / "a.json").write_text(text[:-9])
    with pytest.raises(LoadError, match="it ends within row 30,000: it is not complete"):
        list(open_files(tmp_path / "a.json").batches(1_000))


def test_a_large_array_is_never_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a.json").open("w") as file:
        file.write("[" + ",".join(json.dumps({"a": number, "b": "x" * 2_000}) for number in range(12_000)) + "]")
    monkeypatch.setattr(json_files, "PEEKED_ROWS", 500)
    batches = open_files(tmp_path / "a.json").batches(500)
    tracemalloc.start()
    try:
        assert sum(batch.num_rows for batch in batches) == 12_000
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_row_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "LINE_CHARACTERS", 1_000)
    stream = io.BytesIO(('[{"a": "' + "x" * 5_000 + '"}]').encode())
    with pytest.raises(json_files.TooLarge, match="row 1 is longer than 1,000"):
        list(array_blocks(stream, 100))


def test_an_array_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    for name, text in (("a.json", '[{"id": 1}]'), ("a.jsonl", '{"id": 1}\n')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert [row for batch in open_files(tmp_path / name).batches(9) for row in batch.to_pylist()] == [{"id": 1}]


def test_an_orc_file_gives_the_columns_that_are_asked_for_a_few_rows_at_a_time(tmp_path: Path) -> None:
    wide = pa.table({"a.b": range(3_000), "text": ["x" * 20_000] * 3_000, "c": [{"x": 1}] * 3_000})
    pa.orc.write_table(wide, tmp_path / "a.orc")
    source = open_files(tmp_path / "a.orc", Reading(columns=["a.b", "text"]))
    assert (source.rows, source.schema.names) == (3_000, ["a.b", "text"])
    sizes, values = [], []
    for batch in source.batches(50_000):
        sizes.append(batch.nbytes)
        values += batch.column("a.b").to_pylist()
    assert (values, max(sizes) < 20e6) == (list(range(3_000)), True)


def test_a_moment_of_an_orc_file_that_arrow_cannot_hold_is_refused(tmp_path: Path) -> None:
    pa.orc.write_table(pa.table({"at": pa.array([253402214400], pa.timestamp("s"))}), tmp_path / "a.orc")
    with pytest.raises(LoadError, match=r"a.orc cannot be read further.*out of range"):
        list(open_files(tmp_path / "a.orc").batches(10))

"""Rows as lines of CSV or JSON, column by column: each becomes texts, and Arrow joins them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.documents import is_not_json
from dataloader.conversion.text import to_text
from dataloader.database.backends.reading import JSON, UNSETTLED
from dataloader.rejects import json_values

_TO_QUOTE = r'[,"\r\n]|^$|^\\\.$'
"""What a field of CSV has quotes for, as PostgreSQL writes it; an empty one without them is NULL."""
_TO_ESCAPE = r'["\\\x00-\x1f]'
_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
_SLICE_ROWS = 1_024
_RARE = r"[\x00-\x08\x0b\x0c\x0e-\x1f]"


def csv_header(names: Sequence[str]) -> bytes:
    """The first line: the names of the columns."""
    return _joined([*_separated(_fields(pa.array([name], pa.string())) for name in names), "\n"])


def csv_lines(batch: pa.RecordBatch) -> bytes:
    """Each row as a line: an empty field is NULL, and an empty text has quotes."""
    return _joined([*_separated(_fields(_plain(values)).fill_null("") for values in batch.columns), "\n"])


def json_lines(batch: pa.RecordBatch) -> bytes:
    """Each row as an object on a line: NaN and infinity, times and bytes are texts, as PostgreSQL writes them."""
    pieces: list[pa.Array | str] = []
    for field, values in zip(batch.schema, batch.columns, strict=True):
        texts = _of_field(field, values)
        pieces += [f"{', ' if pieces else '{'}{json.dumps(field.name, ensure_ascii=False)}: ", texts.fill_null("null")]
    return _joined([*pieces, "}\n"])


def _of_field(field: pa.Field, values: pa.Array) -> pa.Array:
    known = field.metadata or {}
    if UNSETTLED in known:
        return _numbers(values)
    return _documents(values, is_checked=bool(known[JSON])) if JSON in known else _json(values)


def _separated(columns: Iterable[pa.Array]) -> list[pa.Array | str]:
    pieces: list[pa.Array | str] = []
    for texts in columns:
        pieces += [",", texts] if pieces else [texts]
    return pieces


def _joined(pieces: Sequence[pa.Array | str]) -> bytes:
    """The texts of all rows, one row after the other."""
    lines = pc.binary_join_element_wise(*pieces, "")
    if not len(lines):
        return b""
    offsets = memoryview(lines.buffers()[1]).cast("i")
    return bytes(memoryview(lines.buffers()[2])[offsets[lines.offset] : offsets[lines.offset + len(lines)]])


def _plain(values: pa.Array) -> pa.Array:
    """Each value as text, as the databases read it."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.dictionary_decode()
    if pa.types.is_nested(kind):
        return pa.array([None if one == "null" else one for one in _spelled(values)], pa.string())
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(values), values.cast(pa.string()), _not_finite(values))
    if pa.types.is_decimal(kind):
        return _digits(values)
    return values if pa.types.is_string(values.type) else to_text(values)


def _spelled(values: pa.Array) -> Iterator[str]:
    """Lists and the like in JSON, some rows at a time: while Arrow makes objects of them no other thread runs."""
    for start in range(0, len(values), _SLICE_ROWS):
        yield from json_values(values.slice(start, _SLICE_ROWS))


def _digits(values: pa.Array) -> pa.Array:
    """Without exponents, as Arrow writes them where there are many zeros."""
    texts = values.cast(pa.string())
    short = pc.match_substring(texts, "E")
    if not pc.any(short).as_py():
        return texts
    whole = [None if one is None else format(one, "f") for one in values.filter(short).to_pylist()]
    return pc.replace_with_mask(texts, short.fill_null(False), pa.array(whole, pa.string()))


def _not_finite(values: pa.Array) -> pa.Array:
    """NaN and infinity as PostgreSQL spells them."""
    infinite = pc.if_else(pc.greater(values, 0), "Infinity", "-Infinity")
    return pc.if_else(pc.is_nan(values), "NaN", infinite)


def _fields(texts: pa.Array) -> pa.Array:
    """With quotes where CSV needs them."""
    quoted = pc.match_substring_regex(texts, _TO_QUOTE)
    if not pc.any(quoted).as_py():
        return texts
    return pc.if_else(quoted, pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', ""), texts)


def _json(values: pa.Array) -> pa.Array:
    """Each value in JSON."""
    kind = values.type
    if pa.types.is_nested(kind):
        return pa.array([*_spelled(values)], pa.string())
    texts = _plain(values)
    if pa.types.is_floating(kind):
        texts = pc.if_else(pc.is_finite(values), texts, _quoted(texts))
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)):
        texts = _quoted(texts)
    return texts


def _documents(texts: pa.Array, *, is_checked: bool) -> pa.Array:
    """Texts that are JSON, each on one line, in which a line's end can only stand between words; others as strings."""
    lines = pc.replace_substring_regex(texts, r"[\r\n]", " ")
    if is_checked:
        return lines
    others = pa.array([one is not None and is_not_json(one) for one in texts.to_pylist()], pa.bool_())
    return pc.if_else(others, _quoted(texts), lines)


def _numbers(texts: pa.Array) -> pa.Array:
    """Texts that are numbers as such, and NaN and infinity with quotes."""
    return pc.if_else(pc.match_substring_regex(texts, "[a-zA-Z]"), _quoted(texts), texts)


def _quoted(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(texts, _TO_ESCAPE)).as_py():
        if pc.any(pc.match_substring_regex(texts, _RARE)).as_py():
            spelled = [None if one is None else json.dumps(one, ensure_ascii=False) for one in texts.to_pylist()]
            return pa.array(spelled, pa.string())
        for plain, escaped in _ESCAPES:
            texts = pc.replace_substring(texts, plain, escaped)
    return pc.binary_join_element_wise('"', texts, '"', "")

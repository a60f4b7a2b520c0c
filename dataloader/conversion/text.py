"""Values that travel as text, and texts that must mean something: JSON, UUIDs, arrays, labels."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.casts import mapped, mask, refuse, trimmed
from dataloader.conversion.documents import NotJson, is_ambiguous, is_not_json, to_json
from dataloader.conversion.numeric import NOT_FINITE, NUMBER_TEXT, WHOLE, has_more_digits, text_to_float
from dataloader.conversion.temporal import spelled_interval, spelled_time
from dataloader.conversion.violations import InvalidValues

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_ESCAPED_SURROGATE = re.compile(r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")
HEX_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
"""The two digits of each byte."""
_SLICE_BYTES = 1 << 16
_HEX_BYTES = r"^\\x([0-9a-fA-F]{2})*$"


def to_text(values: pa.Array) -> pa.Array:
    """The values as text that the databases read; a timestamp as UTC, twenty times faster than through its zone."""
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pc.binary_join_element_wise(spelled_time(values.cast(pa.timestamp(kind.unit))), "+00:00", "")
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return spelled_time(values)
    if pa.types.is_duration(kind):
        return pc.binary_join_element_wise(
            values.cast(pa.duration("us")).cast(pa.int64()).cast(pa.string()), "microseconds", " "
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _bytes_to_text(values)
    return mapped(values, spelled_interval) if pa.types.is_interval(kind) else values.cast(pa.string())


def _bytes_to_text(values: pa.Array) -> pa.Array:
    """As PostgreSQL writes them, all at once: Python would hold the GIL for half a second for one of 200 MB."""
    if not len(values):
        return pa.array([], pa.string())
    wide = values.cast(pa.large_binary())
    offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
    content = np.frombuffer(wide.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    digits = np.empty(len(content), np.uint16)
    for start in range(0, len(content), _SLICE_BYTES):
        piece = slice(start, start + _SLICE_BYTES)
        np.take(HEX_DIGITS, content[piece], out=digits[piece], mode="clip")
    buffers = [None, pa.py_buffer((offsets - offsets[0]) * 2), pa.py_buffer(digits)]
    hexes = pa.Array.from_buffers(pa.large_string(), len(wide), buffers)
    prefix, nothing = pa.scalar("\\x", hexes.type), pa.scalar("", hexes.type)
    spelled = pc.binary_join_element_wise(prefix, hexes, nothing)
    spelled = pc.if_else(wide.is_valid(), spelled, None) if wide.null_count else spelled
    return spelled.cast(pa.string())


def timestamp_to_text(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
    """Arrow writes a note in place of a timestamp that it has no text for."""
    unzoned = values.cast(pa.timestamp(values.type.unit)) if pa.types.is_timestamp(values.type) else values
    refuse("range", pc.starts_with(unzoned.cast(pa.string()), "<"))
    return to_text(values)


def text_to_uuid(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Every form that Python's uuid.UUID reads, all values at once."""
    digits = values.cast(pa.string())
    for part in ("urn:", "uuid:", "{", "}", "-"):
        digits = pc.replace_substring(digits, part, "")
    return digits_to_bytes(digits, wanted)


def digits_to_bytes(digits: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Hexadecimal digits as bytes of the wanted width, all values at once."""
    width = wanted.byte_width
    refuse("syntax", pc.invert(pc.match_substring_regex(digits, rf"^[0-9a-fA-F]{{{2 * width}}}$")))
    raw = bytes.fromhex("".join(digits.drop_null().to_pylist()))
    present = pa.Array.from_buffers(wanted, len(raw) // width, [None, pa.py_buffer(raw)])
    positions = pc.subtract(pc.cumulative_sum(digits.is_valid().cast(pa.int64())), 1)
    return present.take(pc.if_else(digits.is_valid(), positions, None))


def bytes_to_uuid(values: pa.Array) -> pa.Array:
    """In full: SQLite would take 32 digits for a number."""
    return mapped(values, lambda one: str(uuid.UUID(bytes=one)))


def text_to_bytes(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """PostgreSQL's hexadecimal form of bytes."""
    texts = values.cast(pa.string())
    refuse("syntax", pc.invert(pc.match_substring_regex(texts, _HEX_BYTES)), "it is not hexadecimal, like \\x00ff")
    return pa.array([None if one is None else bytes.fromhex(one[2:]) for one in texts.to_pylist()], wanted)


def json_to_lists(texts: pa.Array) -> list[Any]:
    """JSON arrays as lists of texts; what is none is refused."""
    lists = [None if one is None else _list_of_texts(one) for one in texts.to_pylist()]
    is_bad = [isinstance(one, str) for one in lists]
    refuse("syntax", pa.array(is_bad, pa.bool_()), "it is not a JSON array of texts and numbers")
    return lists


def _list_of_texts(text: str) -> Any:
    """The list, or the text that is none."""
    try:
        return _as_texts(json.loads(text, parse_int=str, parse_float=str, parse_constant=str))
    except (ValueError, TypeError, RecursionError):
        return text


def _as_texts(value: Any) -> Any:
    if isinstance(value, dict):
        raise TypeError
    if isinstance(value, list):
        return [_as_texts(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else value


def uuid_to_bytes(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return values.storage.cast(wanted)


def uuid_to_text(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
    return mapped(values, str)


def uuid_to_hex(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
    """The form in which SQLAlchemy keeps a Uuid where the database has none."""
    return mapped(values, lambda one: one.hex)


def nested_to_json(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
    try:
        objects = values.to_pylist(maps_as_pydicts="strict")
    except KeyError as error:  # Arrow does not say of which map
        if len(values) == 1:
            refuse("syntax", values.is_valid(), "a key of a map occurs twice")
        raise pa.ArrowInvalid(str(error)) from error
    read = [None if one is None else _json_or_refusal(one) for one in objects]
    for refusal in dict.fromkeys(one for one in read if isinstance(one, tuple)):
        reason, problem = refusal
        refuse(reason, pa.array([one == refusal for one in read]), problem)
    return pa.array(read, pa.string())


def _json_or_refusal(value: object) -> str | tuple[str, str]:
    """The JSON text of a value, or the reason and the problem why it has none."""
    try:
        return to_json(value)
    except NotJson as error:
        return error.reason, "it contains a NaN or an infinity" if error.reason == "nan" else str(error)


def check_json(texts: pa.Array) -> pa.Array:
    refuse("syntax", mask(texts, is_not_json), "it is not JSON")
    return texts


def check_unique_keys(texts: pa.Array) -> pa.Array:
    """JSON; of a key that occurs twice in an object, jsonb keeps the last value only."""
    if pc.any(bad := mask(texts, is_ambiguous)).as_py():
        check_json(texts)
        refuse("syntax", bad, "a key occurs twice in an object, and jsonb keeps one of them")
    return texts


def check_jsonb(texts: pa.Array) -> pa.Array:
    """Keeps out what JSON allows and jsonb does not: U+0000, and lone surrogates."""
    escaped = pc.match_substring(texts, "\\u")
    if pc.any(escaped).as_py():
        refuse("nul", mask(texts, lambda text: _ESCAPED_NUL.search(text) is not None))
        refuse("encoding", mask(texts, _has_half_characters))
    return texts


def _has_half_characters(text: str) -> bool:
    if _ESCAPED_SURROGATE.search(text) is None:
        return False
    shown = json.dumps(json.loads(text), ensure_ascii=False)
    return any("\ud800" <= character <= "\udfff" for character in shown)


def check_numbers_in_json(texts: pa.Array) -> pa.Array:
    """SQLite's JSON columns have the affinity NUMERIC: a document that is a number is stored as an int64 or float64."""
    if pc.any(pc.match_substring_regex(texts, r"^[\s+-]*[\d.]")).as_py():
        refuse("digits", mask(texts, lambda text: _is_a_long_number(text.strip())))
    return texts


def _is_a_long_number(text: str) -> bool:
    if re.match(NUMBER_TEXT, text) is None:
        return False
    is_integer = text.lstrip("+-").isdecimal()
    return not -(2**63) <= int(text) < 2**63 if is_integer else has_more_digits(text)


def check_labels(labels: Iterable[str]) -> Callable[[pa.Array], pa.Array]:
    known = pa.array(list(labels), pa.string())

    def check(texts: pa.Array) -> pa.Array:
        refuse("label", pc.and_(texts.is_valid(), pc.invert(pc.is_in(texts, value_set=known))))
        return texts

    return check


def _bytes_of(texts: pa.Array) -> np.ndarray:
    """All bytes of a chunk's texts, those under NULL too: a hundred times faster to look at than the texts."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return np.empty(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data, np.uint8)[bounds[texts.offset] : bounds[texts.offset + len(texts)]]


def check_unicode(texts: pa.Array) -> pa.Array:
    """Arrow takes a producer's word that a text is UTF-8; ASCII always is."""
    if _bytes_of(texts).max(initial=0) < 0x80:
        return texts
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        refuse("encoding", pa.array([one.is_valid and not _decodes(one.as_buffer()) for one in texts], pa.bool_()))
    return texts


def _decodes(buffer: pa.Buffer) -> bool:
    try:
        str(buffer, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def check_bytes(length: int) -> Callable[[pa.Array], pa.Array]:
    def check(texts: pa.Array) -> pa.Array:
        refuse("length", pc.greater(pc.binary_length(texts), length), f"it has more than {length} bytes")
        return texts

    return check


def check_not_negative(texts: pa.Array) -> pa.Array:
    refuse("range", pc.match_substring_regex(texts, r"^\s*-"))
    return texts


def check_nul(texts: pa.Array) -> pa.Array:
    if _bytes_of(texts).min(initial=1) == 0:
        refuse("nul", pc.match_substring(texts, "\0"))
    return texts


def check_characters(length: int) -> Callable[[pa.Array], pa.Array]:
    def check(texts: pa.Array) -> pa.Array:
        # No text has more characters than bytes, and bytes are counted ten times faster.
        most_bytes = pc.max(pc.binary_length(texts)).as_py()
        if most_bytes is not None and most_bytes > length:
            refuse("length", pc.greater(pc.utf8_length(texts), length), f"it has more than {length} characters")
        return texts

    return check


def list_to_array(
    elements: Callable[[pa.Array], pa.Array], quote: Callable[[str | None], str], between: str
) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    """Lists become PostgreSQL's array literals; `elements` makes the texts of all elements at once."""

    def cast(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        texts = _elements_of(values, lengths, elements).to_pylist()
        literals = [
            f"{{{between.join(map(quote, texts[end - length : end]))}}}" if present else None
            for length, end, present in zip(lengths, lengths.cumsum(), values.is_valid().to_pylist(), strict=True)
        ]
        return pa.array(literals, pa.string())

    return cast


def _elements_of(values: pa.Array, lengths: np.ndarray, elements: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """The texts of the elements; a list with a bad element is bad."""
    try:
        return elements(pc.list_flatten(values))
    except InvalidValues as unfit:
        owners = np.repeat(np.arange(len(values)), lengths)
        bad = np.zeros(len(values), bool)
        bad[owners[pc.fill_null(unfit.bad, False).to_numpy(zero_copy_only=False)]] = True
        raise InvalidValues(unfit.reason, pa.array(bad), f"an element: {unfit.problem}") from unfit


def quoted(text: str | None) -> str:
    """An element of an array literal."""
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def bare(text: str | None) -> str:
    """An inner array, which stands in its outer one without quotes."""
    return "NULL" if text is None else text


_LIKE_A_NUMBER = r"^[\t-\r ]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[\t-\r ]*$"
_SHORT_INTEGER = 19
"""Fewer characters than that are an integer of 64 bits."""


def read_number(text: str) -> int | float:
    """What SQLite stores in a column that is for numbers."""
    whole = int(text) if re.fullmatch(WHOLE, text) else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else float(text)


def _text_to_number(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A number in text fits where it is an integer of 64 bits or what a float shows."""
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    short = pc.and_(pc.match_substring_regex(values, WHOLE), pc.less(pc.binary_length(values), _SHORT_INTEGER))
    rest = pc.if_else(short, None, values)
    long = pc.match_substring_regex(rest, WHOLE)
    if pc.any(long).as_py():
        pairs = zip(long.to_pylist(), rest.to_pylist(), strict=True)
        fits = [bool(is_whole) and isinstance(read_number(text), int) for is_whole, text in pairs]
        rest = pc.if_else(pa.array(fits), None, rest)
    text_to_float(rest, pa.float64())
    return values.cast(wanted)


def _is_canonical(text: str) -> bool:
    number = read_number(text)
    return str(number) == text and (isinstance(number, int) or not number.is_integer())  # SQLite makes 1.0 an integer


def canonical_text(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A text fits where SQLite takes it for no number, or shows that number again in the same way."""
    like = pc.match_substring_regex(values, _LIKE_A_NUMBER)
    if pc.any(like).as_py():
        pairs = zip(like.to_pylist(), values.to_pylist(), strict=True)
        other = pa.array([bool(looks) and not _is_canonical(text) for looks, text in pairs], pa.bool_())
        refuse("digits", other, "the column would store it as a number, spelled in another way")
    return values.cast(wanted)


text_to_number = trimmed(_text_to_number)


def check_read_numbers(texts: pa.Array) -> pa.Array:
    """Numbers as text that SQLite's writer reads: none may change by it, and NaN would be NULL."""
    not_finite = pc.match_substring_regex(texts, NOT_FINITE)
    is_nan = pc.match_substring(texts, "nan", ignore_case=True)
    refuse("nan", is_nan, "the database has no NaN, and NULL is another value")
    text_to_number(pc.if_else(not_finite, None, texts), texts.type)
    return texts

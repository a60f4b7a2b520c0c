"""What comes into a column: types of PostgreSQL and of Arrow, values at every edge, and how text COPY spells them.

Nothing of the package is used here, so that what it does can be compared with what is said here.
"""

from __future__ import annotations

import json
import math
import os
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from random import Random
from typing import Any

import pyarrow as pa

VALUES = int(os.environ.get("DATALOADER_ORACLE_VALUES", "250"))
DAY = 86_400_000_000

Spell = Callable[[Any], str]


# The independent encoder: how text COPY spells a value.


def copy_bytes(rows: list[tuple[str | None, ...]]) -> bytes:
    """Rows in PostgreSQL's text format: https://www.postgresql.org/docs/current/sql-copy.html."""
    return "".join("\t".join(map(copy_field, row)) + "\n" for row in rows).encode()


def copy_field(text: str | None) -> str:
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def day(days: int) -> tuple[str, str]:
    """A date and its era, by days from 1970-01-01: http://howardhinnant.github.io/date_algorithms.html."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    of_month = of_year - (153 * month + 2) // 5 + 1
    year += era * 400 + (month >= 10)
    text = f"{month + 3 if month < 10 else month - 9:02d}-{of_month:02d}"
    return (f"{year:04d}-{text}", "") if year > 0 else (f"{1 - year:04d}-{text}", " BC")


def clock(us: int) -> str:
    sign, us = ("-", -us) if us < 0 else ("", us)
    minutes, rest = divmod(us, 60_000_000)
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1_000_000:02d}.{rest % 1_000_000:06d}"


def moment(us: int, zone: str = "") -> str:
    days, rest = divmod(us, DAY)
    date, era = day(days)
    return f"{date} {clock(rest)}{zone}{era}"


def literal(value: Any, spell: Spell) -> str:
    """An array literal, every element in quotes."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "{" + ",".join(literal(one, spell) for one in value) + "}"
    return '"' + spell(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


# The cases: a column type, the Arrow type that brings its values, and the values.


@dataclass(frozen=True, eq=False)
class Case:
    """A column's type and what comes into it.

    `refused` would be changed by the column, so they must not arrive. `doubtful` may be refused or stored, but only as
    text COPY stores them. `build` makes Arrow's value of ours.
    """

    sql: str
    kind: pa.DataType
    edges: list[Any]
    more: Callable[[Random], Any]
    spell: Spell = str
    build: Callable[[Any], Any] = lambda value: value
    refused: list[Any] = field(default_factory=list)
    doubtful: list[Any] = field(default_factory=list)

    def values(self) -> list[Any]:
        """All edge values and as many others as there is room for; some are missing and some repeat the one before."""
        random = Random(f"{self.sql} {self.kind}")
        values = [None, *self.edges]
        while len(values) < VALUES:
            chosen = random.random()
            values.append(values[-1] if chosen < 0.1 else None if chosen < 0.2 else self.more(random))
        return values

    def array(self, values: list[Any]) -> pa.Array:
        return array_of([None if value is None else self.build(value) for value in values], self.kind)

    def text(self, value: Any) -> str | None:
        return None if value is None else self.spell(value)


def array_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, array_of(values, kind.storage_type))
    if pa.types.is_list(kind) and isinstance(kind.value_type, pa.BaseExtensionType):
        stored = pa.array(values, pa.list_(kind.value_type.storage_type))
        inner = pa.ExtensionArray.from_storage(kind.value_type, stored.values)
        return pa.ListArray.from_arrays(stored.offsets, inner, mask=stored.is_null())
    return pa.array(values, kind)


AROUND = (7, 8, 15, 16, 31, 32, 53, 63, 64)
WHOLE = sorted({sign * 2**bits + one for bits in AROUND for sign in (-1, 1) for one in (-1, 0, 1)} | {-1, 0, 1})
UNICODE = ["\ufeffbom", "\u2028\u2029", "e\u0301", "ünïcödé", "😀👩‍👩‍👧", "\x7f\x01\x1f", "﷽"]
QUOTED = ["'", '"', '""', 'it\'s "q"', ",", ";", "{", "}", "()", "a,b;c|d", "%s %(a)s :name $1 ?", "<b>&amp;"]
ESCAPED = ["\\", "\\\\", "\\N", "\\.", "\\n", "\\t\\x00", "\t", "\r", "\n", "\r\n", "a\n\\.\nb", "\n\n", "NULL", "null"]
NASTY = ["", " ", "  two  ", *UNICODE, *QUOTED, *ESCAPED, "x" * 10_000, "ä" * 5_000]
LETTERS = [*"aZ09 \t\n\r\\'\"{}[](),.;:%$NULL-+_", "ä", "€", "😀", "\u0301", "\ufeff", "\u2028", "\x01"]
SHORT = [text for text in NASTY if len(text) <= 20]
LABELS = ["ok", "", "NULL", "\\.", "\\N", "so, so", "it's", '"q"', "new\nline", "tab\t", "back\\slash", " ", "{", "😀"]
FLOATS = [0.0, -0.0, 0.1, 1 / 3, 2.5, 2.0**24 + 1, 2.0**53 - 1, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308]
NOT_FINITE = [math.nan, math.inf, -math.inf]
SINGLES = [0.0, -0.0, 0.5, 2.0**24, 2.0**-149, 2.0**-126, 3.4028234663852886e38, float.fromhex("0x1.99999ap-4")]
HALVES = [0.0, -0.0, 0.5, 2.0**-24, 2.0**-14, 65504.0, 0.0999755859375]
FIRST_DAY, LAST_DAY = -2_440_588, 2_145_042_905
DAYS = [FIRST_DAY, -719_528, -719_163, -719_162, -1, 0, 11_016, 2_932_896, 2_932_897, LAST_DAY]
FIRST_MOMENT, LAST_MOMENT = FIRST_DAY * DAY, 2**63 - 2
"""The next one is DuckDB's infinity."""
MOMENTS = [FIRST_MOMENT, *(one * DAY + by for one in DAYS[1:-1] for by in (-1, 0, 1)), LAST_MOMENT]
INFINITY = 946_684_800_000_000 - 2**63
"""What PostgreSQL, counting from 2000, takes for -infinity."""
SOON = [moment * 1_000_000 for moment in (-2_717_640_001, 1_711_846_799, 1_711_846_800, 1_729_990_800, 1_483_228_800)]
"""Before 1883, at the gap and the overlap of daylight saving in Berlin, and after a leap second."""
TIMES = [0, 1, 43_200_000_000, DAY - 1]
SPANS = [0, 1, -1, DAY, -DAY, 2**63 - 1, -(2**63) + 1]
UUIDS = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678-9abc-def0-1234-56789ABCDEF0")]
TWICE = '{"b": 1, "a": [true, null, "ü\\n"], "b": 2}'
OBJECTS = ['{"b": 1, "a": [true, null, "ü\\n"]}', '{"a":{}}', '{ "" : [ ] }', f"[{'[' * 400}{']' * 400}]"]
NUMBERS = ["-0", "1.0", "1E400", "0.1e-7", "1" * 5_000, "123456789012345678901234567890.123456789"]
SCALARS = ["null", "true", ' "text" ', '"\\u00e9\\ud83d\\ude00"', '"\\\\u0000"', '"\\"\\\\\\/\\b\\t"', '"😀"']
JSON = [*OBJECTS, *NUMBERS, *SCALARS]
NOT_JSON = ["", "{", "NaN", '{"a": NaN}', "'a'", '"a\nb"', "01", "[1,]", "\ufeff1", '"\\x"', "Infinity", "nul"]
DOMAINS = {"price": "numeric(12,4)", "word": "varchar(20)", "words": "text[]", "flags": "bit(3)"}


def words(most: int) -> Callable[[Random], str]:
    return lambda random: "".join(random.choices(LETTERS, k=random.randint(0, most)))


def integers(sql: str, kind: pa.DataType, low: int, high: int, build: Callable[[int], Any] = int) -> Case:
    """Whole numbers of an Arrow integer type; a column from `low` to `high` refuses the others."""
    signed = pa.types.is_signed_integer(kind)
    first, last = (
        (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1) if signed else (0, 2**kind.bit_width - 1)
    )
    given = [one for one in WHOLE if first <= one <= last]
    bad = [one for one in given if not low <= one <= high]
    return Case(
        sql,
        kind,
        [one for one in given if low <= one <= high],
        lambda random: max(
            low, first, min(high, last, random.randint(-1, 1) * random.getrandbits(random.randint(1, 63)))
        ),
        build=build,
        refused=bad,
    )


def bits(code: str, size: int) -> Callable[[Random], float]:
    """Any float at all: its bits are random."""
    return lambda random: float(struct.unpack(code, random.randbytes(size))[0])


def number(digits: int, scale: int) -> Decimal:
    return Decimal(digits).scaleb(-scale, Context(prec=200))


def plain(value: Decimal) -> str:
    """Without an exponent, and without the sign of zero, which neither Arrow nor PostgreSQL keeps."""
    return f"{value or abs(value):f}"


def decimals(sql: str, kind: pa.DataType, precision: int, scale: int, **options: Any) -> Case:
    """Numbers of `precision` digits, `scale` of them after the point."""
    nines = 10**precision - 1
    edges = [number(one, scale) for one in (0, 1, -1, nines, -nines, 10 ** (precision - 1))]
    return Case(
        sql,
        kind,
        edges,
        lambda random: number(random.randint(-1, 1) * random.randrange(10 ** random.randint(1, precision)), scale),
        plain,
        **options,
    )


def moments(sql: str, kind: pa.DataType, unit: int = 1, low: int = FIRST_MOMENT, high: int = LAST_MOMENT) -> Case:
    """Moments in microseconds, of which each is a multiple of `unit`; the Arrow type may count in other units."""
    per = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(kind.unit)
    zone = "" if kind.tz is None else "+00"
    low, high = -(-low // unit) * unit, high // unit * unit
    return Case(
        sql,
        kind,
        [low, high, *sorted({one // unit * unit for one in [*MOMENTS, *SOON] if low <= one // unit * unit <= high})],
        lambda random: random.randint(low // unit, high // unit) * unit,
        lambda us: moment(us, zone),
        (lambda us: us * 1000) if per is None else (lambda us: us // per),
        refused=[FIRST_MOMENT - 1, -(2**63), 2**63 - 1] if kind.unit == sql_unit(sql) else [],
    )


def sql_unit(sql: str) -> str:
    return "ms" if "(3)" in sql else "us"


def spans(kind: pa.DataType, unit: int) -> Case:
    low, high = (
        (-(2**63) // 1000 + 1, 2**63 // 1000) if kind.unit == "ns" else (SPANS[-1] // unit + 1, SPANS[-2] // unit)
    )
    build = (lambda us: us * 1000) if kind.unit == "ns" else (lambda us: us // unit)
    return Case(
        "interval",
        kind,
        sorted({max(low, min(high, one // unit)) * unit for one in SPANS}),
        lambda random: random.randint(low, high) * unit,
        clock,
        build,
    )


def parts(value: tuple[int, int, int]) -> str:
    return f"{value[0]} mons {value[1]} days {clock(value[2])}"


def texts(sql: str, edges: list[str], more: Callable[[Random], str], **options: Any) -> Case:
    """What the server reads from text."""
    return Case(sql, pa.string(), edges, more, **options)


def vague(sql: str, doubtful: list[str]) -> Case:
    """A column whose type cuts or rounds whatever the server reads from text: it may refuse text altogether."""
    return texts(sql, [], lambda random: "", doubtful=doubtful)


def lists(sql: str, kind: pa.DataType, element: Case, edges: list[Any], **options: Any) -> Case:
    """Arrays whose elements are those of another case."""

    def more(random: Random) -> list[Any]:
        return [None if random.random() < 0.2 else element.more(random) for _ in range(random.randint(0, 5))]

    def build(value: list[Any]) -> list[Any]:
        return [build(one) if isinstance(one, list) else None if one is None else element.build(one) for one in value]

    values = [[], [None], [None, None], element.edges, [element.edges[-1], None, element.edges[0]], *edges]
    options = {"more": more, "spell": lambda value: literal(value, element.spell), "build": build} | options
    return Case(sql, kind, values, **options)


def pair(random: Random) -> tuple[int, int]:
    low, high = sorted(random.sample(range(-(2**31), 2**31 - 1), 2))
    return low, high


def ranges(random: Random) -> str:
    low, high = pair(random)
    return random.choice([f"[{low},{high})", f"({low},{high}]", f"[,{high}]", f"({low},)", "empty", "(,)"])


def moment_ranges(random: Random) -> str:
    low, high = (f'"{moment(one * 1000, "+00")}"' for one in pair(random))
    return random.choice([f"[{low},{high})", f"({low},{high}]", f"[,{high}]", f"({low},)", "empty"])


def address(random: Random) -> str:
    return random.choice([f"10.{random.randrange(256)}.0.{random.randrange(256)}", f"fe80::{random.getrandbits(16):x}"])


def network(random: Random) -> str:
    return random.choice([f"10.{random.randrange(256)}.0.0/16", f"{random.getrandbits(16):x}::/16"])


def binary(most: int) -> Callable[[Random], str]:
    return lambda random: f"{random.getrandbits(most):0{most}b}"


def rows_of(random: Random) -> list[list[int]]:
    """Two dimensions; the rows of one are as long as each other."""
    width = random.randint(1, 3)
    return [[random.randint(-9, 9) for _ in range(width)] for _ in range(random.randint(1, 3))]


def hexadecimal(value: bytes) -> str:
    return f"\\x{value.hex()}"


def some_bytes(random: Random) -> bytes:
    return random.randbytes(random.randint(0, 40))


BYTES = [b"", b"\x00", b"\\x", b"\\", b"'", bytes(range(256)), b"\xff\xfe"]
INT4 = integers("integer", pa.int32(), -(2**31), 2**31 - 1)
INT8 = integers("bigint", pa.int64(), -(2**63), 2**63 - 1)
FLOAT8 = Case("double precision", pa.float64(), [*FLOATS, *NOT_FINITE], bits("<d", 8), repr)
TEXT = texts("text", NASTY, words(30), refused=["a\0b", "\0"])
BYTEA = Case("bytea", pa.binary(), BYTES, some_bytes, hexadecimal)
CENTS = decimals("numeric(10,2)", pa.decimal128(10, 2), 10, 2)
INSTANTS = moments("timestamptz", pa.timestamp("us", "UTC"))
DATES = Case(
    "date",
    pa.date32(),
    DAYS,
    lambda random: random.randint(FIRST_DAY, LAST_DAY),
    lambda days: "".join(day(days)),
    refused=[FIRST_DAY - 1, LAST_DAY + 1, 10_957 - 2**31, 2**31 - 1, -(2**31)],
)
UUID = Case(
    "uuid", pa.uuid(), UUIDS, lambda random: uuid.UUID(int=random.getrandbits(128)), build=lambda one: one.bytes
)
MOOD = texts("mood", LABELS, lambda random: random.choice(LABELS), refused=["sad", "OK", "ok ", "null"])
JSONB = texts("jsonb", JSON, lambda random: json.dumps({"a": random.random(), "b": words(9)(random)}), refused=NOT_JSON)
OBJECT = pa.struct({"b": pa.int64(), "a": pa.list_(pa.string()), "f": pa.float64()})
OBJECT_EDGES = [{"b": 1, "a": None, "f": 0.1}, {"b": None, "a": ["", None, "\\", "\n"], "f": -0.0}]
HEX_UUIDS = [f"{{{UUIDS[2]}}}", str(UUIDS[2]).upper(), UUIDS[1].hex, str(UUIDS[0])]


def toss(random: Random) -> bool:
    return random.random() < 0.5


def any_int4(random: Random) -> int:
    return random.randint(-(2**31), 2**31 - 1)


def a_day(random: Random) -> int:
    return random.randint(-700_000, 2_900_000)


def a_time(random: Random) -> int:
    return random.randrange(DAY)


def an_hour(random: Random) -> int:
    return random.randint(-500_000, 2_000_000) * DAY // 24


def any_uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128)))


def a_price(random: Random) -> float:
    return round(random.uniform(-1e9, 1e9), 2)


def per(unit: int) -> Callable[[int], int]:
    return lambda us: us // unit


def whole(value: float) -> str:
    return str(int(value))


def exact(value: float) -> str:
    """The decimal number that repr() shows, without a needless ".0"."""
    return plain(Decimal(repr(value).removesuffix(".0")))


NUMBERS_CASES = {
    "bool": Case("boolean", pa.bool_(), [True, False], toss),
    "bool from bool8": Case("boolean", pa.bool8(), [True, False], toss, build=int),
    "bool from int": Case("boolean", pa.int32(), [True, False], toss, build=int, refused=[2, -1]),
    "bool from text": texts("boolean", ["true", "false", "1", "0"], lambda random: "true", refused=["", "2", "x"]),
    **{
        f"{sql} from {kind}": integers(sql, kind, -(2 ** (size - 1)), 2 ** (size - 1) - 1)
        for sql, size, kinds in (
            ("int2", 16, (pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int64())),
            ("int4", 32, (pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64())),
            ("int8", 64, (pa.int32(), pa.uint32(), pa.int64(), pa.uint64())),
            ("numeric(20)", 66, (pa.int64(), pa.uint64())),
            ("numeric", 66, (pa.int8(), pa.uint64())),
        )
        for kind in kinds
    },
    "int2 from bool": Case("int2", pa.bool_(), [True, False], toss, whole),
    "int4 from floats": Case(
        "int4",
        pa.float64(),
        [0.0, -0.0, 2.0**31 - 1, -(2.0**31)],
        lambda random: float(any_int4(random)),
        whole,
        refused=[2.5, 2.0**31, -(2.0**31) - 1, 1e300, 5e-324, *NOT_FINITE],
    ),
    "int8 from floats": Case(
        "int8", pa.float64(), [2.0**53, -(2.0**63)], lambda random: random.random() // 1e-16, whole, refused=[2.0**63]
    ),
    "int8 from text": texts(
        "int8",
        [str(-(2**63)), str(2**63 - 1), "0"],
        lambda random: str(random.getrandbits(62)),
        refused=["", "1.5", "x", "1e3", str(2**63), str(-(2**63) - 1)],
        doubtful=["+7", "007", " 1", "1 ", "1_000", "0x1F"],
    ),
    "float4 from halves": Case("real", pa.float16(), [*HALVES, *NOT_FINITE], bits("<e", 2), repr),
    "float4": Case("real", pa.float32(), [*SINGLES, *NOT_FINITE], bits("<f", 4), repr),
    "float4 from float64": Case(
        "real",
        pa.float64(),
        [*SINGLES, *NOT_FINITE],
        bits("<f", 4),
        repr,
        refused=[0.1, 1e300, 5e-324, 2.0**24 + 1],
    ),
    "float8": FLOAT8,
    "float8 from float32": Case("float8", pa.float32(), [*SINGLES, *NOT_FINITE], bits("<f", 4), repr),
    "float8 from int64": Case(
        "float8",
        pa.int64(),
        [0, 2**53, -(2**53), 2**62],
        lambda random: random.randint(-(2**53), 2**53),
        refused=[2**53 + 1, 2**63 - 1],
    ),
    "float8 from text": texts(
        "float8",
        [repr(one) for one in [*FLOATS, *NOT_FINITE]],
        lambda random: repr(bits("<d", 8)(random)),
        refused=["", "x", "1e400", "1e-400", "0.12345678901234567890"],
        doubtful=[" 1", "1e5", ".5", "+1"],
    ),
    "numeric(20,5)": decimals("numeric(20,5)", pa.decimal128(20, 5), 20, 5),
    "numeric(20,5) from decimal64": decimals("numeric(20,5)", pa.decimal64(18, 5), 18, 5),
    "numeric(20,5) from decimal32": decimals("numeric(20,5)", pa.decimal32(9, 2), 9, 2),
    "numeric(20,5) from more digits": decimals(
        "numeric(20,5)",
        pa.decimal128(38, 10),
        20,
        5,
        refused=[number(10**20, 5), number(1, 6), number(-(10**37), 10)],
    ),
    "numeric(20,5) from text": decimals(
        "numeric(20,5)",
        pa.string(),
        20,
        5,
        build=plain,
        refused=[number(10**20, 5), number(1, 6), number(10**60 + 1, 60)],
        doubtful=[number(10, 6), Decimal("NaN")],
    ),
    "numeric(20,5) from floats": Case(
        "numeric(20,5)",
        pa.float64(),
        [0.0, -0.0, 0.1, 1e-05, 1e14, 999999999.99999],
        lambda random: round(random.uniform(-1e9, 1e9), 5),
        exact,
        refused=[1e15, 1e-06, 1 / 3, math.inf, -math.inf],
        doubtful=[math.nan],
    ),
    "numeric(38,0)": decimals("numeric(38,0)", pa.decimal128(38, 0), 38, 0),
    "numeric(38,0) from a negative scale": decimals("numeric(38,0)", pa.decimal128(10, -5), 10, -5),
    "numeric(38,0) from a negative scale of 256 bits": decimals("numeric(38,0)", pa.decimal256(10, -20), 10, -20),
    "numeric(5,5)": decimals("numeric(5,5)", pa.decimal32(5, 5), 5, 5),
    "numeric(50,20)": decimals("numeric(50,20)", pa.decimal256(50, 20), 50, 20),
    "numeric(50,20) from decimal128": decimals("numeric(50,20)", pa.decimal128(38, 20), 38, 20),
    "numeric(50,20) from text": decimals(
        "numeric(50,20)", pa.large_string(), 50, 20, build=plain, refused=[number(1, 21), number(10**50, 20)]
    ),
    "numeric(76,38)": decimals("numeric(76,38)", pa.decimal256(76, 38), 76, 38),
    "numeric": decimals("numeric", pa.decimal128(38, 10), 38, 10),
    "numeric from a negative scale": decimals("numeric", pa.decimal128(35, -3), 35, -3),
    "numeric from decimal256": decimals("numeric", pa.decimal256(76, 38), 76, 38),
    "numeric from text": texts(
        "numeric",
        ["NaN", "0", "-0.00", "1E+20", "1e-1000", "9" * 1000, "0.10", "1." + "0" * 100],
        lambda random: plain(number(random.getrandbits(400), random.randint(0, 100))),
        refused=["", "x", "1,5", "0.1.2"],
        doubtful=["Infinity", "-inf", " 1", "1e400", "1_000"],
    ),
    "numeric from floats": Case(
        "numeric",
        pa.float64(),
        [*FLOATS, math.nan],
        lambda random: math.ldexp(random.random(), random.randint(-300, 300)),
        exact,
        doubtful=[math.inf, -math.inf],
    ),
    "money": decimals("money", pa.decimal128(18, 2), 18, 2),
    "money of its bounds": Case(
        "money",
        pa.decimal128(25, 3),
        [number(2**63 - 1, 2), number(-(2**63) + 1, 2)],
        lambda random: number(random.randint(-(2**63), 2**63 - 1), 2),
        plain,
        refused=[number(2**63, 2), number(-(2**63) - 1, 2), number(1, 3)],
        doubtful=[number(-(2**63), 2)],
    ),
    "money from int": Case(
        "money",
        pa.int64(),
        [0, 1, -1, 2**63 // 100, -(2**63 // 100)],
        lambda random: random.randint(-(10**16), 10**16),
        refused=[2**63 // 100 + 1, 2**63 - 1],
    ),
    "money from text": decimals("money", pa.string(), 16, 2, build=plain, refused=[number(1, 3), Decimal("NaN")]),
    "money from floats": Case(
        "money", pa.float64(), [0.0, 0.1, -0.01, 1e15], a_price, exact, refused=[0.001, 1e18, *NOT_FINITE]
    ),
}
TEXT_CASES = {
    "text": TEXT,
    "text from large strings": replace(TEXT, kind=pa.large_string()),
    "text from string views": replace(TEXT, kind=pa.string_view()),
    "text from integers": replace(INT8, sql="text"),
    "text from decimals": replace(CENTS, sql="text", spell=lambda one: f"{one:.2f}"),
    "text from uuids": replace(UUID, sql="text"),
    "text from booleans": Case("text", pa.bool_(), [True, False], toss, lambda one: str(one).lower()),
    "text from dates": replace(DATES, sql="text", edges=[-1, 0], more=a_day, refused=[], doubtful=[*DAYS, 12_000_000]),
    "text from times": Case("text", pa.time64("us"), TIMES, a_time, clock, doubtful=[DAY, -1, 2**62]),
    "text from timestamps": Case("text", pa.timestamp("us"), [-1, 0], an_hour, moment, doubtful=MOMENTS),
    "text from instants": Case(
        "text",
        pa.timestamp("us", "Asia/Kolkata"),
        [0],
        an_hour,
        lambda us: moment(us, "+00:00"),
        doubtful=[one for one in MOMENTS if one > 0],
    ),
    "varchar(3) from integers": Case(
        "varchar(3)", pa.int64(), [0, 999, -99], lambda random: random.randint(-99, 999), refused=[1000, -100, 2**62]
    ),
    "varchar(20)": texts(
        "varchar(20)",
        [*SHORT, "x" * 20, "ä" * 20, "😀" * 20],
        words(20),
        refused=["x" * 21, "x" * 20 + " ", "ä" * 21, "a\0b"],
    ),
    "char(5)": texts(
        "char(5)", ["", " ", "abcde", "äöü😀€", "a  ", "\\."], words(5), refused=["abcdef", "abcde ", "a\0b"]
    ),
    "citext": replace(TEXT, sql="citext"),
    "name": texts("name", [*SHORT, "x" * 63], words(15), refused=["x" * 64, "ä" * 32, "a\0b"]),
    "char of one byte": texts(
        '"char"', ["a", "Z", "?"], lambda random: random.choice("azAZ09"), refused=["ab", "a\0b"]
    ),
    "bytea": replace(BYTEA, edges=[*BYTES, bytes(range(256)) * 4096]),
    "bytea from large binary": replace(BYTEA, kind=pa.large_binary()),
    "bytea from binary views": replace(BYTEA, kind=pa.binary_view()),
    "bytea from fixed sizes": replace(
        BYTEA,
        kind=pa.binary(4),
        edges=[b"\0\0\0\0", b"\\x00", b"\xff\xfe\t\n"],
        more=lambda random: random.randbytes(4),
    ),
    "uuid": UUID,
    "uuid from text": texts("uuid", HEX_UUIDS, any_uuid, refused=["", "x", "0" * 31, "0" * 33, "g" * 32]),
    "json": replace(JSONB, sql="json", edges=[*JSON, TWICE, '"\\u0000"', '"\\ud800"', "1e999999"]),
    "json from Arrow's json": replace(JSONB, sql="json", kind=pa.json_(), refused=[]),
    "jsonb": replace(
        JSONB, refused=[*NOT_JSON, TWICE, '"\\u0000"', '{"\\u0000": 1}', '"\\ud800"', '"\\ude00\\ud83d"', '"a\0b"']
    ),
    "jsonb from large strings": replace(JSONB, kind=pa.large_string()),
    "jsonb from structs": Case(
        "jsonb",
        OBJECT,
        OBJECT_EDGES,
        lambda random: {"b": any_int4(random), "a": [words(9)(random)], "f": random.random()},
        json.dumps,
        refused=[{"f": math.nan}, {"f": -math.inf}, {"a": ["a\0b"]}],
    ),
    "jsonb from maps": Case(
        "jsonb",
        pa.map_(pa.string(), pa.int64()),
        [{}, {"": 1}, {"b": 2, "a": None}, {"\\": 1, '"': 2, "\n": 3}],
        lambda random: {words(9)(random): any_int4(random)},
        json.dumps,
        lambda one: list(one.items()) if isinstance(one, dict) else one,
        refused=[[("a", 1), ("a", 2)]],
    ),
    "jsonb from lists": Case(
        "jsonb",
        pa.list_(pa.float64()),
        [[], [None], [0.1, None, -0.0], [1e300, 5e-324]],
        lambda random: [random.random()],
        json.dumps,
        refused=[[math.nan], [math.inf]],
    ),
    "enum": MOOD,
    "enum from large strings": replace(MOOD, kind=pa.large_string()),
    "domain over text": texts("word", [*SHORT, "x" * 20], words(20), refused=["x" * 21, "x" * 20 + " "]),
    "domain over numeric": decimals("price", pa.decimal128(12, 4), 12, 4),
}
TIME_CASES = {
    "date": DATES,
    "date from date64": replace(
        DATES, kind=pa.date64(), build=lambda days: days * DAY // 1000, refused=[FIRST_DAY - 1]
    ),
    "date from midnights": Case(
        "date",
        pa.timestamp("us"),
        [one * DAY for one in DAYS[:-1]],
        lambda random: random.randint(-700_000, 2_000_000) * DAY,
        lambda us: "".join(day(us // DAY)),
        refused=[1, -1, DAY // 2],
    ),
    "date from text": texts(
        "date",
        ["0001-01-01", "9999-12-31", "1970-01-01", "2000-02-29"],
        lambda random: day(random.randint(0, 40_000))[0],
        refused=["", "2023-02-29", "2024-13-01", "2024-01-01 12:00:00"],
        doubtful=["4713-01-01 BC", "10000-01-01", "infinity", "today", "01/02/2024", "20240102", "2024-01-01 00:00:00"],
    ),
    "time": Case(
        "time",
        pa.time64("us"),
        TIMES,
        lambda random: random.randrange(DAY),
        clock,
        refused=[-1, DAY + 1, 2**62],
        doubtful=[DAY],
    ),
    "time from nanoseconds": Case(
        "time",
        pa.time64("ns"),
        TIMES,
        lambda random: random.randrange(DAY),
        clock,
        lambda us: int(us * 1000),
        [1 / 1000],
    ),
    "time from milliseconds": Case(
        "time", pa.time32("ms"), [0, DAY - 1000], lambda random: random.randrange(86_400) * 1_000_000, clock, per(1_000)
    ),
    "time from seconds": Case(
        "time",
        pa.time32("s"),
        [0, DAY - 1_000_000],
        lambda random: random.randrange(86_400) * 1_000_000,
        clock,
        per(10**6),
    ),
    "time from text": texts(
        "time",
        ["00:00:00", "23:59:59.999999", "12:30"],
        lambda random: clock(random.randrange(DAY)),
        refused=["", "24:30:00", "12:60:00", "12:00:00.0000001"],
        doubtful=["24:00:00", "23:59:60", "12:00:00+02", "1 PM"],
    ),
    "time(3)": Case(
        "time(3)",
        pa.time64("us"),
        [0, DAY - 1000],
        lambda random: random.randrange(86_400_000) * 1000,
        clock,
        refused=[1, 500, DAY - 1],
    ),
    "timestamp": moments("timestamp", pa.timestamp("us")),
    "timestamp from seconds": moments("timestamp", pa.timestamp("s"), 1_000_000),
    "timestamp from milliseconds": moments("timestamp", pa.timestamp("ms"), 1_000),
    "timestamp from nanoseconds": moments("timestamp", pa.timestamp("ns"), 1, -(2**63) // 1000 + 1, 2**63 // 1000),
    "timestamp(3)": replace(moments("timestamp(3)", pa.timestamp("us"), 1_000), refused=[1, 999, -1, LAST_MOMENT]),
    "timestamp from dates": Case(
        "timestamp",
        pa.date32(),
        [FIRST_DAY, *DAYS[1:-1], LAST_MOMENT // DAY],
        lambda random: random.randint(FIRST_DAY, LAST_MOMENT // DAY),
        lambda days: moment(days * DAY),
        refused=[LAST_MOMENT // DAY + 1, LAST_DAY, FIRST_DAY - 1],
    ),
    "timestamp from text": texts(
        "timestamp",
        ["0001-01-01 00:00:00", "9999-12-31T23:59:59.999999", "2024-02-29 12:30", "1970-01-01"],
        lambda random: moment(random.randrange(2**51)),
        refused=["", "2023-02-29 00:00:00", "2024-01-01 00:00:00+01", "2024-01-01 00:00:00.0000001"],
        doubtful=["4713-01-01 00:00:00 BC", "infinity", "now", "2016-12-31 23:59:60", "2024-01-01 24:00:00"],
    ),
    "timestamptz": INSTANTS,
    "timestamptz from Berlin": moments("timestamptz", pa.timestamp("us", "Europe/Berlin")),
    "timestamptz from New York in seconds": moments("timestamptz", pa.timestamp("s", "America/New_York"), 1_000_000),
    "timestamptz from an offset": moments("timestamptz", pa.timestamp("ms", "+05:30"), 1_000),
    "timestamptz from nanoseconds": moments(
        "timestamptz", pa.timestamp("ns", "Asia/Kolkata"), 1, -(2**63) // 1000 + 1, 2**63 // 1000
    ),
    "timestamptz(3)": replace(
        moments("timestamptz(3)", pa.timestamp("us", "UTC"), 1_000), refused=[1, 999, -1, LAST_MOMENT]
    ),
    "timestamptz from text": texts(
        "timestamptz",
        [
            "2024-02-29T12:30:00+02:00",
            "2024-03-31 02:30:00+01",
            "1970-01-01 00:00:00Z",
            "9999-12-31 23:59:59.999999+00",
        ],
        lambda random: moment(random.randrange(2**51), random.choice(["+00", "-0330", "+05:30"])),
        refused=["", "2024-01-01 00:00:00", "2024-01-01", "2024-02-30 00:00:00+00", "2024-01-01 00:00:00.0000001+00"],
        doubtful=[
            "2016-12-31 23:59:60+00",
            "2024-01-01 00:00:00 Europe/Berlin",
            "1850-01-01 00:00:00+00:53:28",
            "infinity",
        ],
    ),
    "interval from microseconds": spans(pa.duration("us"), 1),
    "interval from nanoseconds": spans(pa.duration("ns"), 1),
    "interval from milliseconds": spans(pa.duration("ms"), 1_000),
    "interval from seconds": spans(pa.duration("s"), 1_000_000),
    "interval from months, days and nanoseconds": Case(
        "interval",
        pa.month_day_nano_interval(),
        [
            (0, 0, 0),
            (1, 1, 1),
            (-1, -1, -1),
            (-1, 2, 3),
            (1, -2, -3),
            (0, -1, DAY),
            (2**31 - 1, -(2**31), -(2**62) // 1000),
        ],
        lambda random: (random.randint(-99, 99), random.randint(-99, 99), random.randint(-DAY, DAY)),
        parts,
        lambda one: (one[0], one[1], int(one[2] * 1000)),
        refused=[(0, 0, 0.001), (1, 1, -0.999)],
    ),
    "interval from text": texts(
        "interval",
        ["1 day", "-00:00:00.000001", "1 mon -2 days 03:04:05", "P1Y2M3DT4H5M6.789S"],
        lambda random: clock(random.randint(-(10**12), 10**12)),
        refused=["", "x", "00:00:00.0000001"],
    ),
    "timetz": texts(
        "timetz",
        ["00:00:00+00", "23:59:59.999999-15:59", "12:00:00+05:30"],
        lambda random: f"{clock(random.randrange(DAY))}{random.choice(['+00', '-07', '+05:45'])}",
        refused=["", "25:00:00+00", "12:00:00.0000001+00"],
        doubtful=["24:00:00+00"],
    ),
}
LIST_CASES = {
    "int4[]": lists("int4[]", pa.list_(pa.int32()), INT4, []),
    "int4[] from large lists": lists(
        "int4[]", pa.large_list(pa.int64()), INT4, [], refused=[[2**31], [1, None, -(2**31) - 1]]
    ),
    "int4[] from list views": lists("int4[]", pa.list_view(pa.int32()), INT4, []),
    "int4[] from fixed sizes": Case(
        "int4[]",
        pa.list_(pa.int32(), 2),
        [[1, None], [None, None], [0, 2**31 - 1]],
        lambda random: [any_int4(random), None],
        lambda value: literal(value, str),
    ),
    "int4[] of two dimensions": Case(
        "int4[]",
        pa.list_(pa.list_(pa.int32())),
        [[], [[1]], [[1, 2], [3, None]], [[None]]],
        rows_of,
        lambda value: literal(value, str),
        refused=[[[1], [2, 3]], [[1], None]],
        doubtful=[[[]], [[], []], [None], [None, None]],
    ),
    "int4[] from text": texts(
        "int4[]",
        ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[2:3]={1,2}", '{"1"}'],
        lambda random: f"{{{any_int4(random)}}}",
        refused=["", "{", "{x}", "1", "{{1},{2,3}}", f"{{{2**31}}}"],
    ),
    "text[]": lists("text[]", pa.list_(pa.string()), replace(TEXT, more=words(9)), [["NULL"], ["null", None], [""]]),
    "text[] from string views": lists("text[]", pa.list_(pa.string_view()), replace(TEXT, more=words(9)), [["NULL"]]),
    "text[] from dictionaries": lists(
        "text[]", pa.list_(pa.dictionary(pa.int8(), pa.string())), MOOD, [["NULL"], ["", None]], refused=[]
    ),
    "text[] from text": texts("text[]", ["{}", '{"NULL",NULL,""}', '{a,"b,c","\\"","\\\\"}'], lambda random: "{x}"),
    "varchar(3)[]": lists(
        "varchar(3)[]", pa.list_(pa.string()), texts("", ["", "abc", "äöü"], words(3)), [], refused=[["abcd"], ["abc "]]
    ),
    "varchar(3)[] from text": vague("varchar(3)[]", ["{abc}", "{abcd}", "{a,bcde}"]),
    "bool[]": lists("boolean[]", pa.list_(pa.bool_()), NUMBERS_CASES["bool"], []),
    "float8[]": lists("float8[]", pa.list_(pa.float64()), FLOAT8, []),
    "numeric(10,2)[]": lists("numeric(10,2)[]", pa.list_(pa.decimal128(10, 2)), CENTS, []),
    "numeric(10,2)[] from more digits": lists(
        "numeric(10,2)[]",
        pa.list_(pa.decimal128(20, 4)),
        CENTS,
        [],
        refused=[[number(1, 4)], [number(10**10, 2), None]],
    ),
    "numeric(10,2)[] from floats": Case(
        "numeric(10,2)[]",
        pa.list_(pa.float64()),
        [[], [0.1, None], [-99999999.99]],
        lambda random: [round(random.uniform(-1e6, 1e6), 2)],
        lambda value: literal(value, exact),
        refused=[[0.001], [1e8], [1.005, None]],
    ),
    "numeric(10,2)[] from text": vague("numeric(10,2)[]", ["{0.10}", "{1.005}"]),
    "date[]": lists("date[]", pa.list_(pa.date32()), DATES, [], refused=[[FIRST_DAY - 1]]),
    "timestamp[]": lists("timestamp[]", pa.list_(pa.timestamp("us")), moments("timestamp", pa.timestamp("us")), []),
    "timestamptz[]": lists("timestamptz[]", pa.list_(pa.timestamp("us", "UTC")), INSTANTS, []),
    "timestamp(0)[]": lists(
        "timestamp(0)[]",
        pa.list_(pa.timestamp("ms")),
        moments("timestamp", pa.timestamp("ms"), 1_000_000),
        [],
        refused=[[1_000], [1_999_000, None]],
    ),
    "bytea[]": lists("bytea[]", pa.list_(pa.binary()), BYTEA, []),
    "uuid[]": lists("uuid[]", pa.list_(pa.uuid()), UUID, []),
    "interval[]": lists("interval[]", pa.list_(pa.duration("us")), spans(pa.duration("us"), 1), []),
    "jsonb[]": lists("jsonb[]", pa.list_(pa.string()), replace(JSONB, edges=JSON[:4]), [], refused=[["{"], ["NaN"]]),
    "enum[]": lists("mood[]", pa.list_(pa.string()), MOOD, [["NULL", None, ""]], refused=[["sad"], ["ok", "OK"]]),
    "domain over text[]": lists("words", pa.list_(pa.string()), replace(TEXT, more=words(9)), []),
}
SERVER_CASES = {
    "inet": texts(
        "inet", ["0.0.0.0", "10.0.0.1/8", "::", "::ffff:10.0.0.1", "fe80::1/64"], address, refused=["", "10.1", "x"]
    ),
    "cidr": texts("cidr", ["0.0.0.0/0", "10.0.0.0/8", "::/0", "::1/128"], network, refused=["", "10.0.0.1/8", "x"]),
    "macaddr": texts(
        "macaddr",
        ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "08-00-2B-01-02-03", "0800.2b01.0203"],
        lambda random: random.randbytes(6).hex(":"),
        refused=["", "08:00:2b:01:02", "x"],
    ),
    "macaddr8": texts(
        "macaddr8",
        ["00:00:00:00:00:00:00:00", "08-00-2B-01-02-03", "0800.2b01.0203.0405", "08002b:0102030405", " ffffffffffff "],
        lambda random: random.randbytes(8).hex(":"),
        refused=["", "08:00:2b:01:02", "08:00-2b:01:02:03:04:05", "0 8002b010203", "x"],
    ),
    "int4range": texts(
        "int4range",
        ["empty", "(,)", "[1,1]", "[1,1)", "[-2147483648,2147483647)"],
        ranges,
        refused=["", "[2,1]", "[1,2147483647]"],
    ),
    "int4multirange": texts(
        "int4multirange", ["{}", "{[1,2),[3,4)}", "{[1,3),[2,5)}"], lambda random: "{[1,9)}", refused=["", "{[2,1)}"]
    ),
    "tstzrange": texts(
        "tstzrange",
        ["empty", "(,)", '["2024-03-31 01:30:00+01","2024-03-31 04:00:00+02")', "[-infinity,infinity]"],
        moment_ranges,
        refused=["", '["2024-01-01 00:00:00.0000001+00",)'],
    ),
    "tsvector": texts(
        "tsvector",
        ["", "'a' 'b'", "a:1A b:2,3", "'it''s' '\\\\'", "ü 😀"],
        lambda random: random.choice("abc"),
        refused=["'", "a\0b"],
    ),
    "tsquery": texts("tsquery", ["", "a & b", "!a | (b <-> c)"], lambda random: random.choice("abc"), refused=["a &"]),
    "point": texts(
        "point",
        ["(0,-0)", "(1.5,2)", "(5e-324,1.7976931348623157e308)", "(NaN,Infinity)", " ( 1 , 2 ) "],
        lambda random: f"({bits('<d', 8)(random)!r},{random.random()!r})",
        refused=["", "(1)", "(0.12345678901234567890,1)", "(1e400,1)"],
    ),
    "box": texts(
        "box", ["(1,1),(0,0)", "(0,0),(1,1)"], lambda random: f"({random.random()},1),(0,0)", refused=["(1,1)"]
    ),
    "bit(3)": texts("bit(3)", ["000", "101", "111"], binary(3), refused=["", "10", "1010", "102", "x5a"]),
    "varbit": texts("varbit", ["", "1", "0" * 300, "01" * 99], binary(40), refused=["2", "1 "]),
    "varbit(3)": texts("varbit(3)", ["", "1", "101"], binary(3), refused=["1010", "0000"]),
    "domain over bit(3)": texts("flags", ["000", "101"], binary(3), refused=["10", "1010"]),
    "composite": texts(
        "pair",
        ['(1,"a b")', "(,)", '(2,"")', '(3,"\\\\ "" , )")'],
        lambda random: f"({any_int4(random)},x)",
        refused=["", "(1)", "(x,y)"],
    ),
    "oid": texts(
        "oid", ["0", "4294967295"], lambda random: str(random.getrandbits(32)), refused=["x", "4294967296", "-1"]
    ),
    "pg_lsn": texts(
        "pg_lsn", ["0/0", "FFFFFFFF/FFFFFFFF"], lambda random: f"{random.getrandbits(32):X}/0", refused=["x"]
    ),
    "jsonpath": texts("jsonpath", ["$", '$."a"[*] ? (@ > 1)'], lambda random: "$.a", refused=["", "$."]),
    "interval(3)": vague("interval(3)", ["1 day 00:00:01.5", "00:00:00.0001"]),
    "interval year to month": vague("interval year to month", ["3 mons", "1 year 2 days"]),
    "interval day to second from durations": Case(
        "interval day to second", pa.duration("us"), [0, DAY, -1], a_time, clock
    ),
    "oid from integers": Case(
        "oid", pa.int64(), [0, 2**32 - 1], lambda random: random.getrandbits(32), refused=[2**32, -1]
    ),
}
TEXT_ONLY = [
    *LIST_CASES.values(),
    *SERVER_CASES.values(),
    *(one for one in NUMBERS_CASES.values() if one.sql == "money"),
]
"""Cases that have only one way through COPY: as text, or in the case of money as bytes."""
DEPENDS_ON_SETTINGS = [*TIME_CASES.values(), *LIST_CASES.values(), TEXT_CASES["bytea"], FLOAT8, TEXT]
CASES = NUMBERS_CASES | TEXT_CASES | TIME_CASES | LIST_CASES | SERVER_CASES
LABELS_SQL = ", ".join("'" + label.replace("'", "''") + "'" for label in LABELS)
MAKE_TYPES = {
    "citext": "CREATE EXTENSION citext",
    "mood": f"CREATE TYPE mood AS ENUM ({LABELS_SQL})",
    "pair": "CREATE TYPE pair AS (a integer, b text)",
    **{name: f"CREATE DOMAIN {name} AS {sql}" for name, sql in DOMAINS.items()},
}
"""What a type needs before a column can have it."""

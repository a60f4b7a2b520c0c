"""Make the sample data again: python sample_data/make.py. The same bytes every time.

orders.csv, orders.parquet   1,000 orders: id, customer_id, amount numeric(12,4), status, created_at
orders_messy.csv             30 orders, every second one with a bad value; README.md says which row has which
"""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ROWS = 1_000
COLUMNS = ("id", "customer_id", "amount", "status", "created_at")
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("customer_id", pa.int32()),
        ("amount", pa.decimal128(12, 4)),
        ("status", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
    ]
)
GOOD = ("41", "7", "19.9900", "paid", "2024-03-01T10:00:00Z")
BAD: tuple[tuple[str, str, str], ...] = (
    ("id", "", "no value in the key"),
    ("id", "99999999999999999999", "larger than a bigint"),
    ("id", "3.7", "a fraction in an integer"),
    ("customer_id", "3000000000", "larger than an integer"),
    ("customer_id", "seven", "a word in an integer"),
    ("amount", "0.12345", "five digits after the point, and the column keeps four"),
    ("amount", "123456789.0000", "nine digits before the point, and the column has room for eight"),
    ("amount", "1,5", "a decimal comma"),
    ("amount", "NaN", "not a number"),
    ("status", "x" * 33, "33 characters in a varchar(32)"),
    ("status", "", "no value in a column that needs one"),
    ("created_at", "2024-02-30T00:00:00Z", "a day that does not exist"),
    ("created_at", "2024-03-01 10:00:00", "a time without a zone"),
    ("created_at", "yesterday", "a word in a time"),
    ("id", "1", "the same key as row 0"),
)
"""Column, value and what is wrong with it; the bad rows are 1, 3, 5, ... in this order."""


def orders() -> list[tuple[int, int, Decimal, str, datetime]]:
    chance = random.Random(7)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        (
            number,
            chance.randint(1, 200),
            Decimal(chance.randint(1, 9_999_999)) / 10_000,
            chance.choice(("new", "paid", "packed", "shipped", "returned")),
            start + timedelta(seconds=chance.randint(0, 31_000_000), microseconds=chance.randint(0, 999_999)),
        )
        for number in range(1, ROWS + 1)
    ]


def messy_rows() -> list[tuple[str, ...]]:
    rows = []
    for number, (column, value, _) in enumerate(BAD):
        rows.append((str(2 * number + 1), *GOOD[1:]))
        bad = dict(zip(COLUMNS, (str(2 * number + 2), *GOOD[1:]), strict=True)) | {column: value}
        rows.append(tuple(bad.values()))
    return rows


def write_csv(name: str, rows: list[tuple[str, ...]]) -> None:
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def write_readme() -> None:
    lines = [
        "# Sample data",
        "",
        "Made by `python sample_data/make.py`; the tests check that it makes these very files.",
        "",
        "* `orders.csv`, `orders.parquet`: the same 1,000 orders: id, customer_id, amount numeric(12,4), status,",
        "  created_at.",
        "* `orders_messy.csv`: 30 orders for a table with `id bigint primary key`, `customer_id integer`,",
        "  `amount numeric(12,4)`, `status varchar(32) not null`, `created_at timestamptz`. Rows are counted from 0,",
        "  without the header; even rows are good, odd rows are bad:",
        "",
        "| row | column | value | what is wrong |",
        "|---|---|---|---|",
    ]
    lines += [f"| {2 * n + 1} | {column} | `{value}` | {why} |" for n, (column, value, why) in enumerate(BAD)]
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    rows = orders()
    write_csv("orders.csv", [(str(i), str(c), f"{a:.4f}", s, f"{t:%Y-%m-%dT%H:%M:%S.%fZ}") for i, c, a, s, t in rows])
    columns = [pa.array(values, type=field.type) for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), HERE / "orders.parquet")
    write_csv("orders_messy.csv", messy_rows())
    write_readme()


if __name__ == "__main__":
    main()

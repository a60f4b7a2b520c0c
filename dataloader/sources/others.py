"""What is no table, and is loaded in another way: what to do instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

CLUSTERS = ("dask.dataframe.", "ray.data.")
"""Packages of what the workers of a cluster hold."""
_SQL = re.compile(r"\s*(select|with|table|values|insert|update|delete|copy)\s", re.IGNORECASE)


def better_loader(data: object) -> str:
    found = next((hint for is_it, hint in _OTHERS if is_it(data)), None)
    return found or "Pass a DataFrame, an Arrow table, a dict of columns, or an object with __arrow_c_stream__."


def is_query(data: object) -> bool:
    """Whether it is a query of SQLAlchemy, which has not been run."""
    return hasattr(data, "selected_columns") and hasattr(data, "get_execution_options")


def _is_old_polars(data: object) -> bool:
    return type(data).__module__.partition(".")[0] == "polars" and not hasattr(data, "__arrow_c_stream__")


_OTHERS: tuple[tuple[Callable[[Any], object], str], ...] = (
    (
        lambda data: type(data).__module__.startswith(CLUSTERS),
        "The workers of a cluster hold its rows: load_dataframe loads it, and nothing else does.",
    ),
    (
        lambda data: isinstance(data, (list, tuple)) or hasattr(data, "__next__") or hasattr(data, "__anext__"),
        "Load rows with load_rows(rows, table), and record batches with load_batches(batches, table).",
    ),
    (
        lambda data: (isinstance(data, str) and _SQL.match(data)) or is_query(data),
        "It is a query: copy_table(query, table, source=engine) loads its rows, from any database.",
    ),
    (lambda data: isinstance(data, str) or hasattr(data, "__fspath__"), "Load files with load_files(paths, table)."),
    (lambda data: type(data).__name__ == "LazyFrame", "Collect it first: data.collect()."),
    (_is_old_polars, "Update polars: its frames can be read since 1.3. Or load data.to_arrow()."),
    (lambda data: type(data).__name__ == "Series", "Make it a frame first: data.to_frame()."),
    (lambda data: isinstance(data, (pa.Array, pa.ChunkedArray)), "Give it a name: {'name': data}."),
)

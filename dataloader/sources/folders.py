"""Folders: the files in them, and the columns that their paths are, as Hive, Spark and pyarrow write them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.inference import SPELLED
from dataloader.conversion.mixed import MixedType, mixed_objects
from dataloader.errors import LoadError, PlanError
from dataloader.formatting import quantity

Partitions = tuple[tuple[str, str | None], ...]
"""Names of columns, and what the path says of each."""
KindName = Callable[[str], str | None]

LEFT_OUT = (".", "_")
_TABLES = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table"}
_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"0|-?[1-9]\d*", re.ASCII)
_SHOWN = 3


class InFolder(Protocol):
    """A file, as far as its folder matters."""

    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> Partitions: ...


def files_below(folder: str) -> list[str]:
    """Every file below a local folder, sorted; what begins with a dot or an underscore is left out.

    Raises
    ------
    PlanError
        When it is a table of files of which some do not count any more.
    """
    found: list[str] = []
    seen = {os.path.realpath(folder)}
    for above, folders, files in os.walk(folder, followlinks=True):
        for name, what in _TABLES.items():
            if name in folders:
                hint = "Read it with its own library, and load what that gives with load_dataframe or load_batches."
                raise PlanError(f"{above!r} is {what}: not all files in it are rows of it", hint=hint)
        folders[:] = [
            one for one in folders if not one.startswith(LEFT_OUT) and _is_new(os.path.join(above, one), seen)
        ]
        found += [os.path.join(above, name) for name in files if not name.startswith(LEFT_OUT)]
    return sorted(found)


def _is_new(folder: str, seen: set[str]) -> bool:
    """Whether no other link has led to the folder."""
    real = os.path.realpath(folder)
    is_new = real not in seen
    seen.add(real)
    return is_new


def of_one_kind(folder: str, paths: Sequence[str], kind_name: KindName) -> tuple[list[str], str]:
    """The files that can be read, and in words which others there are.

    Raises
    ------
    PlanError
        When there is none, or they are of several kinds.
    """
    kinds = {path: kind_name(PurePath(path).name) for path in paths}
    known = [path for path, kind in kinds.items() if kind is not None]
    counted = Counter(kind for kind in kinds.values() if kind is not None)
    others = [PurePath(path).name for path, kind in kinds.items() if kind is None]
    if not known:
        seen = f", only {_names(others)}" if others else ""
        hint = "Hidden files, and names that begin with an underscore, are left out."
        raise PlanError(f"no file in the folder {folder!r} is of a kind that can be loaded{seen}", hint=hint)
    if len(counted) > 1:
        facts = ", ".join(f"{quantity(count, 'file')} of {kind}" for kind, count in counted.most_common())
        end = os.path.splitext(next(path for path in known if kinds[path] == counted.most_common()[0][0]))[1]
        hint = f"Choose with a glob, for example '{folder.rstrip('/')}/**/*{end}'."
        raise PlanError(f"the folder {folder!r} has files of several kinds: {facts}", hint=hint)
    told = f"{quantity(len(known), 'file')} of {next(iter(counted))}"
    return known, f"{told}; left out, of unknown kinds: {_names(others)}" if others else told


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def partitions_of(path: str, base: str) -> Partitions:
    """The columns in a path, by its folders called like ``year=2024``: those below `base`, and `base` itself.

    Raises
    ------
    PlanError
        When a name is there twice, or is no text.
    """
    parts = PurePath(path).parts[:-1]
    start = min(len(PurePath(base).parts), len(parts))
    while start and _is_partition(parts[start - 1]):  # above it as far as they are unbroken: the folder of one year
        start -= 1
    found: dict[str, str | None] = {}
    for part in filter(_is_partition, parts[start:]):
        name, value = (_decoded(one, path) for one in part.split("=", 1))
        if name in found:
            raise PlanError(f"the path {path!r} has the column {name!r} twice", hint="Rename one of the folders.")
        found[name] = None if value == _NULL else value
    return tuple(found.items())


def _is_partition(part: str) -> bool:
    return part.find("=") > 0


def _decoded(text: str, path: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError as error:
        raise PlanError(f"a folder of {path!r} is not UTF-8", hint="Rename it.") from error
    return decoded


def partition_fields(files: Iterable[InFolder]) -> dict[str, pa.Field]:
    """The columns in the paths of all files: integers where each is written as one, else text."""
    values: dict[str, list[str | None]] = {}
    for file in files:
        for name, value in file.partitions:
            values.setdefault(name, []).append(value)
    return {name: pa.field(name, _type(found), metadata=SPELLED) for name, found in values.items()}


def _type(values: list[str | None]) -> pa.DataType:
    texts = [one for one in values if one is not None]
    are_integers = texts and all(map(_INTEGER.fullmatch, texts))
    return pa.int64() if are_integers and all(-(2**63) <= int(one) < 2**63 for one in texts) else pa.string()


def with_partitions(batch: pa.RecordBatch, file: InFolder) -> pa.RecordBatch:
    """The batch with the columns of its path, as texts; one that it has already must agree.

    Raises
    ------
    LoadError
        When the file says something else than its path.
    """
    for name, value in file.partitions:
        if name in batch.schema.names:
            _check(_without_refused(batch).column(name), name, value, file)
        else:
            batch = batch.append_column(name, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
    return batch


def _without_refused(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that can be loaded: one with the wrong number of fields has no other value."""
    for name in [one.name for one in batch.schema if isinstance(one.type, MixedType)]:
        batch = batch.filter(batch.column(name).storage.field("reason").is_null())
    return batch


def _check(values: pa.Array, name: str, value: str | None, file: InFolder) -> None:
    differs = _differing(values, value)
    if differs.true_count:
        found = values.filter(differs)[0].as_py()
        hint = "Correct the file or its folder, or leave the column out with columns=."
        what = f"column {name!r} of {file.name} is {found!r}, and its folder says {value!r}"
        raise LoadError(what, hint=hint, committed_rows=0)


def _differing(values: pa.Array, value: str | None) -> pa.BooleanArray:
    if isinstance(values.type, MixedType):
        found = [None if one is None else str(one) for one in mixed_objects(values)]
        return pa.array([one != value for one in found], pa.bool_())
    if isinstance(values, pa.ExtensionArray):  # strings of a JSON file
        values = values.storage
    if value is None:
        return values.is_valid()
    try:
        return pc.fill_null(pc.not_equal(values, pa.scalar(value).cast(values.type)), True)
    except pa.ArrowException:  # the column's type has no such value
        return pa.repeat(pa.scalar(True), len(values))

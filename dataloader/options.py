"""What the caller says: the shared options and the table, checked before anything else happens."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, get_args

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from dataloader.database.engine import parse_engine
from dataloader.database.schema import TableName, parse_table_name
from dataloader.display.state import View
from dataloader.errors import PlanError
from dataloader.formatting import did_you_mean
from dataloader.sources.csv_options import CsvOptions
from dataloader.sources.selection import Columns, FileFormat, Reading

if TYPE_CHECKING:
    from dataloader.database.addresses import Address
    from dataloader.database.backends import Backend

IfExists = Literal["append", "fail", "truncate", "replace"]
Method = Literal["auto", "copy", "insert"]
Commit = Literal["auto", "load", "chunk"]
OnInvalid = Literal["raise", "reject"]
Casts = Literal["exact", "lossy"]
Action = Literal["load", "update", "delete", "sync"]
OnConflict = Literal["error", "ignore", "update"]
Duplicates = Literal["error", "first", "last"]
Evolve = Literal["add", "widen"]
ProgressName = Literal["auto", "widget", "html", "text", "log", "none"]

IF_EXISTS: tuple[str, ...] = get_args(IfExists)
METHODS: tuple[str, ...] = get_args(Method)
COMMITS: tuple[str, ...] = get_args(Commit)
CASTS: tuple[str, ...] = get_args(Casts)
ON_CONFLICT: tuple[str, ...] = get_args(OnConflict)
DUPLICATES: tuple[str, ...] = get_args(Duplicates)
EVOLVE: tuple[str, ...] = get_args(Evolve)
FORMATS: tuple[str, ...] = get_args(FileFormat)
CONTINUED = (
    *("method", "chunk_rows", "workers", "on_invalid", "max_rejects", "casts", "assume_timezone", "columns", "csv"),
    *("format", "sheet", "cells", "filename", "only_new"),
    *("on_conflict", "key", "update_columns", "duplicates", "order_by", "override_identity", "sync_sequence"),
    *("primary_key", "not_null", "indexes", "evolve", "shard", "max_connections", "max_rows_per_second"),
)
"""What the ledger keeps of a call, for who continues it."""


class CommonOptions(TypedDict, total=False):
    """The keyword options of whatever writes rows, for type checkers; `LoadOptions` checks them."""

    engine: AsyncEngine | str | URL | None
    connection: AsyncConnection | AsyncSession | None
    method: Method
    chunk_rows: int | None
    on_invalid: OnInvalid
    max_rejects: int | float | None
    casts: Casts
    assume_timezone: str | None
    columns: Columns | None
    csv: CsvOptions | Mapping[str, Any] | None
    format: FileFormat | None
    sheet: str | int | None
    cells: str | None
    filename: bool | str
    duplicates: Duplicates
    order_by: str | None
    max_rows_per_second: int | None
    dry_run: bool
    progress: ProgressName


class MergeOptions(CommonOptions, total=False):
    """The keyword options of what merges rows into a table that is there."""

    evolve: Evolve | Sequence[Evolve] | None


class SyncOptions(MergeOptions, total=False):
    """The keyword options of what inserts them as well."""

    override_identity: bool
    sync_sequence: bool


class Options(SyncOptions, total=False):
    """The keyword options of every loader."""

    if_exists: IfExists
    commit: Commit
    workers: int | None
    resume: bool | None
    load_id: str | None
    only_new: bool
    shard: tuple[int, int] | None
    max_connections: int | None
    client: object
    dtype: Mapping[str, sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]] | None
    on_conflict: OnConflict
    key: str | Sequence[str] | None
    update_columns: Sequence[str] | None
    returning: str | Sequence[str] | None
    verify: bool
    primary_key: str | Sequence[str] | None
    not_null: str | Sequence[str] | None
    indexes: str | Sequence[str | Sequence[str]] | None


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The keyword options that every loader shares; see `load_dataframe` for their meaning."""

    engine: AsyncEngine | Address
    connection: AsyncConnection | AsyncSession | None = None
    if_exists: IfExists = "append"
    method: Method = "auto"
    commit: Commit = "auto"
    chunk_rows: int | None = None
    workers: int | None = None
    resume: bool | None = None
    load_id: str | None = None
    on_invalid: OnInvalid = "raise"
    max_rejects: int | float | None = None
    casts: Casts = "exact"
    assume_timezone: str | None = None
    dtype: Mapping[str, Any] | None = None
    columns: Columns | None = None
    csv: CsvOptions | None = None
    format: FileFormat | None = None
    sheet: str | int | None = None
    cells: str | None = None
    filename: bool | str | None = None
    only_new: bool = False
    shard: tuple[int, int] | None = None
    max_connections: int | None = None
    client: object = None
    on_conflict: OnConflict = "error"
    key: Sequence[str] | None = None
    update_columns: Sequence[str] | None = None
    duplicates: Duplicates = "error"
    order_by: str | None = None
    dry_run: bool = False
    returning: Sequence[str] | None = None
    verify: bool = False
    override_identity: bool = False
    sync_sequence: bool = False
    primary_key: Sequence[str] | None = None
    not_null: Sequence[str] | None = None
    indexes: Sequence[Sequence[str]] | None = None
    evolve: Sequence[str] = ()
    max_rows_per_second: int | None = None
    progress: str | View = "auto"
    action: Action = "load"
    within: str | Mapping[str, Any] | None = None
    max_deletes: float = 1.0

    @property
    def is_named(self) -> bool:
        """Whether the caller counts on the ledger."""
        return self.load_id is not None or self.resume is True

    @property
    def may_be_whole(self) -> bool:
        """Whether the ledger can know the load though it is one transaction."""
        return self.load_id is not None and self.shard is None and self.if_exists in {"append", "fail"}

    @property
    def reading(self) -> Reading:
        """What of the source is read, and how."""
        return Reading(**{one.name: getattr(self, one.name) for one in fields(Reading)})

    def check_loader(self, loader: str) -> None:
        """Refuse options of files, and of clusters, for what is none: a PlanError names the option."""
        for name in ("format", "sheet", "cells", "filename", "only_new"):
            if loader != "load_files" and getattr(self, name) not in {None, False}:
                raise PlanError(f"{name}= is for files, which load_files loads", hint=f"Leave {name}= out.")
        if self.client is not None:
            hint = "Leave client= out."
            raise PlanError("client= is for Dask DataFrames, and for files that load_files loads", hint=hint)

    @property
    def call(self) -> dict[str, Any]:
        """The options that a later call needs to continue this one, as JSON can hold them."""
        chosen = {name: getattr(self, name) for name in CONTINUED}
        chosen["csv"] = None if self.csv is None else self.csv.given
        return {name: value for name, value in chosen.items() if value is not None and value != ()}

    @classmethod
    def of(cls, options: Options | dict[str, Any]) -> LoadOptions:
        """Check names and values. The engine's URL is taken out of `options`: a traceback must not show a password.

        Raises
        ------
        PlanError
            Naming the option, the value and what is allowed.
        """
        given = cast(dict[str, Any], options)
        check_connection(given)
        engine = parse_engine(given.pop("engine", None))
        names = [one.name for one in fields(cls) if one.name not in OF_A_FUNCTION]
        for name in given:
            if name not in names:
                raise PlanError(f"there is no option {name!r}", hint=did_you_mean(name, names))
        chosen = cls(engine, **given)
        for name, allowed in _CHOICES.items():
            if (value := getattr(chosen, name)) not in allowed:
                raise PlanError(f"{name}={value!r} is unknown", hint=did_you_mean(value, allowed))
        for name in ("chunk_rows", "workers", "max_connections", "max_rows_per_second"):
            if (value := getattr(chosen, name)) is not None and not (_is_whole(value) and value >= 1):
                raise PlanError(f"{name} must be a count, got {value!r}", hint="Pass an integer from 1 up.")
        chosen = replace(chosen, **_named_columns(chosen), evolve=_evolutions(chosen.evolve))
        if chosen.csv is not None:
            chosen = replace(chosen, csv=CsvOptions.of(chosen.csv))
        chosen = _with_filename(chosen)
        _check_columns(chosen.columns)
        _check_conflict(chosen)
        _check_resume(chosen)
        chosen = _with_shard(chosen)
        _check_rejects(chosen)
        _check_zone(chosen.assume_timezone)
        check_progress(chosen.progress)
        return chosen


OF_A_FUNCTION = ("action", "within", "max_deletes")
"""What the function that is called decides, and no option."""
_CHOICES = {
    "if_exists": IF_EXISTS,
    "method": METHODS,
    "commit": COMMITS,
    "resume": (None, True, False),
    "on_invalid": get_args(OnInvalid),
    "casts": CASTS,
    "on_conflict": ON_CONFLICT,
    "duplicates": DUPLICATES,
    **dict.fromkeys(("dry_run", "verify", "only_new", "override_identity", "sync_sequence"), (False, True)),
    "format": (None, *FORMATS),
}


def check_connection(given: Mapping[str, Any]) -> None:
    """The connection of the caller, which stands in for an engine.

    Raises
    ------
    PlanError
        When it is none, or there is an engine as well.
    """
    connection = given.get("connection")
    if connection is None:
        return
    if not isinstance(connection, (AsyncConnection, AsyncSession)):
        what = f"connection= must be an AsyncConnection or an AsyncSession, got {type(connection).__name__}"
        raise PlanError(what, hint="Pass the one of `async with engine.begin() as connection`.")
    if given.get("engine") is not None:
        raise PlanError("both engine= and connection= are given", hint="Leave engine= out: the connection has one.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _named_columns(chosen: LoadOptions) -> dict[str, Any]:
    """The options that name columns, each as a tuple."""
    asked = {name: getattr(chosen, name) for name in _OF_NAMES}
    named: dict[str, Any] = {name: _names(name, value) for name, value in asked.items() if value is not None}
    if chosen.indexes is not None:
        each = [chosen.indexes] if isinstance(chosen.indexes, str) else chosen.indexes
        named["indexes"] = tuple(_names("indexes", one) for one in each)
    return named


def _evolutions(given: object) -> tuple[str, ...]:
    """What may be done to a table that is there."""
    chosen = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(chosen, (list, tuple)):
        raise PlanError(f"evolve={given!r} is unknown", hint="Pass 'add', 'widen', or both: ('add', 'widen').")
    for one in chosen:
        if one not in EVOLVE:
            raise PlanError(f"evolve={one!r} is unknown", hint=did_you_mean(one, EVOLVE))
    return tuple(dict.fromkeys(chosen))


def _names(option: str, given: object) -> tuple[str, ...]:
    """The columns that an option names, of which one may stand alone.

    Raises
    ------
    PlanError
        When it is not a name or a list of different ones.
    """
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise PlanError(f"{option} must name columns, got {given!r}", hint="Pass a name, or a list of different names.")
    return names


_OF_NAMES = ("key", "update_columns", "returning", "primary_key", "not_null")
_OF_A_KEY = ("key", "update_columns", "duplicates", "order_by")


def _check_conflict(options: LoadOptions) -> None:
    if options.on_conflict == "error":
        given = [name for name in _OF_A_KEY if getattr(options, name) not in {None, "error"}]
        if given:
            hint = "Pass on_conflict='update' or 'ignore' as well."
            raise PlanError(f"{given[0]}= requires on_conflict=", hint=hint)
    if options.update_columns is not None and options.on_conflict != "update":
        raise PlanError("update_columns= requires on_conflict='update'", hint="Leave it out: nothing is updated.")
    if options.order_by is not None and not (isinstance(options.order_by, str) and options.order_by):
        raise PlanError(f"order_by must name a column, got {options.order_by!r}", hint="Pass a name.")
    if options.order_by is not None and options.duplicates != "error":
        what = f"duplicates={options.duplicates!r} and order_by= both say which of the rows with one key counts"
        raise PlanError(what, hint="Pass one of them.")


def _with_filename(options: LoadOptions) -> LoadOptions:
    """The options with the name of the column that filename= asks for, which is selected without being named."""
    given = options.filename
    name = "filename" if given is True else given or None
    if given is not None and not (isinstance(given, bool) or (isinstance(given, str) and given)):
        raise PlanError(f"filename must be True or a name, got {given!r}", hint="Pass True, or the name of the column.")
    columns: Any = options.columns
    if name and isinstance(columns, (list, tuple, dict)) and name not in columns:
        columns = {**columns, name: name} if isinstance(columns, dict) else [*columns, name]
    return replace(options, filename=name, columns=columns)


def _check_columns(columns: object) -> None:
    if columns is None:
        return
    if isinstance(columns, (str, bytes)) or not isinstance(columns, (Sequence, Mapping)) or not columns:
        hint = "Pass a list of column names, or a dict from names of the source to names of the table."
        raise PlanError(f"columns={columns!r} is not a list of names", hint=hint)
    names = list(columns.values()) if isinstance(columns, Mapping) else list(columns)
    if isinstance(columns, Mapping) and not all(isinstance(name, str) for name in names):
        hint = "Pass a dict from names of the source to names of the table."
        raise PlanError("columns= must give every column a name", hint=hint)
    if twice := [str(name) for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise PlanError(f"columns= names {', '.join(twice)} twice", hint="Name every column of the table once.")


def _check_resume(options: LoadOptions) -> None:
    if options.only_new and options.if_exists in {"truncate", "replace"}:
        what = f"if_exists={options.if_exists!r} takes away the rows of the files that only_new= passes over"
        raise PlanError(what, hint="Leave one of them out.")
    name = options.load_id
    if name is not None and not (isinstance(name, str) and name.strip() and "\x00" not in name):
        raise PlanError(f"load_id must be a name, got {name!r}", hint="Pass a string, like 'orders of May'.")
    if options.commit == "load" and options.is_named and not options.may_be_whole:
        what = "commit='load' keeps no checkpoints, which load_id= and resume=True need here"
        raise PlanError(what, hint="Leave commit= out, or pass commit='chunk'.")


def _with_shard(options: LoadOptions) -> LoadOptions:
    """The options with a shard that is resumed whenever it is run: who retries it knows nothing of earlier runs."""
    if options.shard is None:
        if options.max_connections is not None:
            raise PlanError("max_connections= is for shards", hint="Pass shard= as well, or workers= instead.")
        return options
    number, count = _numbers(options.shard)
    if options.load_id is None:
        raise PlanError("a shard requires load_id=", hint="Give all shards of a load the same, like 'orders of May'.")
    refused = {
        "connection=": options.connection is not None,
        "resume=False": options.resume is False,
        "only_new=True": options.only_new,
        "if_exists='replace'": options.if_exists == "replace",
        "dry_run=True": options.dry_run,
    }
    for given, is_given in refused.items():
        if is_given:
            what = f"shard= and {given} exclude each other: shards, as a cluster's partitions, are resumed"
            raise PlanError(what, hint="Leave one of them out.")
    return replace(options, shard=(number, count), resume=True)


def _numbers(shard: object) -> tuple[int, int]:
    if (
        isinstance(shard, (tuple, list))
        and len(shard) == 2
        and all(map(_is_whole, shard))
        and 1 <= shard[0] <= shard[1]
    ):
        return shard[0], shard[1]
    hint = "Pass the number of the shard, from 1 on, and how many there are: shard=(1, 16) to shard=(16, 16)."
    raise PlanError(f"there is no shard {shard!r}", hint=hint)


def _check_rejects(options: LoadOptions) -> None:
    limit = options.max_rejects
    if limit is None:
        return
    if not ((_is_whole(limit) and limit >= 0) or (isinstance(limit, float) and 0 < limit < 1)):
        hint = "Pass a count, like 100, or a share of the rows, like 0.01."
        raise PlanError(f"max_rejects must be a count or a share between 0 and 1, got {limit!r}", hint=hint)
    if options.on_invalid != "reject":
        hint = "Pass on_invalid='reject' as well, or leave max_rejects= out."
        raise PlanError("max_rejects requires on_invalid='reject'", hint=hint)


def _check_zone(zone: object) -> None:
    if zone is None:
        return
    try:
        zoneinfo.ZoneInfo(zone)  # type: ignore[arg-type]  # checked here
    except (ValueError, TypeError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        hint = "Pass a name of the time zone database, like 'UTC' or 'Europe/Berlin'."
        raise PlanError(f"assume_timezone={zone!r} is not a time zone", hint=hint) from error


def check_progress(progress: object) -> None:
    """A name, or the view of a load in the background."""
    known = get_args(ProgressName)
    if progress not in known and not isinstance(progress, View):
        raise PlanError(f"progress={progress!r} is unknown", hint=did_you_mean(progress, known))


@dataclass(frozen=True, slots=True)
class Target:
    """The table that the caller named, its definition if it came as a SQLAlchemy Table, and the engine's schemas.

    Attributes
    ----------
    schemas : mapping
        The engine's schema_translate_map: which schema a name means.
    """

    name: TableName
    definition: sa.Table | None = None
    schemas: Mapping[str | None, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, table: str | sa.Table, backend: Backend) -> Target:
        definition = table if isinstance(table, sa.Table) else None
        name = parse_table_name(table) if definition is None else TableName(definition.schema, definition.name)
        backend.check_name(name.name, "table name")
        if name.schema is not None:
            backend.check_name(name.schema, "schema name")
        return cls(name, definition)

    def within(self, schemas: Mapping[str | None, str | None]) -> Target:
        """The table that the name means to an engine that translates schemas."""
        name = TableName(schemas.get(self.name.schema, self.name.schema), self.name.name)
        return replace(self, name=name, schemas=schemas)

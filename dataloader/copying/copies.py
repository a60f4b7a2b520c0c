"""The one way: find out what is copied and where to, decide how, and do it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dataloader.copying import pipe, rows
from dataloader.copying.definition import with_definition
from dataloader.copying.survey import Destination, Original, find_destination, find_original
from dataloader.database import engine as engines
from dataloader.errors import PlanError
from dataloader.reading.query import table_text
from dataloader.sources.selection import renaming

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.options import LoadOptions
    from dataloader.reading.query import Params
    from dataloader.report import LoadReport


async def copy(
    query: object, to: str | sa.Table, params: Params | None, source: object, options: LoadOptions
) -> LoadReport:
    """Copy a table or a query's rows; see `copy_table`."""
    if options.shard is not None:
        hint = "Leave shard= out: one copy reads all rows. Load parts with load_batches(read_batches(...), shard=...)."
        raise PlanError("a copy is not divided into shards", hint=hint)
    engine, borrowed = await engines.reach(options.engine, options.connection)
    columns = None if options.columns is None else list(map(str, renaming(options.columns)))
    original = await find_original(engines.resolve(source), query, params, columns)
    destination = await find_destination(engine, to, borrowed)
    _check_not_itself(original, destination)
    original, options = _without_computed(original, destination, options)
    original, options = _committed(original, options)
    spools = _spools(original, destination, options)
    is_piped = not spools and pipe.obstacle(original, destination, to, options) is None
    options = with_definition(options, original, destination)
    if is_piped:
        return await pipe.copy(original, to, options)
    return await rows.copy(original, to, options, spools=spools)


def _check_not_itself(original: Original, destination: Destination) -> None:
    if original.table is None or destination.found is None or original.place is None:
        return
    if (original.place, original.table.name) == (destination.place, destination.found.name):
        what = f"{original.label} would be copied onto itself"
        raise PlanError(what, hint="Choose another table, or another engine= or source=.", committed_rows=0)


def _without_computed(
    original: Original, destination: Destination, options: LoadOptions
) -> tuple[Original, LoadOptions]:
    """A table without the columns that the destination computes itself, where the caller has not chosen any."""
    found = destination.found
    if original.table is None or found is None or options.columns is not None or options.if_exists == "replace":
        return original, options
    computed = {found.key(one.name) for one in found.columns if one.generated}
    names = [one.name for one in original.table.columns]
    kept = [name for name in names if found.key(name) not in computed]
    if len(kept) in {0, len(names)}:
        return original, options
    left = ", ".join(repr(name) for name in names if name not in kept)
    text = table_text(original.table.name, original.backend, kept)
    columns = None if original.columns is None else tuple(one for one in original.columns if one.name in kept)
    statement = replace(original.statement, text=text)
    facts = (("left out", f"{left}, which {found.name} computes itself"),)
    return replace(original, statement=statement, columns=columns, facts=facts), options


def _committed(original: Original, options: LoadOptions) -> tuple[Original, LoadOptions]:
    """All in one transaction, unless chunks are asked for: they are the same again only in the order of a key."""
    if options.is_named or options.commit == "chunk":
        return original.in_order(), options
    return original, replace(options, commit="load")


def _spools(original: Original, destination: Destination, options: LoadOptions) -> bool:
    """Whether all is read before anything is written, as one would wait for the other."""
    if original.engine is destination.engine and engines.connections_of(original.engine) < 2:
        return True
    if original.place is None or original.place != destination.place:
        return False
    return destination.backend.one_writer is not None or _locks_what_is_read(original, destination, options)


def _locks_what_is_read(original: Original, destination: Destination, options: LoadOptions) -> bool:
    """Whether the table is locked against everybody, and the query, as far as is known, reads it as well."""
    locks = options.if_exists in {"truncate", "replace"} or bool(options.evolve)
    if destination.found is None or not locks:
        return False
    return original.reads is None or destination.found.name in original.reads

"""Planning: the target is read from its catalog, and the plan is made. Nothing is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tenacity

from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.database.session import Session
from dataloader.errors import PlanError
from dataloader.ledger import entries, files, lookup, refusals, trust
from dataloader.ledger.beside import known_as, table_beside
from dataloader.loading.verification import check_verifiable
from dataloader.loading.widening import needed_types
from dataloader.options import LoadOptions, Target
from dataloader.plan import LoadPlan, make_plan
from dataloader.sources.known import KnownFiles
from dataloader.transactions import Database, SourceInfo

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.backends import Backend
    from dataloader.database.schema import TableName, TableSchema
    from dataloader.sources.base import Source

START_SECONDS = 10.0
"""How long a server that is starting is waited for."""


async def plan(source: Source, table: str | sa.Table, options: LoadOptions) -> LoadPlan:
    """Decide a load."""
    engine, borrowed = await engines.reach(options.engine, options.connection)
    return await decide(engine, source, table, options, borrowed)


async def known_files(table: str | sa.Table, options: LoadOptions) -> KnownFiles | None:
    """The files that the table's ledger knows as loaded; None where `only_new` is not asked for."""
    if not options.only_new:
        return None
    engine, borrowed = await engines.reach(options.engine, options.connection)
    schemas = engine.get_execution_options().get("schema_translate_map")
    target = Target.of(table, backend_for(engine.dialect)).within(schemas or {})

    async def read(session: Session) -> KnownFiles:
        async with session.reading() as connection:
            found = await session.backend.describe(connection, target.name)
            if found is None:
                return KnownFiles({})
            return await files.read_known(connection, found, session.backend, options)

    return await Session(engine, target.name, reads_only=True, borrowed=borrowed).run(read)


def _is_starting(error: BaseException) -> bool:
    """PostgreSQL's cannot_connect_now: it accepts connections and is not ready for them yet."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == "57P03"


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_starting),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
    stop=tenacity.stop_after_delay(START_SECONDS),
    reraise=True,
)
async def decide(
    engine: AsyncEngine,
    source: Source,
    table: str | sa.Table,
    options: LoadOptions,
    borrowed: AsyncConnection | None = None,
) -> LoadPlan:
    """Make the plan, waiting for a server that is just starting: nothing is written, so it may be tried again."""
    schemas = engine.get_execution_options().get("schema_translate_map")
    target = Target.of(table, backend_for(engine.dialect)).within(schemas or {})
    session = Session(engine, target.name, reads_only=True, borrowed=borrowed)
    return await session.run(lambda session: _decide(session, engine, source, target, options))


async def _decide(
    session: Session, engine: AsyncEngine, source: Source, target: Target, options: LoadOptions
) -> LoadPlan:
    unfinished, known = tuple[Any, ...](), None
    async with session.reading() as connection:
        found = await session.backend.describe(connection, target.name)
        notes = session.backend.notes(connection)
        if found is None:
            target = replace(target, name=await session.backend.qualify(connection, target.name))
        if found is not None and options.if_exists == "replace":
            found = await _replaced(session, found)
        name = target.name if found is None else found.name
        needed = entries.needed(keeps_rejects=options.on_invalid == "reject")
        refused = await trust.refusal(connection, entries.EVERY_TABLE, needed, name)
        if found is not None and refused is None:
            options, found, known = await _continuing(connection, source, found, options)
            found = await _replaced(session, found) if options.if_exists == "replace" else found
            unfinished = await _unfinished(connection, found.name, options)
        if found is not None and (options.on_conflict != "error" or options.returning is not None):
            found = replace(found, merge_target=await session.backend.merge_target(connection, found))
        if found is not None and "widen" in options.evolve:
            found = replace(found, fixed=await session.backend.fixed_columns(connection, found.name))
    needs = await needed_types(source, found, options) if found is not None and _widens(options) else {}
    counted = (source.rows, source.in_memory, source.about)
    info = SourceInfo(source.name, source.schema, *counted, needs, source.is_live)
    reached = (engines.describe_url(engine), refused, engines.connections_of(engine), known is not None)
    made = make_plan(info, target, found, options, Database(session.backend, *reached))
    _check(made, session.backend, options)
    return replace(made, notes=notes, source_facts=source.facts, unfinished=unfinished)


def _check(made: LoadPlan, backend: Backend, options: LoadOptions) -> None:
    """Refuse what the database could not take back, or prove."""
    if not backend.creates_in_transaction and (made.creates_table or made.alteration is not None):
        _check_rolled_back(made, backend, options)
    if options.verify:
        check_verifiable(made, backend, options)


def _check_rolled_back(made: LoadPlan, backend: Backend, options: LoadOptions) -> None:
    """Refuse DDL that must be rolled back, where it may be committed at once, with all that was done before.

    Raises
    ------
    PlanError
        Saying what would stay or be lost, and a way out.
    """
    name, doing = made.table.name, "CREATE TABLE" if made.creates_table else "ALTER TABLE"
    database = backend.title or backend.name
    first = "Create the table first" if made.creates_table else "Add the columns first"
    if made.creates_table and made.exists:
        what = f"{name} cannot be replaced: {database} may commit DROP TABLE at once, and a failed load lose its rows"
        hint = "Choose if_exists='truncate', which deletes its rows in the load's own transaction, or drop it yourself."
        raise PlanError(what, hint=hint)
    if options.dry_run:
        what = f"the load into {name} cannot be a dry run: {database} may commit {doing} at once, and that would stay"
        raise PlanError(what, hint=f"{first}, or use plan_load() and validate(), which write nothing.")
    if options.connection is not None:
        what = f"{doing} {name} cannot be part of the caller's transaction: {database} may commit both at once"
        raise PlanError(what, hint=f"{first}, or leave connection= out.")


async def _unfinished(connection: AsyncConnection, name: TableName, options: LoadOptions) -> tuple[Any, ...]:
    """The unfinished loads that one transaction could load anew: whoever asks for checkpoints meets them anyhow."""
    asks = options.commit == "chunk" or options.is_named or options.resume is False
    if asks or options.if_exists != "append" or options.action != "load" or options.on_conflict != "error":
        return ()
    if backend_for(connection.dialect).ledger_obstacle:
        return ()
    return await lookup.loads_into(connection, name)


async def _replaced(session: Session, found: TableSchema) -> TableSchema:
    """A table with what is to be known of it before its rows are replaced."""
    if found.replaceable.keeps:
        return found
    losses = await session.backend.losses(session.connection, found.name)
    is_table = found.kind in {"table", "partitioned table"}
    known = await session.backend.replaceable(session.connection, found) if is_table else found.replaceable
    return replace(found, losses=losses, replaceable=replace(known, load=found.replaceable.load))


def _widens(options: LoadOptions) -> bool:
    return "widen" in options.evolve and options.if_exists != "replace"


async def _known_load(connection: AsyncConnection, source: Source, table: TableSchema, options: LoadOptions) -> Any:
    """The ledger's row of the load that may be continued, None if there is none."""
    is_new = options.load_id is None and options.if_exists == "append" and not options.resume
    if options.resume is False or is_new or backend_for(connection.dialect).ledger_obstacle:
        return None
    found = await lookup.find_load(connection, source.name, table.name, options.load_id)
    if found is not None and options.load_id is not None and options.commit == "load":
        refusals.refuse_as_a_whole(found)
    return found


async def _continuing(
    connection: AsyncConnection, source: Source, table: TableSchema, options: LoadOptions
) -> tuple[LoadOptions, TableSchema, Any]:
    """The options and the table of a load that may be known, and the ledger's row of one that has that name."""
    found = await _known_load(connection, source, table, options)
    return *_resumed(source, table, options, found), None if options.load_id is None else found


def _resumed(source: Source, table: TableSchema, options: LoadOptions, found: Any) -> tuple[LoadOptions, TableSchema]:
    """The options with which a load is resumed: what its first run did to the table, by if_exists=, is not done again.

    One that fills a table beside is to take the target's place, whatever if_exists= says now; the target says which.

    Raises
    ------
    CheckpointError
        When the table is there because an unfinished load made it, and nobody asks to continue that.
    """
    if found is None or (options.if_exists == "append" and not options.resume):
        return options, table
    if options.resume:
        table = replace(table, made=entries.made_by(found))
        if options.if_exists == "append" and options.load_id is None:
            return options, table
        known = table.replaceable
        if table_beside(found, table.name) is not None:
            return replace(options, if_exists="replace"), replace(
                table, replaceable=replace(known, load=known_as(found))
            )
        is_beside = known.keeps and not known.beside_refused and found.state == "finished"
        again = options.if_exists == "replace" and is_beside
        return replace(options, if_exists="replace" if again else "append"), table
    if options.if_exists == "fail" and (found.state == "unfinished" or options.load_id is not None):
        raise refusals.not_asked_to_resume(found, source.rows)
    return options, table

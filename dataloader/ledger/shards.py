"""Shards: parts of one load, each carried out by a process of its own, wherever that runs.

The load has a row in the ledger beside those of its shards: it says what all of them have in common, and is finished
when all of them are. A shard is a load like any other, with an owner and chunks of its own; so shards do not wait for
each other, and one that is retried, moved or run twice is stored once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.errors import CheckpointError
from dataloader.formatting import quantity
from dataloader.ledger.entries import MADE, TOTALS, is_running, ledger_tables, select_loads
from dataloader.ledger.owners import Owner, shown_owner

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.schema import Fingerprint
    from dataloader.options import LoadOptions
    from dataloader.plan import LoadPlan


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a load: the load's name, which part it is, counted from 1, and of how many."""

    whole: str
    number: int
    count: int

    @classmethod
    def of(cls, options: LoadOptions) -> Shard:
        """The shard that the options ask for."""
        assert options.shard is not None
        return cls(str(options.load_id), *options.shard)

    @property
    def load_id(self) -> str:
        """Its name in the ledger."""
        return f"{self.whole} [{self.number}/{self.count}]"

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count} of {self.whole!r}"


_OF_ONE = {"shard", "max_connections", "workers", "options", MADE}
"""What may differ from shard to shard; of connections, the first shard says how many there are for all."""


def in_shards(options: str | None) -> dict[str, Any] | None:
    """What the shards of a load have in common; None if it is not loaded in shards."""
    try:
        said = json.loads(options or "null")
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("shards"), int) else None


def refuse_whole(found: Any) -> None:
    """Refuse to load as one what is loaded in shards.

    Raises
    ------
    CheckpointError
        Naming the option.
    """
    said = in_shards(found.options)
    if said is not None:
        what = f"the load {found.load_id!r} into {found.target} is loaded in {quantity(said['shards'], 'shard')}"
        raise CheckpointError(what, hint=f"Pass shard=(1, {said['shards']}), or another load_id.", committed_rows=0)


@dataclass(frozen=True, slots=True)
class WholeState:
    """How many rows the shards of a load have stored, and whether all of them are finished."""

    rows: int
    is_finished: bool


class ShardedLoad:
    """The load that a shard is a part of, in the ledger beside the plan's table.

    Every method runs in the caller's transaction; `find`, `enter` and `obstacle` in one that nobody else of the
    ledger's users can be in at the same time.
    """

    def __init__(self, plan: LoadPlan, shard: Shard, options: LoadOptions, backend: Backend) -> None:
        self._plan = plan
        self._shard = shard
        self._options = options
        self._backend = backend
        self._loads = ledger_tables(plan.table.name.schema)[0]
        self._parts = sa.and_(self._loads.c.source_digest == shard.whole, self._loads.c.load_id != shard.whole)

    async def find(self, connection: AsyncConnection) -> Any:
        """The load's row, None if this is the first shard to arrive.

        Raises
        ------
        CheckpointError
            When it was begun with other options, other columns, or another number of shards.
        """
        query = select_loads(self._loads).where(self._loads.c.load_id == self._shard.whole)
        found = (await connection.execute(query)).one_or_none()
        if found is not None:
            self._check(found)
        return found

    def _check(self, found: Any) -> None:
        said = in_shards(found.options)
        if said is None:
            hint = "Give the load in shards a load_id of its own."
            what = f"the load {found.load_id!r} into {found.target} is not loaded in shards"
            raise CheckpointError(what, hint=hint, committed_rows=0)
        begun = {**said, **said.get("options", {})}
        asked = {**self._common, **self._common["options"]}
        for name in ("target", "shards", *sorted({*begun, *asked} - _OF_ONE)):
            if begun.get(name) != asked.get(name):
                what = (
                    f"the load {found.load_id!r} was begun with {name}={_shown(begun.get(name))}, "
                    f"and {self._shard} has {name}={_shown(asked.get(name))}"
                )
                hint = "Give every shard the same, or forget the load and begin again."
                raise CheckpointError(what, hint=hint, committed_rows=0)

    @property
    def _common(self) -> dict[str, Any]:
        """What the shards have in common."""
        shared = {name: value for name, value in self._options.call.items() if name not in _OF_ONE}
        common = {
            "shards": self._shard.count,
            "target": self._plan.table.name.spelled,
            "columns": sorted(column.name for column in self._plan.columns),
            "chunk_rows": self._plan.chunk_rows,
            "options": shared,
        }
        return dict(json.loads(json.dumps(common)))  # as it is read back: a tuple is a list then

    async def enter(self, connection: AsyncConnection, fingerprint: Fingerprint) -> None:
        """Enter the load, which this shard is the first of, after the plan's DDL."""
        most = self._options.max_connections or await self._backend.half_of_connections(connection)
        made = [one.name for one in self._plan.columns if one.is_created]
        entry = {
            "load_id": self._shard.whole,
            "target": self._plan.table.name.spelled,
            "source": quantity(self._shard.count, "shard"),
            "source_digest": self._shard.whole,
            "chunk_rows": self._plan.chunk_rows,
            "fingerprint": json.dumps(asdict(fingerprint)),
            "options": json.dumps({**self._common, MADE: made, "max_connections": most}),
            "owner": None,
            "state": "unfinished",
            **dict.fromkeys(TOTALS, 0),
            "started_at": self._backend.now,
            "last_commit_at": self._backend.now,
        }
        await connection.execute(sa.insert(self._loads).values(entry))

    async def obstacle(self, connection: AsyncConnection, owner: Owner, paths: Sequence[str]) -> str | None:
        """What the shard has to wait for, in words: its twin, or a connection; None if it can begin.

        Raises
        ------
        CheckpointError
            When another shard was given the same files.
        """
        query = select_loads(self._loads).where(self._parts, self._loads.c.load_id != self._shard.whole)
        rows = (await connection.execute(query)).all()
        for row in rows:
            if paths and row.load_id != self._shard.load_id and _paths(row) == list(paths):
                what = f"{self._shard} is given the files that {row.load_id!r} has: {', '.join(paths)}"
                raise CheckpointError(what, hint="Give every shard its own part.", committed_rows=0)
        running = [row for row in rows if row.owner != str(owner) and is_running(row)]
        twin = next((row for row in running if row.load_id == self._shard.load_id), None)
        if twin is not None:
            return f"for {shown_owner(twin.owner)}, which loads this shard"
        whole = (await connection.execute(sa.select(self._loads.c.options).where(self._is_whole))).scalar_one()
        most = (in_shards(whole) or {}).get("max_connections")
        if isinstance(most, int) and len(running) >= max(1, (most - 1) // self._plan.workers):  # one is for who asks
            return f"for one of {quantity(most, 'connection')}: {quantity(len(running), 'shard')} are being loaded"
        return None

    async def state(self, connection: AsyncConnection) -> WholeState:
        """How far its shards are by now."""
        sums = sa.select(sa.func.coalesce(sa.func.sum(self._loads.c.loaded), 0)).where(self._parts)
        rows = (await connection.execute(sums)).scalar_one()
        found = (await connection.execute(sa.select(self._loads.c.state).where(self._is_whole))).scalar_one_or_none()
        return WholeState(int(rows), found == "finished")

    @property
    def _is_whole(self) -> sa.ColumnElement[bool]:
        return self._loads.c.load_id == self._shard.whole

    async def finish(self, connection: AsyncConnection) -> int:
        """Enter what the finished shards come to, and whether they are all; how many they are.

        Raises
        ------
        CheckpointError
            When the load was forgotten meanwhile.
        """
        found = (await connection.execute(sa.select(self._loads).where(self._is_whole).with_for_update())).one_or_none()
        if found is None:
            what = f"the load {self._shard.whole!r} was forgotten while {self._shard} was loaded"
            raise CheckpointError(what, hint="The last chunk may be missing. Begin again, once the table is empty.")
        sums = [sa.func.coalesce(sa.func.sum(self._loads.c[name]), 0) for name in TOTALS]
        query = sa.select(sa.func.count(), *sums).where(self._parts, self._loads.c.state == "finished")
        count, *totals = (await connection.execute(query)).one()
        new: dict[str, Any] = dict(zip(TOTALS, map(int, totals), strict=True))
        new["state"] = "finished" if count == self._shard.count else "unfinished"
        changed = sa.update(self._loads).where(self._is_whole).values(**new, last_commit_at=self._backend.now)
        await connection.execute(changed)
        return int(count)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else repr(value)


def _paths(row: Any) -> object:
    try:
        return json.loads(row.options).get("paths")
    except (ValueError, AttributeError):
        return None

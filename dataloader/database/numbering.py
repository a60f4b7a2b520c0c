"""Numbers that the database gives: what is said, and done, where rows bring their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dataloader.errors import SchemaMismatch

if TYPE_CHECKING:
    from dataloader.database.merging import MergePlan
    from dataloader.database.schema import TableSchema


class Asked(Protocol):
    """What the caller says of such numbers: the options of a load with these names."""

    @property
    def override_identity(self) -> bool: ...
    @property
    def sync_sequence(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Numbered:
    """What is decided of the columns in which rows bring their own numbers.

    Attributes
    ----------
    sequences : tuple of str
        Those whose sequence is set past their largest number.
    overrides : bool
        Whether the database is told to take them.
    """

    sequences: tuple[str, ...] = ()
    overrides: bool = False
    warnings: tuple[str, ...] = ()


NOTHING = Numbered()


def numbered(table: TableSchema, loaded: Sequence[str], asked: Asked, merge: MergePlan | None) -> Numbered:
    """Decide what becomes of numbers that the rows bring.

    Raises
    ------
    SchemaMismatch
        When the database takes only its own, and nobody said otherwise.
    """
    if merge is not None and merge.merge.action != "insert":
        _check_updated(table, merge)
        return NOTHING
    brought = {table.key(name) for name in loaded}
    counted = [column for column in table.columns if column.counted and table.key(column.name) in brought]
    always = [column.name for column in counted if column.always]
    if always and not asked.override_identity:
        what = f"{table.name} numbers its rows itself in {_names(always)}, and the source brings numbers of its own"
        hint = "Leave the column out (columns=), or pass override_identity=True to store the source's numbers."
        raise SchemaMismatch(what, hint=hint)
    if merge is not None:
        _check_updated(table, merge)
    names = tuple(column.name for column in counted)
    if asked.sync_sequence:
        return Numbered(names, bool(always))
    warning = f"the sequence of {_names(names)} does not count the numbers that the rows bring, and may give them again"
    return Numbered((), bool(always), (f"{warning}: sync_sequence=True sets it past them",) if names else ())


def _check_updated(table: TableSchema, merge: MergePlan) -> None:
    always = [column.name for column in table.columns if column.always and column.name in merge.merge.updated]
    if always:
        what = f"{_names(always)} of {table.name} is numbered by the database, which lets nobody update it"
        raise SchemaMismatch(what, hint="Leave it out of update_columns=, or make it the key.")


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))

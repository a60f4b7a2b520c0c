"""The seam of names: what a database takes as one, and how many columns a table of its has."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dataloader.database.schema import folded
from dataloader.errors import PlanError, SchemaMismatch

if TYPE_CHECKING:
    from dataloader.database.schema import TableSchema


class Naming:
    """What a backend checks before it is given names."""

    title: ClassVar[str | None] = None
    """What people call the database; None: as its URL does."""
    name_bytes: ClassVar[int | None] = None
    """How long a name can be, where a longer one would be cut."""
    most_columns: ClassVar[int | None] = None
    """How many columns a table can have, where that is known."""
    folds_case: ClassVar[bool] = False
    """Whether names that differ by the case of A to Z only are one."""

    def check_name(self, name: str, what: str) -> None:
        """Refuse a name that the database would cut or choke on.

        Raises
        ------
        PlanError
            When the name is empty, contains NUL, or is too long.
        """
        if not name:
            raise PlanError(f"the {what} is empty", hint="Give it a name.")
        self.check_text(name, f"the {what} {name!r}", hint="Remove it from the name.")
        size = len(name.encode())
        if self.name_bytes is not None and size > self.name_bytes:
            hint = f"{self.title} would cut it silently: shorten it to {self.name_bytes} bytes."
            raise PlanError(f"the {what} {name!r} has {size} bytes", hint=hint)

    def check_text(self, text: str, what: str, *, hint: str) -> None:
        """Refuse a part of a statement that no driver can send: asyncpg loses its connection by a NUL.

        Raises
        ------
        PlanError
            When it contains NUL, or half of a character.
        """
        if "\0" in text:
            raise PlanError(f"{what} contains a NUL character", hint=hint)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = f"half of a character, {text[error.start]!r}"
            raise PlanError(f"{what} contains {found}", hint=hint) from error

    def check_width(self, source: str, columns: int, found: TableSchema | None) -> None:
        """Refuse more columns than a table can have.

        Raises
        ------
        PlanError
            With both numbers.
        """
        most = max(self.most_columns or columns, 0 if found is None else len(found.columns))
        if columns > most:
            hint = "Load some of the columns, each part into a table of its own, or make one JSON column of many."
            raise PlanError(f"{source} has {columns:,} columns, and a table can have {most:,}", hint=hint)

    def check_case(self, names: list[str]) -> None:
        """Refuse names that the database takes for one.

        Raises
        ------
        SchemaMismatch
            When two of them differ by the case of A to Z only.
        """
        if not self.folds_case:
            return
        first = {folded(name): name for name in reversed(names)}
        for name in names:
            if first[folded(name)] != name:
                same = f"{first[folded(name)]!r} and {name!r}"
                what = f"the columns {same} have the same name on {self.title}, which ignores the case"
                raise SchemaMismatch(what, hint="Rename or drop columns of the source.", committed_rows=0)

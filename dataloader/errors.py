"""Everything that dataloader raises.

    DataLoaderError
    ├── PlanError (ValueError)        the load cannot be planned; nothing was written
    │   ├── SchemaMismatch            source and table do not have the same columns
    │   ├── UnsupportedType           a column has a type that the database cannot hold
    │   └── UnsafeCast                storing the column would change its values
    ├── ValidationError (ValueError)  a value does not fit its column
    ├── LoadError                     the load did not finish
    │   ├── WriteError                the database refused it
    │   ├── LoadCancelled             somebody pressed Cancel
    │   └── ConnectionLost            the server went away
    │       └── ConnectionFailed      no connection could be made: the host, the login, the file
    ├── ReadError                     a query did not give its rows
    └── CheckpointError               the ledger does not allow it; nothing was written
        ├── UnfinishedLoad            an earlier load of the same data did not finish
        └── SourceChanged             the data is not what the unfinished load began with

Which of them a driver's error becomes is decided in `database.driver_errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataloader.formatting import wrapped

__all__ = [
    "CheckpointError",
    "ConnectionFailed",
    "ConnectionLost",
    "DataLoaderError",
    "LoadCancelled",
    "LoadError",
    "PlanError",
    "ReadError",
    "SchemaMismatch",
    "SourceChanged",
    "UnfinishedLoad",
    "UnsafeCast",
    "UnsupportedType",
    "ValidationError",
    "WriteError",
]


class DataLoaderError(Exception):
    """The base of every error of this package.

    Parameters
    ----------
    what : str
        What happened and where, as a sentence without its full stop.
    hint : str
        What to do about it, as a sentence.
    committed_rows : int or None
        How many rows are committed, as far as that can be said where it happened: 0 for none.

    Attributes
    ----------
    committed_rows : int or None
        How many rows the load has committed, in this run and before, and 0 if refused at once; None: nobody knows.
    committed_where : str
        Where those rows are: ``committed``, or in a table beside the one that they replace.
    is_in_doubt : bool
        Whether there may be more of them: a commit was under way.
    resume_call : str or None
        The call that continues the load.

    Examples
    --------
    >>> import dataloader as dl
    >>> try:
    ...     dl.run(dl.load_dataframe({"id": [1]}, "ids", engine="sqlite:////nowhere/ids.db", progress="none"))
    ... except dl.DataLoaderError as error:
    ...     print(error.what, error.advice, sep=". ")
    cannot open SQLite /nowhere/ids.db: the folder /nowhere does not exist. Create it, or correct the path in the URL.
    """

    committed_rows: int | None
    resume_call: str | None = None
    committed_where = "committed"
    is_in_doubt = False

    def __init__(self, what: str, *, hint: str, committed_rows: int | None = None) -> None:
        super().__init__(what, hint)
        self.what = what
        self.committed_rows = committed_rows
        self._advice = hint

    @property
    def hint(self) -> str:
        """What is committed, and what to do about it."""
        doubt, where = self.is_in_doubt, self.committed_where
        left = left_words(self.committed_rows, self.resume_call, in_doubt=doubt, where=where)
        return f"{left}. {self._advice}".rstrip() if left else self._advice

    @property
    def advice(self) -> str:
        """What to do about it, alone."""
        return self._advice

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}" if "\n" in self.what else f"{self.what}. {self.hint}"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: what happened and what to do, and how to see where."""
        lines = [wrapped(f"{type(self).__name__}: {self.what}"), wrapped(self.hint)]
        return [*lines, WHOLE_TRACEBACK] if self.__cause__ is not None else lines

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.__dict__)


def _restored(kind: type[DataLoaderError], facts: dict[str, Any]) -> DataLoaderError:
    """Make an error again in another process, or as a copy."""
    error = kind.__new__(kind, facts["what"], facts["_advice"])
    error.__dict__.update(facts)
    return error


class PlanError(DataLoaderError, ValueError):
    """The load cannot be planned. Raised before anything is written.

    Examples
    --------
    >>> import dataloader as dl
    >>> dl.run(dl.load_dataframe({"id": [1]}, "ids", method="fast", engine="sqlite:///:memory:", progress="none"))
    Traceback (most recent call last):
    dataloader.errors.PlanError: method='fast' is unknown. The choices are: auto, copy, insert.
    """


class SchemaMismatch(PlanError):
    """Source and table do not have the same columns.

    Examples
    --------
    >>> import sqlalchemy as sa, dataloader as dl
    >>> ids = sa.Table("ids", sa.MetaData(), sa.Column("id", sa.Integer))
    >>> dl.run(dl.load_dataframe({"idd": [1]}, ids, engine="sqlite:///:memory:", progress="none"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.SchemaMismatch: ... not in the table: 'idd'. Did you mean 'id' instead of 'idd'?
    """


class UnsupportedType(PlanError):
    """A column has a type that the database cannot hold.

    Examples
    --------
    >>> import dataloader as dl
    >>> dl.run(dl.load_dataframe({"id": [1j]}, "ids", engine="sqlite:///:memory:", progress="none"))
    Traceback (most recent call last):
    dataloader.errors.UnsupportedType: column 'id' has values that no column keeps: a complex number is two numbers.
    Load .real and .imag as two columns.
    """


class UnsafeCast(PlanError):
    """Storing the column would change its values, as PostgreSQL's timestamptz would those of times without a zone.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from dataloader.conversion.rules import ColumnType, column_plan
    >>> at, target = pa.field("at", pa.timestamp("us")), ColumnType("timestamptz", "timestamptz")
    >>> column_plan(at, target, nullable=True, casts="exact", assume_timezone=None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.UnsafeCast: column 'at': timestamp[us] cannot be stored as timestamptz. Say what ...
    """


class ValidationError(DataLoaderError, ValueError):
    """Values do not fit their columns, or more rows were rejected than allowed.

    Attributes
    ----------
    column : str or None
        The column of the first violation.
    row : int
        The row's position in the source, counted from 0.
    value, reason : str
        The value's repr, cut at 40 characters, and the reason's code, see `Violation`.
    violations : tuple of Violation
        The first ten.
    counts : dict
        How many there are by column and reason.

    Examples
    --------
    >>> import sqlalchemy as sa, dataloader as dl
    >>> ids = sa.Table("ids", sa.MetaData(), sa.Column("id", sa.Integer))
    >>> try:
    ...     dl.run(dl.load_dataframe({"id": ["1", "x"]}, ids, engine="sqlite:///:memory:", progress="none"))
    ... except dl.ValidationError as error:
    ...     error.column, error.row, error.value, error.reason, error.counts
    ('id', 1, "'x'", 'syntax', {('id', 'syntax'): 1})
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str,
        committed_rows: int | None = None,
        violations: Sequence[Any],
        counts: dict[Any, int],
    ) -> None:
        super().__init__(what, hint=hint, committed_rows=committed_rows)
        first = violations[0]
        self.column, self.row, self.value, self.reason = first.column, first.row, first.value, first.reason
        self.violations, self.counts = tuple(violations), counts


class LoadError(DataLoaderError):
    """The load began and did not finish. A load in one transaction has then written nothing.

    Attributes
    ----------
    is_transient : bool
        Whether the same rows may be taken when they are sent again: a lost connection, a deadlock, a lock.

    Examples
    --------
    >>> import dataloader as dl
    >>> dl.WriteError.is_transient, dl.ConnectionLost.is_transient
    (False, True)
    """

    is_transient = False


class WriteError(LoadError):
    """The database refused the rows or a statement.

    Attributes
    ----------
    sqlstate : str or None
        PostgreSQL's five-letter code, from the server; appendix A of its manual lists them.
    row : int or None
        The refused row's position in the source, counted from 0, where the server said it.
    column, constraint : str or None
        The refused column, and the name of the constraint that refused it, where the server said them.

    Examples
    --------
    >>> import dataloader as dl
    >>> data, where = {"id": [1, 1]}, {"engine": "sqlite:///:memory:", "progress": "none"}
    >>> dl.run(dl.load_dataframe(data, "ids", primary_key="id", **where))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.WriteError: row 1: column 'id': SQLite :memory: refused it: UNIQUE constraint failed: ids.id. ...
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str,
        committed_rows: int | None = None,
        sqlstate: str | None = None,
        row: int | None = None,
        column: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(what, hint=hint, committed_rows=committed_rows)
        self.sqlstate, self.row, self.column, self.constraint = sqlstate, row, column, constraint


class LoadCancelled(LoadError):
    """Cancel was pressed, or ``job.cancel()`` called; a task that is cancelled itself raises asyncio.CancelledError.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> async def example():
    ...     job = dl.start_load({"id": range(1_000_000)}, "ids", engine="sqlite:///:memory:", progress="none")
    ...     job.cancel()
    ...     await job
    >>> asyncio.run(example())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.LoadCancelled: the load was cancelled. ...
    """

    def _render_traceback_(self) -> list[str]:
        """One paragraph: who stopped it knows where."""
        return [wrapped(f"{type(self).__name__}: {self}")]


class ConnectionLost(LoadError):
    """The server went away, or was never reached (`ConnectionFailed`).

    Examples
    --------
    >>> import dataloader as dl
    >>> issubclass(dl.ConnectionFailed, dl.ConnectionLost), dl.ConnectionLost.is_transient
    (True, True)
    """

    is_transient = True


class ConnectionFailed(ConnectionLost):
    """No connection could be made: an unknown host, a refused login, no TLS, a file that cannot be opened.

    Examples
    --------
    >>> import dataloader as dl
    >>> dl.run(dl.read_dataframe("ids", engine="sqlite:////nowhere/ids.db", progress="none"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.ConnectionFailed: cannot open SQLite /nowhere/ids.db: the folder /nowhere does not exist...
    """


class ReadError(DataLoaderError):
    """A query did not give its rows, or a value of them has no place in its column's type.

    Attributes
    ----------
    column, value : str or None
        The column of the result that it is about, and the value as the database wrote it, cut at 40 characters.
    row : int or None
        Its row of the result, from 0 on.
    sqlstate : str or None
        PostgreSQL's five-letter code, from the server; appendix A of its manual lists them.

    Examples
    --------
    >>> import dataloader as dl
    >>> dl.run(dl.read_dataframe("SELECT n", engine="sqlite:///:memory:", progress="none"))
    Traceback (most recent call last):
    dataloader.errors.ReadError: SQLite :memory: refused it: no such column: n. Check the names of the columns.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str,
        column: str | None = None,
        value: str | None = None,
        row: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.column, self.value, self.row, self.sqlstate = column, value, row, sqlstate


class CheckpointError(DataLoaderError):
    """The ledger does not allow the load: it would lose rows, or store some twice. Nothing was written.

    Examples
    --------
    >>> import tempfile, dataloader as dl
    >>> where = {"engine": f"sqlite:///{tempfile.mkdtemp()}/ids.db", "load_id": "May", "progress": "none"}
    >>> report = dl.run(dl.load_dataframe({"id": [1]}, "ids", **where))
    >>> dl.run(dl.load_dataframe({"id": [1]}, "ids", **where))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.CheckpointError: the load 'May' into ids is finished, with ...
    """


class UnfinishedLoad(CheckpointError):
    """An earlier load of the same data into the same table did not finish.

    Attributes
    ----------
    load_id : str
        Its name in the ledger.

    Examples
    --------
    >>> import tempfile, dataloader as dl
    >>> load = {"table": "ids", "engine": f"sqlite:///{tempfile.mkdtemp()}/ids.db", "progress": "none"}
    >>> for _ in "ab":  # the second chunk of the first load is refused
    ...     try:
    ...         dl.run(dl.load_dataframe({"id": [1, 2, 2]}, primary_key="id", commit="chunk", chunk_rows=2, **load))
    ...     except (dl.WriteError, dl.UnfinishedLoad) as error:
    ...         print(error.what)  # doctest: +ELLIPSIS
    row 2: column 'id': SQLite ... refused it: UNIQUE constraint failed: ids.id
    a load of the same data into ids did not finish, with 2 of 3 rows committed
    """

    def __init__(self, what: str, *, hint: str, committed_rows: int | None = None, load_id: str) -> None:
        super().__init__(what, hint=hint, committed_rows=committed_rows)
        self.load_id = load_id


class SourceChanged(CheckpointError):
    """The data is not what the unfinished load began with.

    Attributes
    ----------
    chunk : int
        The first chunk that differs, counted from 0.

    Examples
    --------
    >>> import tempfile, dataloader as dl
    >>> where = {"engine": f"sqlite:///{tempfile.mkdtemp()}/ids.db", "load_id": "May", "progress": "none"}
    >>> report = dl.run(dl.load_dataframe({"id": [1]}, "ids", **where))
    >>> dl.run(dl.load_dataframe({"id": [2]}, "ids", resume=True, **where))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dataloader.errors.SourceChanged: the source has changed since it was loaded: chunk 0, ...
    """

    def __init__(self, what: str, *, hint: str, committed_rows: int | None = None, chunk: int) -> None:
        super().__init__(what, hint=hint, committed_rows=committed_rows)
        self.chunk = chunk


class SourceFailed(Exception):
    """Carries the source's own error past the translation of the database's: both may be an OSError."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


WHOLE_TRACEBACK = "The whole traceback:\nimport sys, traceback; traceback.print_exception(sys.last_value)"
NOTHING_WRITTEN = "Nothing was written"
IN_DOUBT = "The commit was under way, so the rows may be there: count them before you load again."


def left_words(rows: int | None, resume_call: str | None, *, in_doubt: bool = False, where: str = "committed") -> str:
    """What a load has left in the table, in words without a full stop; nothing where it cannot be said."""
    if rows is None:
        return ""
    if resume_call is None:
        return NOTHING_WRITTEN
    there = f"{'at least ' if in_doubt else ''}{rows:,} row{' is' if rows == 1 else 's are'} {where}"
    return f"{there}; continue with {resume_call}"


def say_committed(error: DataLoaderError, rows: int, resume_call: str, *, in_doubt: bool, where: str) -> None:
    """Have an error say what the whole load has committed, and where, if it says anything of that."""
    if error.committed_rows is not None:
        error.committed_where, error.is_in_doubt, error.committed_rows = where, in_doubt, rows
        error.resume_call = resume_call


def left_by(error: BaseException) -> str:
    """What an interrupted load says of itself: what is committed and how to resume, or that there is nothing."""
    return next(iter(getattr(error, "__notes__", ())), NOTHING_WRITTEN)


def shown_as(error: BaseException, line: str) -> None:
    """Have IPython show a line in place of the error's traceback."""
    error._render_traceback_ = lambda: [wrapped(line)]  # type: ignore[attr-defined]

"""What an exception means: the cause in plain words, the place, what is committed, and what to do.

The facts are rows of `sqlstates` and `situations`; here is found which of the errors behind each other says most, and
what of it may be shown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dataloader.database import situations, sqlstates
from dataloader.database.connection_errors import failure
from dataloader.database.driver_errors import LITERAL, chain, shown_text
from dataloader.display.html import BAD, headline, panel, table
from dataloader.errors import CheckpointError, DataLoaderError, PlanError, ReadError, ValidationError, left_words
from dataloader.formatting import fitted

_AGAIN = "run it again"
_STATEMENT_CHARACTERS = 120
_SERVER = "the database"
_ROLLED_BACK = "A transaction that is open is rolled back by leaving its block; earlier commits stay."
LEFT = {
    "statement": "Nothing of the statement is stored. If it was part of a transaction, the server takes nothing more "
    "in that until it is rolled back as a whole; what was committed before stays. The connection is good.",
    "connection": "The connection is gone, and the server has rolled back what was open on it; what was committed "
    "before stays. Only if COMMIT itself was under way is its outcome unknown: count the rows.",
    "no connection": "No connection was had, so nothing was sent: nothing is stored by this.",
    "nothing sent": f"Nothing was sent, so nothing is stored by this. {_ROLLED_BACK}",
    "client": "The driver refused the value before the server had it, and of an executemany no row is kept. The "
    "transaction is still open and good: what it did before is stored if it is committed.",
    "row": "Nothing of this row is stored. The transaction is still open: what it did before, also the earlier rows "
    "of the same executemany, is stored if it is committed. engine.begin() rolls it back.",
    "read": "A read changes nothing. What the transaction wrote before is stored if it is committed.",
    "warning": "It was carried out: a warning undoes nothing.",
    "unknown": f"It is unknown how far it came. {_ROLLED_BACK} Loads say it: load_history, and their own errors.",
}
"""What an error leaves, in words."""
_LEFT_BY_KIND: dict[str, str] = dict.fromkeys(("data", "refused", "transient", "follows"), "statement") | {
    "lost": "connection",
    "busy": "no connection",
    "warning": "warning",
    "login": "no connection",
}
_DRIVERS = {"sqlalchemy", "asyncpg", "psycopg", "sqlite3"}
_FATAL = {"FATAL", "PANIC"}
_SERVER_SAYS = re.compile(
    r"\n(?:DETAIL|HINT|CONTEXT|LINE \d+|QUERY|SQL)\b.*|\n\[SQL:.*|\(Background on this.*", re.DOTALL
)
_CLASS_PREFIX = re.compile(r"^<class '[^']+'>: ")
_CREDENTIALS = (
    (re.compile(r"(//[^:/\s]*:|:(?=[^\s/:]))\S*@"), r"\1***@"),
    (re.compile(r"(?i)(password\S*\s*[=:]\s*)\S+"), r"\1***"),
)
_QUOTED = re.compile(r"'[^']*'(?! object)|\"[^\"]*\"")
_ARGUMENT = re.compile(r"query argument \$(\d+)(?: in element #(\d+))?")
_REASONS = re.compile(
    r"expected [\w.]+(?: or [\w.]+)*, got [\w.]+|'\w+' object cannot be interpreted as an integer|"
    r"'\w+' object has no attribute '\w+'|value out of \w+ range|must be real number, not \w+"
)
"""What asyncpg says of a value without saying the value."""
_COPY_LINE = re.compile(r"^COPY ([^,\n]+)(?:, line (\d+))?(?:, column ([^:\n]+))?", re.MULTILINE)
_SQLITE_COLUMN = re.compile(r"(?:UNIQUE|NOT NULL) constraint failed: ([^\s,]+)\.([^\s,]+)")
_FACTS = {
    "table": "table_name",
    "column": "column_name",
    "type": "data_type_name",
    "constraint": "constraint_name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What an exception means. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    error : str
        The class of the exception that says most of those behind each other.
    sqlstate : str or None
        PostgreSQL's five-letter code, from the server; appendix A of its manual lists them.
    cause : str
        What happened, in plain words.
    message : str
        The error's own words, with the server's detail; values of the statement's parameters are left out unless the
        server itself quotes them, and so are passwords.
    place : str
        Where: table, column, constraint, row, and the statement's first line without its values; may be empty.
    left : str
        What is committed, and in which state the connection and the transaction are.
    remedy : str
        What to do, and which setting to change.
    others : tuple of str
        The other errors that were raised together with it, each in a line.

    Examples
    --------
    >>> import asyncio, sqlalchemy as sa, dataloader as dl
    >>> async def fail(engine):
    ...     try:
    ...         async with engine.connect() as connection:
    ...             await connection.execute(sa.text("SELECT * FROM orders"))
    ...     finally:
    ...         await engine.dispose()
    >>> try:
    ...     asyncio.run(fail(dl.connect("sqlite:///:memory:")))
    ... except Exception as error:
    ...     dl.explain(error).cause
    'there is no table of that name'
    """

    error: str
    cause: str
    remedy: str
    left: str
    message: str = ""
    place: str = ""
    sqlstate: str | None = None
    others: tuple[str, ...] = ()

    @property
    def _head(self) -> str:
        return self.error if self.sqlstate is None else f"{self.error} ({self.sqlstate})"

    @property
    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("It says", self.message),
            ("Where", self.place),
            ("Committed", self.left),
            ("Do", self.remedy),
            ("Beside it", "; ".join(self.others)),
        ]
        return [(name, text) for name, text in rows if text]

    def __str__(self) -> str:
        rows = (f"  {f'{name}:':<11}{text}" for name, text in self._rows)
        return fitted("\n".join([f"{self._head}: {self.cause}.", *rows]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return panel(headline(BAD, self._head, html.escape(self.cause)), table(self._rows))


class _Found(NamedTuple):
    """An error of the chain with what is known of it; the greater `weight`, the more it says."""

    weight: int
    error: BaseException
    cause: str
    remedy: str
    left: str
    sqlstate: str | None = None


def explanation_of(error: BaseException) -> Explanation:
    """Explain an exception by whichever of those behind it says most."""
    errors = [*chain(error)]
    found = [_known(one) for one in errors]
    best = max(found, key=lambda one: one.weight)  # of equals the nearest
    connecting = None if best.weight >= _EXACT and not _is_login(best) else _connecting(errors)
    if connecting is not None:  # of a login the code says what happened, and the words what to do
        best = best._replace(remedy=connecting.remedy) if _is_login(best) else connecting
        found = [*found, best]
    first = next(one.error for one in reversed(found) if one is best or one.cause == best.cause)  # the driver's own
    related = [one for one in errors if first in _behind(one) or one in _behind(first)]
    others = {
        f"{_name(one.error)}: {one.cause}": None
        for one in found
        if _is_beside(error, one.error) and one.weight and one.cause != best.cause
    }
    return Explanation(
        error=_name(first),
        cause=best.cause.rstrip("."),
        remedy=_safe(best.remedy),
        left=best.left,
        message="" if isinstance(first, DataLoaderError) else _message(first, related),
        place=_place(related),
        sqlstate=best.sqlstate,
        others=tuple(others),
    )


_OURS, _EXACT, _BY_CLASS, _WRAPPING, _UNKNOWN = 5, 4, 3, 2, 0


def _known(error: BaseException) -> _Found:
    if isinstance(error, DataLoaderError):
        return _ours(error)
    text = _said(error)
    situation, sqlstate = situations.situation_of(error, text), getattr(error, "sqlstate", None)
    if situation is not None and situation.pattern and not _is_servers(error):
        return _by_situation(_EXACT, error, situation)
    if isinstance(sqlstate, str) and (row := sqlstates.row_of(sqlstate)) is not None:
        kind = row.kind or "refused"
        left = "connection" if _severity(error) in _FATAL and kind == "refused" else _LEFT_BY_KIND[kind]
        remedy = sqlstates.remedy_of(sqlstate, _AGAIN) or "Correct what the message names, and run it again."
        weight = _BY_CLASS if kind == "follows" or not _is_servers(error) else _EXACT
        return _Found(weight, error, row.meaning, remedy, LEFT[left], sqlstate)
    if situation is not None:
        return _by_situation(_WRAPPING if situation.is_wrapper else _BY_CLASS, error, situation)
    cause = f"{_name(error)} is no error of a database or its driver" if not text else _safe(text)
    remedy = "Look where it was raised: import traceback; traceback.print_exception(error)."
    return _Found(_UNKNOWN, error, cause, remedy, LEFT["unknown"])


def _by_situation(weight: int, error: BaseException, row: situations.Situation) -> _Found:
    return _Found(weight, error, row.meaning, sqlstates.spoken(row.remedy, _AGAIN), LEFT[row.left])


def _ours(error: DataLoaderError) -> _Found:
    """Ours say it themselves; what they leave out is what they do not know of the caller's transaction."""
    told = left_words(error.committed_rows, error.resume_call, in_doubt=error.is_in_doubt, where=error.committed_where)
    is_before = isinstance(error, (PlanError, CheckpointError, ValidationError))
    left = f"{told}." if told else "Nothing was written." if is_before else LEFT["unknown"]
    left = LEFT["read"] if isinstance(error, ReadError) else left
    sqlstate = getattr(error, "sqlstate", None)
    return _Found(_OURS, error, _safe(error.what), error.advice, left, sqlstate)


def _connecting(errors: list[BaseException]) -> _Found | None:
    """What the network, the resolver or the login says, in the words of a load that could not connect."""
    for one in errors:
        text = _said(one)
        if (failed := failure(errors, getattr(one, "sqlstate", None), text, _SERVER)) is not None:
            return _Found(_EXACT, one, failed.what.partition("\n")[0], failed.advice, LEFT["no connection"])
    return None


def _is_login(found: _Found) -> bool:
    return found.sqlstate is not None and sqlstates.kind_of(found.sqlstate) == "login"


def _is_servers(error: BaseException) -> bool:
    """Whether the server has sent it: asyncpg and psycopg raise some classes of the server's by themselves."""
    return _severity(error) is not None or bool(getattr(getattr(error, "diag", None), "sqlstate", None))


def _severity(error: BaseException) -> str | None:
    diagnostics = getattr(error, "diag", None)
    found = getattr(error, "severity", None) or getattr(diagnostics, "severity_nonlocalized", None)
    return found if isinstance(found, str) else None


def _name(error: BaseException) -> str:
    """The class, with its driver's name."""
    root, name = type(error).__module__.partition(".")[0], type(error).__name__
    return f"{root}.{name}" if root in _DRIVERS else name


def _said(error: BaseException) -> str:
    """The error's first words: without the server's context, in which values stand, and without SQLAlchemy's."""
    behind = getattr(error, "orig", None)
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    text = primary or str(behind if isinstance(behind, BaseException) else error)
    if type(error).__name__ == "StatementError":  # what a type of SQLAlchemy's says quotes the value
        text = _QUOTED.sub("'***'", text)
    return _CLASS_PREFIX.sub("", _SERVER_SAYS.sub("", text)).strip()


def _message(error: BaseException, errors: list[BaseException]) -> str:
    """What may be shown of an error's words."""
    text = _said(error)
    if (argument := _ARGUMENT.search(text)) is not None:
        row = "" if argument[2] is None else f" of row {int(argument[2]):,}, counted from 0"
        reason = _REASONS.search(text.rpartition(" (")[2])
        return f"invalid input for parameter ${argument[1]}{row}{'' if reason is None else f': {reason[0]}'}"
    detail = next((one for one in (_fact(each, "detail") for each in errors) if one), None)
    text = shown_text(_safe(text)).rstrip(".")
    return text if detail is None else f"{text} ({shown_text(_safe(detail)).rstrip('.')})"


def _fact(error: BaseException, attribute: str) -> str | None:
    """What the server says apart from its message: asyncpg has it as attributes, psycopg in `diag`."""
    diagnostics = getattr(error, "diag", None)
    there = {"detail": "message_detail", "data_type_name": "datatype_name"}.get(attribute, attribute)
    value = getattr(error, attribute, None) or getattr(diagnostics, there, None)
    return value if isinstance(value, str) and value else None


def _place(errors: list[BaseException]) -> str:
    facts = dict(_facts(errors))
    statement = next(filter(None, map(_statement, errors)), None)
    shown = [f"{name} {value}" for name, value in facts.items()]
    return ", ".join([*shown, *([f"statement {statement}"] if statement else [])])


def _facts(errors: list[BaseException]) -> Iterator[tuple[str, str]]:
    """Names by what they are, later ones more exact."""
    for one in reversed(errors):
        if isinstance(one, DataLoaderError):
            facts = {name: getattr(one, name, None) for name in ("row", "column", "constraint")}
            yield from ((name, str(value)) for name, value in facts.items() if value is not None)
            continue
        if sqlite := _SQLITE_COLUMN.search(_said(one)):
            yield from zip(("table", "column"), sqlite.groups(), strict=True)
        if line := _COPY_LINE.search(_fact(one, "context") or ""):
            yield from (
                (name, said) for name, said in zip(("table", "line", "column"), line.groups(), strict=True) if said
            )
        yield from ((name, value) for name, key in _FACTS.items() if (value := _fact(one, key)))


def _statement(error: BaseException) -> str | None:
    """The first line of its statement, without the values that are written in it."""
    text = getattr(error, "statement", None) or getattr(error, "query", None)
    if not isinstance(text, str) or not text.strip():
        return None
    line = LITERAL.sub("'***'", _safe(text)).strip().splitlines()[0]
    return shown_text(line if len(line) <= _STATEMENT_CHARACTERS else f"{line[: _STATEMENT_CHARACTERS - 1]}…")


def _behind(error: BaseException) -> list[BaseException]:
    """The error and what it was made of, and not what was raised before it."""
    behind: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in behind:
            behind.append(one)
            waiting += [getattr(one, "orig", None), one.__cause__]
    return behind


def _is_beside(error: BaseException, one: BaseException) -> bool:
    """Whether both are members of a group that was raised."""
    groups = [each for each in chain(error) if isinstance(each, BaseExceptionGroup)]
    return any(one in group.exceptions for group in groups) and not isinstance(one, BaseExceptionGroup)


def _safe(text: str) -> str:
    """Without passwords of URLs and of connection strings."""
    for pattern, masked in _CREDENTIALS:
        text = pattern.sub(masked, text)
    return text

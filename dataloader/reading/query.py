"""What is read: a table's name, the text of a query or one of SQLAlchemy's, with its parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.backends.reading import Statement, replaced
from dataloader.errors import PlanError
from dataloader.formatting import one_line
from dataloader.options import Target

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.database.schema import TableName

Params = Mapping[str, Any] | Sequence[Any]
_QUERIES = (sa.sql.expression.SelectBase, sa.TextClause)
_LABEL_CHARACTERS = 40


def statement_of(
    query: object,
    params: Params | None,
    backend: Backend,
    columns: Sequence[str] | None = None,
    max_rows: int | None = None,
    *,
    timeout: float | None = None,
) -> tuple[Statement, str]:
    """The query with its parameters, and what it is called in messages.

    Raises
    ------
    PlanError
        When it is none, or its parameters do not match.
    """
    _check(columns, max_rows, timeout)
    query = asked(query)
    if isinstance(query, str) and is_query(query):
        backend.check_text(query, "the query", hint="Pass such a value as a parameter, if its column takes it.")
        text, values = _with_values(query, params)
        label = " ".join(query.split())
        label = label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"
    elif isinstance(query, _QUERIES):
        text, values = _compiled(query, params, backend)
        label = "query"
    else:
        name = Target.of(query, backend).name  # type: ignore[arg-type]  # which refuses what is no table
        if params is not None:
            raise PlanError("params= was given for a table", hint="Leave it out, or write a query.")
        text, values, label = table_text(name, backend, columns), (), str(name)
    statement = Statement(text, values, max_rows=max_rows, timeout=timeout)
    return (statement if columns is None else replace(statement, columns=tuple(columns))), label


def asked(query: object) -> object:
    """What is read for a class of the ORM, and for what stands in the FROM of SQLAlchemy's queries."""
    query = getattr(query, "__table__", query)
    if isinstance(query, sa.FromClause) and not isinstance(query, sa.TableClause):
        return query.select()
    return query


def is_table(query: object) -> bool:
    """Whether it is no query."""
    return not (is_query(query) if isinstance(query, str) else isinstance(query, _QUERIES))


def table_text(name: TableName, backend: Backend, columns: Sequence[str] | None) -> str:
    """The query of a table: of the wanted columns alone, for others a role need not have the privilege."""
    if not columns or len({*columns}) < len(columns):
        return f"SELECT * FROM {backend.quote_table(name)}"
    selected = ", ".join(f"q.{backend.quote(one)}" for one in columns)  # SQLite takes an unknown one alone for a text
    return f"SELECT {selected} FROM {backend.quote_table(name)} AS q"


def _check(columns: Sequence[str] | None, max_rows: int | None, timeout: float | None) -> None:
    if isinstance(columns, str):
        raise PlanError(f"columns={columns!r} is a text", hint="Give a list of names: columns=['id', 'amount'].")
    if max_rows is not None and (isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 0):
        raise PlanError(f"max_rows={max_rows!r} is no number of rows", hint="Give an integer from 0 on.")
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):
        raise PlanError(f"statement_timeout={timeout!r} is no number of seconds", hint="Give one above 0.")


def is_query(text: str) -> bool:
    """Whether it has blanks outside of a quoted name."""
    stripped = text.strip()
    return not stripped.startswith('"') and bool(re.search(r"\s", stripped) or stripped.startswith("("))


def _with_values(text: str, params: Params | None) -> tuple[str, tuple[Any, ...]]:
    if params is None:
        return text, ()
    if isinstance(params, Mapping):
        return _by_name(text, params)
    if isinstance(params, (str, bytes)) or not isinstance(params, Sequence):
        hint = "Give params=[...] for $1, $2, ... or params={'name': ...} for :name."
        raise PlanError(f"params= must be a list or a dict, got {type(params).__name__}", hint=hint)
    used: set[int] = set()
    replaced(text, lambda key: used.add(int(key)) if key.isdigit() else None)
    if used != set(range(1, len(params) + 1)):
        shown = ", ".join(f"${at}" for at in sorted(used)) or "none"
        hint = "Each value of a list has its place in the query: $1, $2, ..."
        raise PlanError(f"{len(params)} parameters were given, and the query has {shown}", hint=hint)
    return text, tuple(params)


def _by_name(text: str, params: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    order: dict[str, int] = {}

    def number(key: str) -> str | None:
        return f"${order.setdefault(key, len(order) + 1)}" if key in params else None

    numbered = replaced(text, number)
    if unused := [name for name in params if name not in order]:
        hint = f"Write :{unused[0]} in the query, outside of quotes, or leave it out of params=."
        raise PlanError(f"the query has no parameter {unused[0]!r}", hint=hint)
    return numbered, tuple(params[name] for name in order)


def _compiled(query: Any, params: Params | None, backend: Backend) -> tuple[str, tuple[Any, ...]]:
    if not isinstance(params, (Mapping, type(None))):
        raise PlanError("a query of SQLAlchemy has no $1", hint="Give params={'name': ...} for bindparam('name').")
    dialect: Any = type(backend.dialect)
    compiled: Any = query.params(params or {}).compile(
        dialect=dialect(paramstyle="numeric_dollar"), compile_kwargs={"render_postcompile": True}
    )
    if unused := [name for name in params or () if name not in compiled.params]:
        raise PlanError(
            f"the query has no parameter {unused[0]!r}", hint="Write bindparam() of that name in the query."
        )
    given = _given(compiled)
    processors = compiled._bind_processors
    values = (processors.get(name, _same)(given[name]) for name in compiled.positiontup or ())
    return str(compiled), tuple(values)


def _given(compiled: Any) -> Any:
    try:
        return compiled.construct_params()
    except sa.exc.InvalidRequestError as error:
        what = one_line(error).partition(" (Background")[0]
        raise PlanError(f"the query cannot be sent: {what}", hint="Give it in params={'name': ...}.") from error


def _same(value: Any) -> Any:
    return value

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
from dataloader.options import Target

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.database.schema import TableName

Params = Mapping[str, Any] | Sequence[Any]
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
    query = getattr(query, "__table__", query)
    if isinstance(query, str) and is_query(query):
        backend.check_text(query, "the query", hint="Pass such a value as a parameter, if its column takes it.")
        text, values = _with_values(query, params)
        label = " ".join(query.split())
        label = label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"
    else:
        if params is not None:
            hint = "Parameters belong to the text of a query; SQLAlchemy's bindparam() has its own value."
            raise PlanError("params= was given without the text of a query", hint=hint)
        if isinstance(query, sa.sql.expression.SelectBase):
            text, values = _compiled(query, backend)
            label = "query"
        else:
            name = Target.of(query, backend).name  # type: ignore[arg-type]  # which refuses what is no table
            text, values, label = table_text(name, backend, columns), (), str(name)
    statement = Statement(text, values, max_rows=max_rows, timeout=timeout)
    return (statement if columns is None else replace(statement, columns=tuple(columns))), label


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


def _compiled(query: Any, backend: Backend) -> tuple[str, tuple[Any, ...]]:
    dialect: Any = type(backend.dialect)
    compiled: Any = query.compile(
        dialect=dialect(paramstyle="numeric_dollar"), compile_kwargs={"render_postcompile": True}
    )
    given = compiled.construct_params()
    processors = compiled._bind_processors
    values = (processors.get(name, _same)(given[name]) for name in compiled.positiontup or ())
    return str(compiled), tuple(values)


def _same(value: Any) -> Any:
    return value

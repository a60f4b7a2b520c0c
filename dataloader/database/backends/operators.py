"""Operators of our queries: on PostgreSQL those of pg_catalog, whatever the search_path puts before them."""

from __future__ import annotations

import functools
import re
from typing import Any

_QUERIES = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_BARE = re.compile(
    rf"({_QUOTED})|(?<= )(=|<>|!=|<=|>=|<|>|\+|-|&|\|\|)(?= )"
    rf"|\b(NOT )?IN \(((?:{_QUOTED}|%\(\w+\)s|[^()'\"])*)\)"
)
"""Names and literals; operators, which stand between spaces; lists, in which psycopg's parameters have parentheses."""
_REMEMBERED = 20_000
"""Statements up to this length come again and again, which took a twentieth of a small load; longer ones have rows."""
OWN_OPERATORS = "dataloader_own_operators"
"""The execution option of a statement that means the operators of the caller's types."""


def pinned(sql: str) -> str:
    """A statement of ours, whose operators are those of pg_catalog.

    PostgreSQL looks for a bare operator, as for a function, in the whole search_path: whoever may create one there
    that fits the operands better would have it carried out with our role's rights. The search_path itself stays as
    it is, because the caller's triggers and defaults run under it. DDL is the caller's own.

    What it cannot reach is not used in our queries: LIKE, BETWEEN, NULLIF, IS DISTINCT FROM, CASE with an operand, IN
    with a query, a function without ``pg_catalog.``. All pinned operators bind alike: sums in comparisons stand in
    parentheses.
    """
    return _remembered(sql) if len(sql) < _REMEMBERED else _all_pinned(sql)


def _all_pinned(sql: str) -> str:
    return _BARE.sub(_pinned, sql) if sql.lstrip().startswith(_QUERIES) else sql


_remembered = functools.lru_cache(256)(_all_pinned)


def _pinned(found: re.Match[str]) -> str:
    quoted, operator, is_not, listed = found.groups()
    if operator is not None:
        return f"OPERATOR(pg_catalog.{'<>' if operator == '!=' else operator})"
    if listed is not None:
        how = "<>) ALL" if is_not else "=) ANY"
        return f"OPERATOR(pg_catalog.{how} (ARRAY[{listed}])"
    return quoted


def pin(
    _connection: object, _cursor: object, statement: str, parameters: Any, context: Any, _many: bool
) -> tuple[str, Any]:
    """Listen to SQLAlchemy's before_cursor_execute."""
    own = context is not None and context.execution_options.get(OWN_OPERATORS)
    return statement if own else pinned(statement), parameters

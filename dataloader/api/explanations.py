"""Errors in plain words."""

from __future__ import annotations

import sys

from dataloader.database.explanations import Explanation, explanation_of
from dataloader.errors import PlanError


def explain(error: BaseException | None = None) -> Explanation:
    """Say what an exception means: the cause in plain words, the place, what is committed, and what to do.

    Parameters
    ----------
    error : BaseException, optional
        An exception of SQLAlchemy, asyncpg, psycopg, aiosqlite or sqlite3, of the network, or of this package; what
        is behind it (``__cause__``, ``__context__``, ``.orig``, the members of a group) is looked at as well. None:
        the one that is being handled, else the last one that ended a cell or was shown at the prompt.

    Returns
    -------
    Explanation
        Printable, and shown as HTML in a notebook. It quotes the server's own message and detail; no password, and
        no other value of a statement's parameters.

    Raises
    ------
    PlanError
        When there is no exception to explain.

    Examples
    --------
    >>> import sqlite3, dataloader as dl
    >>> database = sqlite3.connect(":memory:")
    >>> try:
    ...     database.execute("INSERT INTO orders VALUES (1)")
    ... except sqlite3.Error:
    ...     print(dl.explain().remedy)
    Create it first, or check the name and the file.
    >>> database.close()
    """
    if error is None:
        error = sys.exception() or getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(error, BaseException):
        what = "there is no exception to explain" if error is None else f"{type(error).__name__} is no exception"
        raise PlanError(what, hint="Pass one: except Exception as error: print(dl.explain(error)).")
    return explanation_of(error)

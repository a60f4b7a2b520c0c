"""The options of the command line that say how CSV files are written, and which types their columns get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import sqlalchemy as sa

from dataloader.formatting import did_you_mean

_TYPES: dict[str, Callable[..., Any]] = {
    "text": sa.Text,
    "varchar": sa.String,
    "smallint": sa.SmallInteger,
    "integer": sa.Integer,
    "bigint": sa.BigInteger,
    "numeric": sa.Numeric,
    "double": sa.Double,
    "boolean": sa.Boolean,
    "date": sa.Date,
    "time": sa.Time,
    "timestamp": sa.DateTime,
    "timestamptz": lambda: sa.DateTime(timezone=True),
    "uuid": sa.Uuid,
    "json": sa.JSON,
}


def types(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, Any] | None:
    """The type of each column, as COLUMN=TYPE."""
    found: dict[str, Any] = {}
    for pair in given:
        column, _, spelled = pair.rpartition("=")
        if not column:
            raise click.BadParameter(f"{pair!r} is not COLUMN=TYPE", context, option)
        found[column] = _type(spelled.strip().lower(), context, option)
    return found or None


def _type(spelled: str, context: click.Context, option: click.Parameter) -> Any:
    name, _, arguments = spelled.partition("(")
    numbers = arguments.removesuffix(")").split(",") if arguments else []
    try:
        return _TYPES[name](*(int(number) for number in numbers))
    except (KeyError, ValueError, TypeError):
        hint = did_you_mean(name, list(_TYPES))
        raise click.BadParameter(f"{spelled!r} is not a type. {hint}", context, option) from None


def delimiter(_context: click.Context, _option: click.Parameter, given: str | None) -> str | None:
    """A tab may be spelled out."""
    return "\t" if given in {"tab", "\\t"} else given


def texts(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...] | None:
    """Several texts, None where there are none."""
    return given or None


OPTIONS = (
    click.option("--csv-delimiter", metavar="CHARACTER", callback=delimiter, help="Between fields: ';', tab, ..."),
    click.option("--csv-encoding", metavar="NAME", help="Like cp1252 or utf-16."),
    click.option("--csv-quote", metavar="CHARACTER", help="Around fields; '' for none."),
    click.option("--csv-decimal", type=click.Choice([".", ","]), help="The decimal separator of numbers."),
    click.option("--csv-header/--csv-no-header", default=None, help="Whether the first line names the columns."),
    click.option("--csv-skip", type=click.IntRange(min=0), help="Lines before the header."),
    click.option(
        "--csv-null",
        "csv_null_values",
        multiple=True,
        metavar="TEXT",
        callback=texts,
        help="What is NULL without quotes, in place of the empty field: NA, '', ...",
    ),
    click.option(
        "--dtype",
        multiple=True,
        metavar="COLUMN=TYPE",
        callback=types,
        help="The type of a column that is created: zip=text, price=numeric(12,2).",
    ),
)


def gather(options: dict[str, Any]) -> None:
    """Make one option of those that begin with csv."""
    names = [name for name in options if name.startswith("csv_")]
    given = {name.removeprefix("csv_"): value for name in names if (value := options.pop(name)) is not None}
    if given:
        options["csv"] = given

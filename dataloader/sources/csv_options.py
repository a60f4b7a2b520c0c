"""The option `csv`: how a CSV file is written, where it is not to be found out."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dataloader.errors import PlanError
from dataloader.formatting import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvOptions:
    """How CSV files are written; what is None is found out for each file and shown in the plan.

    Attributes
    ----------
    delimiter : str or None
        The character between fields.
    encoding : str or None
        A codec of Python, like ``"cp1252"``.
    quote : str or None
        The character around fields; an empty string: none.
    decimal : str or None
        ``"."`` or ``","``: the decimal separator of numbers.
    header : bool or None
        Whether the first line names the columns; else they are ``column_1``, ``column_2``, ...
    skip : int or None
        How many lines come before the header.

    Examples
    --------
    >>> from dataloader import CsvOptions
    >>> CsvOptions(delimiter=";", decimal=",").given
    {'delimiter': ';', 'decimal': ','}
    """

    delimiter: str | None = None
    encoding: str | None = None
    quote: str | None = None
    decimal: str | None = None
    header: bool | None = None
    skip: int | None = None

    def __post_init__(self) -> None:
        for name, is_right, wanted in self._rules():
            value = getattr(self, name)
            if value is not None and not is_right:
                raise PlanError(
                    f"csv: {name} must be {wanted}, got {value!r}", hint="Leave it out to have it found out."
                )

    def _rules(self) -> list[tuple[str, bool, str]]:
        return [
            ("delimiter", _is_character(self.delimiter), "one ASCII character"),
            ("encoding", _is_encoding(self.encoding), "an encoding that Python knows, like 'cp1252'"),
            ("quote", self.quote == "" or _is_character(self.quote), "one ASCII character, or '' for none"),
            ("decimal", self.decimal in {".", ","}, "'.' or ','"),
            ("header", isinstance(self.header, bool), "True or False"),
            ("skip", type(self.skip) is int and self.skip >= 0, "a count of lines"),
        ]

    @property
    def given(self) -> dict[str, Any]:
        """What is not to be found out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, given: object) -> CsvOptions:
        """Check the option as it came.

        Raises
        ------
        PlanError
            Naming what is wrong with it.
        """
        if given is None or isinstance(given, CsvOptions):
            return given or cls()
        if not isinstance(given, Mapping):
            hint = "Pass a dict, like {'delimiter': ';'}, or CsvOptions."
            raise PlanError(f"csv={given!r} is not understood", hint=hint)
        names = [one.name for one in fields(cls)]
        for name in given:
            if name not in names:
                raise PlanError(f"csv: there is no option {name!r}", hint=did_you_mean(str(name), names))
        return cls(**given)


def _is_character(given: object) -> bool:
    return isinstance(given, str) and len(given) == 1 and given.isascii() and given not in "\r\n"


def _is_encoding(given: object) -> bool:
    try:
        return isinstance(given, str) and bool(codecs.lookup(given)._is_text_encoding)
    except LookupError:
        return False

"""The option `csv`: how a CSV file is written, where it is not to be found out."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
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
    null_values : str, sequence of str or None
        The fields that are NULL where they stand without quotes, to the letter; None: the empty one only. Others are
        not added to it: ``["NA", ""]`` has both, and of ``"NA"`` alone an empty field is an empty text.

    Raises
    ------
    PlanError
        When a value is none that its option can have.

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
    null_values: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.null_values, (str, list)):
            given = (self.null_values,) if isinstance(self.null_values, str) else tuple(self.null_values)
            object.__setattr__(self, "null_values", given)
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
            ("null_values", _are_texts(self.null_values), "a text, or a list of them"),
        ]

    @property
    def given(self) -> dict[str, Any]:
        """What is not to be found out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, given: object) -> CsvOptions:
        """Check the option as it came.

        Parameters
        ----------
        given : CsvOptions, dict or None
            What was passed as ``csv=``.

        Returns
        -------
        CsvOptions
            With nothing set for None.

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


def _are_texts(given: object) -> bool:
    return isinstance(given, tuple) and all(isinstance(one, str) for one in given)


def _is_encoding(given: object) -> bool:
    try:
        return isinstance(given, str) and bool(codecs.lookup(given)._is_text_encoding)
    except LookupError:
        return False

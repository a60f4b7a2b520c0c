"""Numbers without a limit: how many digits those of a whole result have."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

_MOST_DIGITS, _MOST_LONG_DIGITS = 38, 76
_NO_DIGITS = re.compile("[a-zA-Z]").pattern


class Digits:
    """The digits of the numbers that were added, which are texts."""

    def __init__(self) -> None:
        self._is_empty = True
        self._has_others = False
        self._whole = self._scale = 0

    def add(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Take in more of them."""
        if self._has_others or texts.null_count == len(texts):
            return
        self._is_empty = False
        if pc.any(pc.match_substring_regex(texts, _NO_DIGITS)).as_py():
            self._has_others = True
            return
        lengths = pc.binary_length(texts)
        point = pc.find_substring(texts, ".")
        whole = pc.subtract(pc.if_else(pc.less(point, 0), lengths, point), pc.starts_with(texts, "-").cast(pa.int32()))
        scales = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(lengths, point), 1))
        self._whole = max(self._whole, pc.max(whole).as_py())
        self._scale = max(self._scale, pc.max(scales).as_py())

    @property
    def type(self) -> pa.DataType:
        """The smallest decimal that holds them all; text where one is NaN or infinite or there are over 76 digits."""
        digits = self._whole + self._scale
        if self._is_empty:
            return pa.decimal128(_MOST_DIGITS, 0)
        if self._has_others or digits > _MOST_LONG_DIGITS:
            return pa.string()
        return (pa.decimal128 if digits <= _MOST_DIGITS else pa.decimal256)(digits, self._scale)

"""Results as frames of pandas, which is imported by who asks for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dataloader.conversion.violations import REJECT_COLUMNS, Violation, Violations
from dataloader.rejects import Rejects, columns_of, is_within_python, python_values

if TYPE_CHECKING:
    import pandas as pd


def rejects_frame(rejects: Rejects) -> pd.DataFrame:
    """Arrow's types keep what NumPy's would change: a large integer beside a NULL, a decimal, nanoseconds."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    parts = list(rejects.parts())
    values = columns_of(parts)
    first = [name for name in REJECT_COLUMNS if name in values]
    columns = {name: _series(pd, values[name]) for name in dict.fromkeys([*first, *values])}
    if not columns:
        return pd.DataFrame(columns=list(REJECT_COLUMNS))
    frame = pd.DataFrame(columns)
    labels = [label for part in parts for label in part.labels]
    if any(label is not None for label in labels):
        frame.index = pd.Index(labels)
    else:
        frame.index = pd.Index(frame["reject_row"].to_numpy())
    return frame


@dataclass(slots=True)
class Returned:
    """The values that the database has returned of rows.

    Attributes
    ----------
    columns : tuple of str
        What was asked for, and ``inserted`` where a row may have been there.
    labels : sequence or None
        The labels of all rows of the source; None: they have none.
    """

    columns: tuple[str, ...] = ()
    labels: Any = None
    _rows: list[np.ndarray] = field(default_factory=list)
    _values: list[Sequence[Sequence[Any]]] = field(default_factory=list)
    _frame: pd.DataFrame | None = None

    def add(self, rows: np.ndarray, values: Sequence[Sequence[Any]]) -> None:
        """Take in the values of rows, which stand at these places of the source."""
        self._rows.append(rows)
        self._values.append(values)
        self._frame = None

    def frame(self) -> pd.DataFrame:
        """One row for each that is stored, in the order of the source, with the labels that it has there."""
        if self._frame is None:
            self._frame = self._made()
        return self._frame

    def _made(self) -> pd.DataFrame:
        import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

        rows = np.concatenate([np.empty(0, np.int64), *self._rows])
        index = pd.Index(rows) if self.labels is None else pd.Index(self.labels).take(rows)
        columns = [[row[at] for part in self._values for row in part] for at in range(len(self.columns))]
        frame = pd.DataFrame(dict(enumerate(columns)), index=index)
        frame.columns = pd.Index(self.columns)
        return frame if (np.diff(rows) > 0).all() else frame.iloc[np.argsort(rows, kind="stable")]


def history_frame(loads: Iterable[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """The loads of a ledger as a DataFrame."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    return pd.DataFrame(list(loads), columns=list(columns))


def _series(pd: Any, values: pa.ChunkedArray | list[Any]) -> Any:
    """A column of Arrow's type, or of Python objects where pandas does not know that type."""
    if isinstance(values, list):
        return pd.Series(values, dtype=object)
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_interval(kind) or not is_within_python(values):
        return pd.Series(python_values(values), dtype=object)
    return pd.Series(pd.arrays.ArrowExtensionArray(values))


def violations_frame(violations: Violations) -> pd.DataFrame:
    """What does not fit, one to a row."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    return pd.DataFrame(list(violations), columns=list(Violation._fields))


def table_frame(table: pa.Table) -> pd.DataFrame:
    """A table of texts and row numbers, in Arrow's types: '' is no NULL."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame

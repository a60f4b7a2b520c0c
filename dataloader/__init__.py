"""dataloader: rows from a notebook into a database table, fast, exact, and safe to kill.

>>> import dataloader as dl
>>> dl.run(dl.load_dataframe({"id": [1, 2]}, "orders", engine="sqlite:///:memory:", progress="none")).loaded
2
"""

from dataloader.api import (
    load_batches,
    load_dataframe,
    load_files,
    load_history,
    load_rows,
    plan_load,
    start_load,
    validate,
)
from dataloader.conversion.rules import ColumnPlan
from dataloader.conversion.violations import Violation
from dataloader.database.embedded import embedded_postgres
from dataloader.database.engine import connect
from dataloader.errors import (
    CheckpointError,
    ConnectionLost,
    DataLoaderError,
    LoadCancelled,
    LoadError,
    PlanError,
    SchemaMismatch,
    SourceChanged,
    UnfinishedLoad,
    UnsafeCast,
    UnsupportedType,
    ValidationError,
    WriteError,
)
from dataloader.jobs import LoadJob
from dataloader.merges import delete_rows, sync_table, update_rows
from dataloader.plan import LoadPlan
from dataloader.report import LoadReport, ValidationReport
from dataloader.sources.tables import to_row_dicts, to_tuples
from dataloader.sync import run

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "ColumnPlan",
    "ConnectionLost",
    "DataLoaderError",
    "LoadCancelled",
    "LoadError",
    "LoadJob",
    "LoadPlan",
    "LoadReport",
    "PlanError",
    "SchemaMismatch",
    "SourceChanged",
    "UnfinishedLoad",
    "UnsafeCast",
    "UnsupportedType",
    "ValidationError",
    "ValidationReport",
    "Violation",
    "WriteError",
    "connect",
    "delete_rows",
    "embedded_postgres",
    "load_batches",
    "load_dataframe",
    "load_files",
    "load_history",
    "load_rows",
    "plan_load",
    "run",
    "start_load",
    "sync_table",
    "to_row_dicts",
    "to_tuples",
    "update_rows",
    "validate",
]


def load_ipython_extension(shell: object) -> None:
    """``%load_ext dataloader`` gives the magic ``%dataload``."""
    from dataloader import magics  # noqa: PLC0415 - only a notebook needs it

    magics.register(shell)

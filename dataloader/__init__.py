"""dataloader: rows from a notebook into a database table, fast, exact, and safe to kill.

>>> import dataloader as dl
>>> dl.run(dl.load_dataframe({"id": [1, 2]}, "orders", engine="sqlite:///:memory:", progress="none")).loaded
2
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataloader.api.checks import check, load_history, plan_load, validate
    from dataloader.api.comparisons import compare
    from dataloader.api.copies import copy_table
    from dataloader.api.explanations import explain
    from dataloader.api.loads import load_batches, load_dataframe, load_files, load_rows, start_load
    from dataloader.api.merges import delete_rows, sync_table, update_rows
    from dataloader.api.methods import compare_methods
    from dataloader.api.reads import export, read_batches, read_dataframe, start_read
    from dataloader.conversion.rules import ColumnPlan
    from dataloader.conversion.violations import Violation
    from dataloader.database.embedded import embedded_postgres
    from dataloader.database.engine import connect
    from dataloader.database.explanations import Explanation
    from dataloader.errors import (
        CheckpointError,
        ConnectionFailed,
        ConnectionLost,
        DataLoaderError,
        LoadCancelled,
        LoadError,
        PlanError,
        ReadError,
        SchemaMismatch,
        SourceChanged,
        UnfinishedLoad,
        UnsafeCast,
        UnsupportedType,
        ValidationError,
        WriteError,
    )
    from dataloader.jobs import LoadJob, ReadJob
    from dataloader.plan import LoadPlan
    from dataloader.report import CheckReport, Comparison, ExportReport, LoadReport, MethodComparison, ValidationReport
    from dataloader.sources.csv_options import CsvOptions
    from dataloader.sources.tables import to_row_dicts, to_tuples
    from dataloader.sync import run
    from dataloader.wiretap import wire

__version__ = "1.0.0"

__all__ = [
    "CheckReport",
    "CheckpointError",
    "ColumnPlan",
    "Comparison",
    "ConnectionFailed",
    "ConnectionLost",
    "CsvOptions",
    "DataLoaderError",
    "Explanation",
    "ExportReport",
    "LoadCancelled",
    "LoadError",
    "LoadJob",
    "LoadPlan",
    "LoadReport",
    "MethodComparison",
    "PlanError",
    "ReadError",
    "ReadJob",
    "SchemaMismatch",
    "SourceChanged",
    "UnfinishedLoad",
    "UnsafeCast",
    "UnsupportedType",
    "ValidationError",
    "ValidationReport",
    "Violation",
    "WriteError",
    "check",
    "compare",
    "compare_methods",
    "connect",
    "copy_table",
    "delete_rows",
    "embedded_postgres",
    "explain",
    "export",
    "load_batches",
    "load_dataframe",
    "load_files",
    "load_history",
    "load_rows",
    "plan_load",
    "read_batches",
    "read_dataframe",
    "run",
    "start_load",
    "start_read",
    "sync_table",
    "to_row_dicts",
    "to_tuples",
    "update_rows",
    "validate",
    "wire",
]

_HOMES = {
    "api.checks": ("check", "load_history", "plan_load", "validate"),
    "api.comparisons": ("compare",),
    "api.copies": ("copy_table",),
    "api.explanations": ("explain",),
    "api.loads": ("load_batches", "load_dataframe", "load_files", "load_rows", "start_load"),
    "api.merges": ("delete_rows", "sync_table", "update_rows"),
    "api.methods": ("compare_methods",),
    "api.reads": ("export", "read_batches", "read_dataframe", "start_read"),
    "conversion.rules": ("ColumnPlan",),
    "conversion.violations": ("Violation",),
    "database.embedded": ("embedded_postgres",),
    "database.engine": ("connect",),
    "database.explanations": ("Explanation",),
    "errors": (
        "CheckpointError",
        "ConnectionFailed",
        "ConnectionLost",
        "DataLoaderError",
        "LoadCancelled",
        "LoadError",
        "PlanError",
        "ReadError",
        "SchemaMismatch",
        "SourceChanged",
        "UnfinishedLoad",
        "UnsafeCast",
        "UnsupportedType",
        "ValidationError",
        "WriteError",
    ),
    "jobs": ("LoadJob", "ReadJob"),
    "plan": ("LoadPlan",),
    "report": ("CheckReport", "Comparison", "ExportReport", "LoadReport", "MethodComparison", "ValidationReport"),
    "sources.csv_options": ("CsvOptions",),
    "sources.tables": ("to_row_dicts", "to_tuples"),
    "sync": ("run",),
    "wiretap": ("wire",),
}
"""Where the public names live: their modules are imported when they are first used, as pyarrow alone takes 0.2 s."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(_imported(f"dataloader.{module}"), name)
            return value
    raise AttributeError(f"module 'dataloader' has no attribute {name!r}")


def _imported(module: str) -> Any:
    """A module, imported while no garbage is looked for: a third of the time would go into that, and none is made."""
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if is_collecting:
            gc.enable()


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: object) -> None:
    """``%load_ext dataloader`` gives the magics ``%dataload`` and ``%%query``."""
    from dataloader import magics  # noqa: PLC0415 - only a notebook needs it

    magics.register(shell)

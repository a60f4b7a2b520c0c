"""The verbs: loads, checks, merges, reads and copies.

They open the source and hand it on; every decision is made in the plan.
"""

from dataloader.api.checks import check, load_history, plan_load, validate
from dataloader.api.comparisons import compare
from dataloader.api.copies import copy_table
from dataloader.api.explanations import explain
from dataloader.api.loads import load_batches, load_dataframe, load_files, load_rows, start_load
from dataloader.api.merges import delete_rows, sync_table, update_rows
from dataloader.api.methods import compare_methods
from dataloader.api.reads import export, read_batches, read_dataframe, start_read

__all__ = [
    "check",
    "compare",
    "compare_methods",
    "copy_table",
    "delete_rows",
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
    "start_load",
    "start_read",
    "sync_table",
    "update_rows",
    "validate",
]

"""What was done, for its reader: reports as text, as HTML and as frames.

No decision is made here, and nothing is asked of a database.
"""

from dataloader.report.checks import CheckReport
from dataloader.report.comparisons import Comparison
from dataloader.report.exports import ExportReport
from dataloader.report.frames import Returned, history_frame
from dataloader.report.loads import LoadReport
from dataloader.report.methods import Method, MethodComparison
from dataloader.report.validations import ValidationReport

__all__ = [
    "CheckReport",
    "Comparison",
    "ExportReport",
    "LoadReport",
    "Method",
    "MethodComparison",
    "Returned",
    "ValidationReport",
    "history_frame",
]

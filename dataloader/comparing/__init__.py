"""Data beside a table: `columns` is what is compared and by which key, `partitions` finds what differs.

Reads, and writes nothing.
"""

from dataloader.comparing.comparison import compare

__all__ = ["compare"]

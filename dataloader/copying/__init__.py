"""From database to database: what is copied is found out in `survey`, and what its table is made of in `definition`.

`rows` has what is read loaded; `pipe` hands on the bytes between two servers whose types are equal. Composes reading
and loading, and does neither itself.
"""

from dataloader.copying.copies import copy

__all__ = ["copy"]

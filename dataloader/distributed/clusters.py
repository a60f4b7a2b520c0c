"""The adapter of the cluster that holds what was given."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from dataloader.database.addresses import hide_url
from dataloader.errors import PlanError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.reading.query import Params
    from dataloader.report import LoadReport
    from dataloader.sources.paths import Paths


async def load(data: object, table: str | sa.Table, options: dict[str, Any]) -> LoadReport:
    """Load what a cluster holds, by its workers; the adapter has the name of the package that the data is of."""
    options["engine"] = hide_url(options.get("engine"))
    package = type(data).__module__.partition(".")[0]
    return cast("LoadReport", await _adapter(package).load(data, table, options))


async def load_paths(paths: Paths, table: str | sa.Table, options: dict[str, Any]) -> LoadReport:
    """Load files by the workers of a cluster, which a client of Dask's leads to."""
    options["engine"] = hide_url(options.get("engine"))
    return cast("LoadReport", await _adapter("dask").load_paths(paths, table, options))


async def read(query: object, params: Params | None, given: object, **options: Any) -> Any:
    """Make a Dask DataFrame of a table or a query."""
    return await _adapter("dask_reading", "dask").read(query, params, hide_url(given), **options)


def _adapter(name: str, extra: str | None = None) -> Any:
    try:
        return importlib.import_module(f"dataloader.distributed.{name}")
    except ModuleNotFoundError as error:
        hint = f'Install it: pip install "notebook-dataloader[{extra or name}]".'
        raise PlanError(
            f"a cluster needs {str(error.name).partition('.')[0]}, which is not installed", hint=hint
        ) from error

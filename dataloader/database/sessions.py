"""PostgreSQL's sessions: whether a connection has one of its own, and what is set in it."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""PostgreSQL's settings by which it notices within a minute that a client is gone, and gives up the locks."""
_OWN_SESSION = "dataloader_own_session"


def settings_but(chosen: Container[str]) -> Callable[[Any, Any], None]:
    """What makes our settings, except the ones that the caller chose, in a new connection's session.

    Where there is a pooler nothing is set: it gives the session to others. It shows by the backend's pid, which is not
    the one that the connection was told.
    """
    settings = {name: value for name, value in KEEPALIVES.items() if name not in chosen}
    setting = [f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in settings.items()]

    def set_up(connection: Any, record: Any) -> None:
        pid = connection.driver_connection.get_server_pid()
        same = f"pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {pid}"
        sql = f"SELECT {', '.join(setting) or 1} WHERE {same}"
        record.info[_OWN_SESSION] = connection.run_async(lambda driver: driver.execute(sql)) == "SELECT 1"

    return set_up


def has_own_session(connection: AsyncConnection) -> bool:
    """Whether the connection is known to have the same session of the server in each of its transactions."""
    held = connection.sync_connection
    return held is not None and bool(held.connection.info.get(_OWN_SESSION))

"""A proxy on loopback, in a thread of its own: bytes pass both ways, and are counted on the way."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import threading
from collections.abc import Sequence

from dataloader.database.backends.detours import LOOPBACK, Server
from dataloader.wiretap.counts import Counts
from dataloader.wiretap.link import Link

STOP_SECONDS = 2.0
"""How long connections are waited for that end."""


class Proxy:
    """Stands before servers, at a port for each, until it is stopped.

    Whoever can reach this machine's loopback could reach the ports, and a server may trust this process without a
    password: so a client must know the secret, which it puts before the database's name.

    Attributes
    ----------
    secret : str
        It is in no message to the server.
    """

    def __init__(self, counts: Counts) -> None:
        self.secret = f"{secrets.token_hex(16)}/"
        self._counts = counts
        self._ports: dict[tuple[Server, ...], int] = {}
        self._listening: list[asyncio.Server] = []
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="dataloader-wire")
        self._thread.start()

    def ports(self, servers: Sequence[Server]) -> list[int]:
        """A port for each of these servers, which leads to the next one if it does not answer; for any thread."""
        with self._lock:
            return [self._port((*servers[at:], *servers[:at])) for at in range(len(servers))]

    def _port(self, servers: tuple[Server, ...]) -> int:
        if servers not in self._ports:
            opened = socket.create_server((LOOPBACK, 0), backlog=128)
            self._ports[servers] = opened.getsockname()[1]
            asyncio.run_coroutine_threadsafe(self._listen(opened, servers), self._loop)
        return self._ports[servers]

    async def _listen(self, opened: socket.socket, servers: tuple[Server, ...]) -> None:
        def accept() -> asyncio.Protocol:
            link = Link(servers, self._counts, self._knows)
            self._links.add(link)
            link.ended.add_done_callback(lambda _: self._links.discard(link))
            return link.client

        self._listening.append(await self._loop.create_server(accept, sock=opened))

    def _knows(self, database: bytes) -> bytes | None:
        """The database's name without the secret, None if that is not before it."""
        secret = self.secret.encode()
        return database[len(secret) :] if hmac.compare_digest(database[: len(secret)], secret) else None

    def stop(self) -> None:
        """End what is open, and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._stop()))
            self._thread.join(2 * STOP_SECONDS)

    async def _stop(self) -> None:
        for one in self._listening:
            one.close()
        links = [*self._links]
        for link in links:
            link.end()
        if links:
            await asyncio.wait([link.ended for link in links], timeout=STOP_SECONDS)
        for link in self._links:
            link.end(at_once=True)
        self._loop.call_later(0.01, self._loop.stop)  # sockets are closed by what aborts have scheduled

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

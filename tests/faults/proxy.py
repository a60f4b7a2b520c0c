"""A TCP proxy on loopback that reads PostgreSQL's frontend messages, and freezes or cuts the network at one of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import sqlalchemy as sa

Act = Literal["freeze", "freeze the reply", "reset", "lose the reply"]
"""What happens at a message: "freeze" and "reset" keep it from the server, the others keep the reply from the client.

A frozen network carries nothing in either direction, and nobody is told. A reset one tells the client at once.
"""
_HOST = "127.0.0.1"
_STARTUPS = {80877103: "SSLRequest", 80877104: "GSSENCRequest", 80877102: "CancelRequest"}
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """What the client sends: the protocol's letter for it, and its SQL if it has one.

    A Parse (``P``) and a Bind (``B``) have the name of the statement, a Bind its SQL.
    """

    kind: str
    sql: str
    name: str = ""


Place = Callable[[Message], bool]


def claim(message: Message) -> bool:
    """A chunk is claimed: the first statement of its transaction that writes."""
    return message.kind == "B" and message.sql.startswith("INSERT INTO") and "dataloader_chunks" in message.sql


def copy_data(message: Message) -> bool:
    """Rows are under way."""
    return message.kind == "d"


def commit(message: Message) -> bool:
    """A transaction is committed: a chunk's, or one that enters the load or its end."""
    return message.kind == "Q" and message.sql.startswith("COMMIT")


@dataclass(slots=True)
class Trap:
    """What is to happen at which message, once."""

    place: Place
    act: Act
    wait: int
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    def springs(self, message: Message) -> bool:
        if self.sprung.is_set() or not self.place(message):
            return False
        self.wait -= 1
        if self.wait > 0:
            return False
        self.sprung.set()
        return True


class Proxy:
    """Stands between a client on TCP and a server on a Unix socket, until the block ends.

    Parameters
    ----------
    upstream : str
        The server's socket.

    Attributes
    ----------
    linger : float
        How many seconds lie between what the server says last and the end of the connection.
    links : list of Link
        The connections so far.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.linger = 0.0
        self._trap: Trap | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.links: list[Link] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, _HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.reset()

    @classmethod
    def before(cls, url: sa.URL) -> Proxy:
        """A proxy for the server of a URL."""
        return cls(f"{url.query['host']}/.s.PGSQL.5432")

    def url(self, direct: sa.URL) -> sa.URL:
        """The URL that leads through the proxy."""
        return direct.set(host=_HOST, port=self._server.sockets[0].getsockname()[1], query={})

    def at(self, place: Place, act: Act, *, nth: int = 1) -> Trap:
        """Have something happen at the `nth` message from now on that is of a kind."""
        self._trap = Trap(place, act, nth)
        return self._trap

    def thaw(self) -> None:
        """Let everything through that the frozen network has kept."""
        self.flowing.set()

    async def reset(self) -> None:
        """Cut every connection off."""
        links = tuple(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def trapped(self, message: Message) -> Act | None:
        """What happens at this message."""
        return self._trap.act if self._trap is not None and self._trap.springs(message) else None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links.append(Link(self, reader, writer))
        link = asyncio.create_task(self.links[-1].carry())
        self._links.add(link)
        link.add_done_callback(self._links.discard)


class Link:
    """One connection through the proxy.

    Attributes
    ----------
    is_mute : bool
        Whether the client hears nothing of what the server says.
    """

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._is_startup = True
        self._statements: dict[bytes, str] = {}
        self._loses_replies = False
        self.is_mute = False

    async def carry(self) -> None:
        """Carry both directions until one side ends; the client sees a reset if the proxy ended it."""
        try:
            await self._proxy.flowing.wait()
            reader, server = await asyncio.open_unix_connection(self._proxy.upstream)
            with contextlib.closing(server):
                await self._carry(reader, server)
        except* (_Ended, ConnectionError):
            self._writer.close()
        except* _Reset:
            _reset(self._writer)
        finally:
            _reset(self._writer)

    async def _carry(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._requests(server))
            group.create_task(self._replies(reader))

    async def _requests(self, server: asyncio.StreamWriter) -> None:
        while True:
            try:
                raw, message = await self._message()
            except (asyncio.IncompleteReadError, ConnectionError):
                await self._proxy.flowing.wait()
                raise _Ended from None
            act = self._proxy.trapped(message)
            if act == "reset":
                raise _Reset
            if act == "lose the reply":
                self._loses_replies = True
            elif act == "freeze":
                self._proxy.flowing.clear()
            await self._proxy.flowing.wait()
            if act == "freeze the reply":
                self._proxy.flowing.clear()
            server.write(raw)
            await server.drain()

    async def _replies(self, reader: asyncio.StreamReader) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            if self._loses_replies:
                raise _Reset
            await self._proxy.flowing.wait()
            if not self.is_mute:
                self._writer.write(piece)
                await self._writer.drain()
        await asyncio.sleep(3600 if self.is_mute else self._proxy.linger)
        await self._proxy.flowing.wait()
        raise _Ended

    async def _message(self) -> tuple[bytes, Message]:
        head = await self._reader.readexactly(4 if self._is_startup else 5)
        body = await self._reader.readexactly(int.from_bytes(head[-4:]) - 4)
        if self._is_startup:
            kind = _STARTUPS.get(int.from_bytes(body[:4]), "Startup")
            self._is_startup = kind in {"SSLRequest", "GSSENCRequest"}
            return head + body, Message(kind, "")
        return head + body, self._understood(chr(head[0]), body)

    def _understood(self, kind: str, body: bytes) -> Message:
        if kind == "Q":
            return Message(kind, body[:-1].decode())
        if kind == "P":
            name, sql, _ = body.split(b"\0", 2)
            self._statements[name] = sql.decode()
            return Message(kind, self._statements[name], name.decode())
        if kind == "B":
            _, name, _ = body.split(b"\0", 2)
            return Message(kind, self._statements.get(name, ""), name.decode())
        return Message(kind, "")


class _Ended(Exception):
    """A side has ended the connection."""


class _Reset(Exception):
    """The network has."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a TCP connection by a reset instead of a goodbye, unless that has been said."""
    if writer.is_closing():
        return
    raw = writer.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

"""One connection through the proxy: how it begins, and bytes that pass both ways at the pace of the slower side."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import cast

from dataloader.database.backends.detours import Server
from dataloader.wiretap.conversation import Conversation
from dataloader.wiretap.counts import Counts
from dataloader.wiretap.messages import CANCEL
from dataloader.wiretap.upstream import connect, without_channel_binding

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
MOST_STARTUP_BYTES = 10_000
"""PostgreSQL's own limit."""
HIGH_WATER = 1 << 20
"""When so many bytes wait for the slower side, the faster one is no longer read."""
_TERMINATE = b"X\x00\x00\x00\x04"


class Side(asyncio.Protocol):
    """One of the two connections of a link.

    Attributes
    ----------
    take : callable
        What is done with the bytes that come.
    peer : Side
        The other one, which is not read while this one is full.
    """

    def __init__(self, take: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self.take = take
        self.peer = self
        self._ended = ended
        self._transport: asyncio.Transport | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is no connection."""
        return self._transport is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.take(data)

    def pause_writing(self) -> None:
        self.peer.pause()

    def resume_writing(self) -> None:
        self.peer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._ended()

    def write(self, piece: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(piece)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self, *, at_once: bool = False) -> None:
        """Close it when all is sent that was given, or at once."""
        if self._transport is not None:
            (self._transport.abort if at_once else self._transport.close)()


class Link:
    """A client's connection, and the server's that belongs to it.

    Parameters
    ----------
    servers : sequence of Server
        Those that may be connected to, the first one first.
    knows : callable
        Given a database's name as the client says it, the name without the secret, or None.

    Attributes
    ----------
    client : Side
        Where the client's bytes come.
    ended : asyncio.Future
        Done when both sides are.
    """

    def __init__(self, servers: Sequence[Server], counts: Counts, knows: Callable[[bytes], bytes | None]) -> None:
        self._servers = servers
        self._counts = counts
        self._knows = knows
        self._conversation = Conversation(counts)
        self._reaching: asyncio.Task[None] | None = None
        self._early = b""
        self.client = Side(self._start, self._close)
        self._server = Side(self._first_reply, self._close)
        self.client.peer, self._server.peer = self._server, self.client
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _start(self, piece: bytes) -> None:
        """Take what the client begins with, until it is complete."""
        self._early += piece
        while self._reaching is None and len(self._early) >= 8:
            size, code = struct.unpack_from(">II", self._early)
            if not 8 <= size <= MOST_STARTUP_BYTES:
                self.client.close()
                return
            if len(self._early) < size:
                return
            packet, self._early = self._early[:size], self._early[size:]
            if code in {SSL_REQUEST, GSS_REQUEST}:
                self.client.write(b"N")  # the way here is loopback
            elif not self._begin(packet, is_cancel=code == CANCEL_REQUEST):
                return

    def _begin(self, packet: bytes, *, is_cancel: bool) -> bool:
        """Reach for the server, if the client may."""
        if is_cancel:
            with self._counts.lock:
                self._counts.connections.send(CANCEL, 1, len(packet))
        elif (known := self._without_secret(packet)) is None:
            self._refuse("28000", "this port belongs to dl.wire() in another program")
            return False
        else:
            packet = known
            self._conversation.begin(len(packet))
        self.client.pause()
        self._reaching = asyncio.get_running_loop().create_task(self._reach(packet))
        return True

    def _without_secret(self, packet: bytes) -> bytes | None:
        """What a client asks to log in with, as the server is to see it; None if the client is not ours."""
        parts = packet[8:].split(b"\0")
        at = 2 * parts[::2].index(b"database") + 1 if b"database" in parts[::2] else 0
        known = self._knows(parts[at]) if at else None
        if known is None:
            return None
        body = packet[4:8] + b"\0".join([*parts[:at], known, *parts[at + 1 :]])
        return struct.pack(">I", len(body) + 4) + body

    async def _reach(self, packet: bytes) -> None:
        """Connect to the server, and let the bytes flow."""
        try:
            server = await connect(self._servers, self._server)
        except Exception as error:
            reason = f"dl.wire() could not connect to {self._servers[-1].host}: {error or type(error).__name__}"
            self._refuse("08001", reason)
            return
        if self.client.is_over:  # it has not waited
            self._server.close()
            return
        self._server.write(packet)
        self.client.take = self._to_server
        if self._early:
            self._to_server(self._early)
        self._early = b""
        if server.encryption is None:
            self._server.take = self._to_client
        self.client.resume()

    def _to_server(self, piece: bytes) -> None:
        self._conversation.send(piece)  # first: who has the answer finds it counted
        self._server.write(piece)

    def _to_client(self, piece: bytes) -> None:
        self._conversation.receive(piece)
        self.client.write(piece)

    def _first_reply(self, piece: bytes) -> None:
        """Over TLS the server may offer what is possible over TLS only."""
        self._early += piece
        if (reply := without_channel_binding(self._early)) is not None:
            self._early = b""
            self._server.take = self._to_client
            self._to_client(reply)

    def _refuse(self, state: str, message: str) -> None:
        """End the client's connection with an error."""
        fields = b"".join(one.encode() + b"\0" for one in ("SFATAL", "VFATAL", f"C{state}", f"M{message}"))
        self.client.write(b"E" + struct.pack(">I", len(fields) + 5) + fields + b"\0")
        self.client.close()

    def end(self, *, at_once: bool = False) -> None:
        """Take leave of the server where nothing is under way, and close both sides."""
        if self._reaching is not None:
            self._reaching.cancel()
        if self._conversation.is_idle:
            self._server.write(_TERMINATE)
        self._close(at_once=at_once)

    def _close(self, *, at_once: bool = False) -> None:
        """Close what is open: what is under way is sent before. Called again when a side has ended."""
        for side in (self.client, self._server):
            side.close(at_once=at_once)
        if self.client.is_over and self._server.is_over and not self.ended.done():
            self.ended.set_result(None)

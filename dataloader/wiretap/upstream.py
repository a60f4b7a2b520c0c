"""The proxy's own way to the server: over TCP or a Unix socket, encrypted as the client would have had it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence

from dataloader.database.backends.detours import Server

_SSL_REQUEST = struct.pack(">II", 8, 80877103)
CONNECT_SECONDS = 10.0
PLUS = b"SCRAM-SHA-256-PLUS\0"
"""The mechanism that binds a password to the encryption, which ends at the proxy."""


async def connect(servers: Sequence[Server], side: asyncio.Protocol) -> Server:
    """Connect a side to the first server that answers, and return which one it is.

    Raises
    ------
    OSError, asyncio.TimeoutError
        When none does, or does not encrypt as it must: what the last one said.
    """
    for server in servers[:-1]:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            return await _connected(server, side)
    return await _connected(servers[-1], side)


async def _connected(server: Server, side: asyncio.Protocol) -> Server:
    async with asyncio.timeout(CONNECT_SECONDS):
        if server.port is None:
            await asyncio.get_running_loop().create_unix_connection(lambda: side, server.host)
            return server
        try:
            await _connect(server, side, server.encryption)
        except ssl.SSLError:
            if server.must_encrypt:
                raise
            await _connect(server, side, None)
        return server


async def _connect(server: Server, side: asyncio.Protocol, encryption: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    async with _opened(server.host, server.port or 0) as raw:
        if encryption is not None and not server.encrypts_first:
            await loop.sock_sendall(raw, _SSL_REQUEST)
            answer = await loop.sock_recv(raw, 1)
            if answer != b"S" and server.must_encrypt:
                raise ConnectionError("the server does not encrypt")
            if answer != b"S":
                encryption = None
        name = None if encryption is None else server.host
        await loop.create_connection(lambda: side, sock=raw, ssl=encryption, server_hostname=name)


@contextlib.asynccontextmanager
async def _opened(host: str, port: int) -> AsyncIterator[socket.socket]:
    """A socket to the first address of a host that answers; closed if something is raised."""
    loop = asyncio.get_running_loop()
    failed: OSError = ConnectionError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        raw = socket.socket(family, kind, protocol)
        raw.setblocking(False)
        try:
            await loop.sock_connect(raw, address)
        except OSError as error:
            raw.close()
            failed = error
            continue
        try:
            yield raw
        except BaseException:
            raw.close()
            raise
        return
    raise failed


def without_channel_binding(reply: bytes) -> bytes | None:
    """What a server answers first, without what is possible over TLS only; None if it is not complete yet."""
    at = 0
    while len(reply) >= at + 9:
        size = int.from_bytes(reply[at + 1 : at + 5]) + 1
        if len(reply) < at + size:
            return None
        if reply[at : at + 1] == b"v":  # which version of the protocol it speaks
            at += size
            continue
        if reply[at : at + 1] != b"R" or int.from_bytes(reply[at + 5 : at + 9]) != 10:
            return reply
        body = reply[at + 5 : at + size].replace(PLUS, b"")
        return reply[:at] + b"R" + struct.pack(">I", len(body) + 4) + body + reply[at + size :]
    return None

"""One connection: which statement a message is about, and when the client had to wait for an answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from dataloader.wiretap.counts import Counts, Tally
from dataloader.wiretap.messages import NAMING, RECEIVED, SENT, STARTUP, Lost, MessageReader

_QUERY, _SYNC, _CALL, _EXECUTE, _DESCRIBE = b"QSFED"
_PARSE, _BIND, _CLOSE, _FLUSH = b"PBCH"
_PASSWORD, _TERMINATE, _COPY_DONE, _COPY_FAIL = b"pXcf"
_ENDS = frozenset((_QUERY, _SYNC, _CALL))
"""What the server answers with ReadyForQuery at last, whatever became of it."""
_ENDS_OF_COPY = frozenset((_COPY_DONE, _COPY_FAIL))
_ASKS = _ENDS | _ENDS_OF_COPY | {_FLUSH, _PASSWORD}
"""After these the client waits; after the others it goes on sending."""
_ANSWERED = _ENDS | {_PARSE, _BIND, _DESCRIBE, _EXECUTE, _CLOSE}
_READY, _ERROR, _COPY_IN, _AUTHENTICATION = b"ZEGR"
_ANSWERS = {
    ord("1"): _PARSE,
    ord("2"): _BIND,
    ord("3"): _CLOSE,
    ord("T"): _DESCRIBE,
    ord("n"): _DESCRIBE,
    ord("C"): _EXECUTE,
    ord("I"): _EXECUTE,
    ord("s"): _EXECUTE,
}
"""What each of the server's messages completes, if that is what it is working on."""


class Conversation:
    """Follows both directions of a connection and counts, in the order in which the bytes pass.

    A round trip begins with the first message that the client sends when it waits for nothing. It ends when all that
    was asked for is answered, or a password is asked for. A COPY of the client's rows is one: asyncpg sends them before
    it is told that they are awaited, others wait for that; which of the two it was cannot be seen.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._requests = MessageReader(NAMING)
        self._replies = MessageReader()
        self._names: dict[bytes, Tally] = {}
        self._portals: dict[bytes, Tally] = {}
        self._pending: deque[tuple[int, Tally]] = deque()
        self._last = counts.connections
        self._opened: float | None = None
        self._asked = self._logging_in = True
        self._copies_in = self._is_lost = False

    @property
    def is_idle(self) -> bool:
        """Whether the client is logged in and nothing is under way."""
        return self._opened is None and not self._logging_in and not self._is_lost

    def begin(self, size: int) -> None:
        """The client has asked to log in."""
        with self._counts.lock:
            self._counts.connections.send(STARTUP, 1, size)
            self._opened = time.perf_counter()

    def send(self, piece: bytes) -> None:
        """Count what the client sends."""
        self._follow(self._requests, self._sent, piece)

    def receive(self, piece: bytes) -> None:
        """Count what the server sends."""
        self._follow(self._replies, self._received, piece)

    def _follow(self, reader: MessageReader, note: Callable[[float, int, int, int, bytes], None], piece: bytes) -> None:
        if self._is_lost:
            return
        now = time.perf_counter()
        with self._counts.lock:
            try:
                for kind, count, size, body in reader.feed(piece):
                    note(now, kind, count, size, body)
            except Lost:  # it is passed on all the same
                self._is_lost = True

    def _sent(self, now: float, kind: int, count: int, size: int, body: bytes) -> None:
        if kind in NAMING:
            tally = self._last = self._named(kind, body)
        else:
            _check(kind, SENT)
            tally = self._counts.connections if kind in {_PASSWORD, _TERMINATE} else self._last
        tally.send(kind, count, size)
        if kind == _TERMINATE:
            return
        self._asked = kind in _ASKS
        if self._opened is None:
            self._opened = now
        if kind in _ENDS_OF_COPY:
            self._end_copy(kind, tally)
        if kind in _ANSWERED and not self._copies_in:
            self._pending.extend([(kind, tally)] * count)

    def _named(self, kind: int, body: bytes) -> Tally:
        """The tally of what a message is about, by the names that statements and portals have."""
        if kind == _BIND:
            portal, name, *_ = body.split(b"\0", 2)
            tally = self._portals[portal] = self._names.get(name, self._last)
            return tally
        if kind == _EXECUTE:
            return self._portals.get(body[: body.index(0)], self._last)
        if kind == _QUERY:
            return self._counts.tally(body.rstrip(b"\0"))
        if kind == _PARSE:
            name, sql, *_ = body.split(b"\0", 2)
            tally = self._names[name] = self._counts.tally(sql)
            return tally
        of = self._names if body[:1] == b"S" else self._portals
        return (of.pop if kind == _CLOSE else of.get)(body[1:-1], self._last)

    def _received(self, now: float, kind: int, count: int, size: int, _body: bytes) -> None:
        _check(kind, RECEIVED)
        tally = self._pending[0][1] if self._pending else self._last
        tally.receive(kind, count, size)
        if self._logging_in:
            self._log_in(now, kind)
            return
        if kind == _READY:
            self._drop_to_end()
            tally = self._pending.popleft()[1] if self._pending else tally
            while self._pending and self._pending[0][0] in _ENDS_OF_COPY:  # of a COPY that was refused
                self._pending.popleft()
        elif kind == _ERROR:
            self._copies_in = False
            self._drop_to_end()
        elif kind == _COPY_IN:
            self._await_rows()
        elif kind in _ANSWERS:
            tally = self._answered(_ANSWERS[kind], count, tally)
        if self._asked and not self._pending:
            self._close(now, tally)

    def _answered(self, request: int, count: int, tally: Tally) -> Tally:
        """Requests of a kind are answered, if that is what the server is working on."""
        for _ in range(count):
            if self._pending and self._pending[0][0] == request:
                tally = self._pending.popleft()[1]
        return tally

    def _log_in(self, now: float, kind: int) -> None:
        if kind in {_AUTHENTICATION, _ERROR, _READY}:
            self._close(now, self._counts.connections)
        self._logging_in = kind != _READY

    def _drop_to_end(self) -> None:
        """Forget what the server passes over after an error, up to the end of what was sent together."""
        while self._pending and self._pending[0][0] not in _ENDS:
            self._pending.popleft()

    def _end_copy(self, kind: int, tally: Tally) -> None:
        """The client has sent all rows, maybe before the server says that it awaits them."""
        if not self._copies_in:
            self._pending.append((kind, tally))
        self._copies_in = False

    def _await_rows(self) -> None:
        """The server awaits rows: a Sync that was sent before their end has no meaning."""
        copying = [self._pending.popleft()] if self._pending else []
        self._copies_in = True
        while self._pending and self._copies_in:
            self._copies_in = self._pending.popleft()[0] not in _ENDS_OF_COPY
        self._pending.extendleft(copying)

    def _close(self, now: float, tally: Tally) -> None:
        if self._opened is not None:
            tally.round_trips += 1
            tally.seconds += now - self._opened
            self._opened = None


def _check(kind: int, known: dict[int, str]) -> None:
    """Refuse what is no message: the bytes are not read as they are meant."""
    if kind not in known:
        raise Lost

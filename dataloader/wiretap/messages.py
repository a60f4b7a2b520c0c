"""PostgreSQL's messages, protocol version 3: their names, where one ends and the next begins, and a statement's text.

Only the head of a message is looked at, and the beginning of those that name a statement: no value is kept.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import Struct

STARTUP, CANCEL = 0, 1
"""In the place of the byte that the messages do not have with which a connection begins."""
SENT = {
    STARTUP: "Startup",
    CANCEL: "CancelRequest",
    ord("P"): "Parse",
    ord("B"): "Bind",
    ord("D"): "Describe",
    ord("E"): "Execute",
    ord("C"): "Close",
    ord("H"): "Flush",
    ord("S"): "Sync",
    ord("Q"): "Query",
    ord("d"): "CopyData",
    ord("c"): "CopyDone",
    ord("f"): "CopyFail",
    ord("F"): "FunctionCall",
    ord("p"): "Password",
    ord("X"): "Terminate",
}
"""What a client sends, by the byte that begins it."""
RECEIVED = {
    ord("1"): "ParseComplete",
    ord("2"): "BindComplete",
    ord("3"): "CloseComplete",
    ord("t"): "ParameterDescription",
    ord("T"): "RowDescription",
    ord("n"): "NoData",
    ord("D"): "DataRow",
    ord("C"): "CommandComplete",
    ord("I"): "EmptyQueryResponse",
    ord("s"): "PortalSuspended",
    ord("Z"): "ReadyForQuery",
    ord("G"): "CopyInResponse",
    ord("H"): "CopyOutResponse",
    ord("W"): "CopyBothResponse",
    ord("d"): "CopyData",
    ord("c"): "CopyDone",
    ord("E"): "ErrorResponse",
    ord("N"): "NoticeResponse",
    ord("A"): "NotificationResponse",
    ord("V"): "FunctionCallResponse",
    ord("R"): "Authentication",
    ord("S"): "ParameterStatus",
    ord("K"): "BackendKeyData",
    ord("v"): "NegotiateProtocolVersion",
}
"""What a server sends."""
NAMING = frozenset(b"PBDECQ")
"""The client's messages that name a statement."""
SHOWN_BYTES = 1 << 18
"""So much of a statement is looked at."""
_LENGTH = Struct(">I").unpack_from
_HEAD = 5


class Lost(ValueError):
    """What is read is not a message of the protocol."""


class MessageReader:
    """Finds the messages in the bytes of one direction, in whatever pieces they come.

    Parameters
    ----------
    naming : frozenset of int
        The kinds of which the beginning of the body is wanted.
    """

    __slots__ = ("_naming", "_rest", "_skip")

    def __init__(self, naming: frozenset[int] = frozenset()) -> None:
        self._naming = naming
        self._rest = b""
        self._skip = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages that begin in a piece: their kind, how many in a row, their bytes, and a body's beginning.

        Raises
        ------
        Lost
            When this is no such protocol.
        """
        data, at, end = self._rest + piece, self._skip, len(self._rest) + len(piece)
        while at + _HEAD <= end:
            kind, size = data[at], _LENGTH(data, at + 1)[0] + 1
            if size < _HEAD:
                raise Lost
            if kind in self._naming:
                wanted = at + min(size, SHOWN_BYTES)
                if wanted > end:
                    break
                yield kind, 1, size, data[at + _HEAD : wanted]
                at += size
            else:
                count, first = 0, at
                while True:  # rows come by the million: as little as can be is done for each
                    at += size
                    count += 1
                    if at + _HEAD > end or data[at] != kind:
                        break
                    size = _LENGTH(data, at + 1)[0] + 1
                    if size < _HEAD:
                        break
                yield kind, count, at - first, b""
        self._rest, self._skip = data[at:], max(0, at - end)


_UNSEEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<value>
        \b[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
        |(?:\b[bBxXnN])?'(?:[^']|'')*(?:'|\Z)
        |\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
        |\b\d[\w.]*(?:[eE][+-]?\d+)?
    )
    |(?P<name>"(?:[^"]|"")*(?:"|\Z)|[^\W\d][\w$]*+)
    |(?P<space>\s+)""",
    re.VERBOSE | re.DOTALL,
)
_PARAMETER = re.compile(
    r"\$\d+(?:::(?:DOUBLE PRECISION|[\w.]+)(?:\(\d+(?:,\s*\d+)?\))?(?: WITH(?:OUT)? TIME ZONE)?(?:\[\])*)?"
)
"""With the cast that SQLAlchemy writes after it."""
_VALUES = re.compile(r"\(\s*…(?:\s*,\s*…)*\s*\)")
_AGAIN = re.compile(r"(\(…\))(?:\s*,\s*\(…\))+(?:\s*,\s*\(?[…,\s]*$)?")
"""What follows is cut off where a statement is long."""


def statement_label(sql: str) -> str:
    """A statement without its values and comments: what is written in it may be a secret.

    >>> statement_label("INSERT INTO orders (id, note) VALUES ($1::INTEGER, 'it''s'), (2, 'x')  -- now")
    'INSERT INTO orders (id, note) VALUES (…), …'
    """
    parameters = _without_repetition(_PARAMETER.sub("…", sql))  # a page of 1,000 rows has thousands
    return _without_repetition(_UNSEEN.sub(_seen, parameters).strip())


def _without_repetition(sql: str) -> str:
    return _AGAIN.sub(r"\1, …", _VALUES.sub("(…)", sql))


def _seen(found: re.Match[str]) -> str:
    if found["name"] is not None:
        return found["name"]
    return "…" if found["value"] is not None else " "

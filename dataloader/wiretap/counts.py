"""What is counted: messages, bytes, round trips and seconds, for each statement."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from dataloader.wiretap.messages import RECEIVED, SENT, statement_label

CONNECTIONS = "(connections)"
"""What stands in the place of a statement for what opens and ends connections, and for cancels."""
OTHERS = "(other statements)"
MOST_STATEMENTS = 1_000
"""Statements beyond these are counted together: a program may write each one anew."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one kind from one side.

    Attributes
    ----------
    kind : str
        As PostgreSQL's documentation calls it.
    """

    kind: str
    count: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one statement, or several that differ in their values only, put on the wire.

    Attributes
    ----------
    statement : str
        Its text without values; ``(connections)`` for logging in, leaving, and cancels.
    sent, received : dict of str to Messages
        By kind.
    round_trips : int
        How often the client sent something and could only go on after an answer.
    seconds : float
        From the first byte that was sent to the last of the answer, summed over the round trips.
    """

    statement: str
    sent: dict[str, Messages]
    received: dict[str, Messages]
    round_trips: int
    seconds: float

    def count(self, kind: str) -> int:
        """How many messages of a kind the client sent."""
        return self.sent[kind].count if kind in self.sent else 0

    @property
    def rows(self) -> int:
        """Messages with rows of a result; of a COPY they are CopyData, of a binary one also the end of the rows."""
        return sum(self.received[kind].count for kind in ("DataRow", "CopyData") if kind in self.received)

    @property
    def sent_bytes(self) -> int:
        return sum(one.nbytes for one in self.sent.values())

    @property
    def received_bytes(self) -> int:
        return sum(one.nbytes for one in self.received.values())


class Tally:
    """The step of a statement while it is counted: lists by a message's first byte, as rows come by the million."""

    __slots__ = ("received", "received_bytes", "round_trips", "seconds", "sent", "sent_bytes", "statement")

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self.sent, self.sent_bytes, self.received, self.received_bytes = ([0] * 256 for _ in range(4))
        self.round_trips = 0
        self.seconds = 0.0

    def send(self, kind: int, count: int, size: int) -> None:
        """Count messages of the client's."""
        self.sent[kind] += count
        self.sent_bytes[kind] += size

    def receive(self, kind: int, count: int, size: int) -> None:
        """Count messages of the server's."""
        self.received[kind] += count
        self.received_bytes[kind] += size

    def step(self) -> Step:
        """What is counted so far."""
        sent = _messages(SENT, self.sent, self.sent_bytes)
        received = _messages(RECEIVED, self.received, self.received_bytes)
        return Step(self.statement, sent, received, self.round_trips, self.seconds)


def _messages(names: dict[int, str], counts: list[int], sizes: list[int]) -> dict[str, Messages]:
    return {name: Messages(name, counts[kind], sizes[kind]) for kind, name in names.items() if counts[kind]}


def together(statement: str, steps: Iterable[Step]) -> Step:
    """Several steps as one."""
    known = [*steps]
    sent, received = (_summed(getattr(one, side) for one in known) for side in ("sent", "received"))
    return Step(statement, sent, received, sum(one.round_trips for one in known), sum(one.seconds for one in known))


def _summed(parts: Iterable[dict[str, Messages]]) -> dict[str, Messages]:
    found: dict[str, Messages] = {}
    for one in (one for part in parts for one in part.values()):
        before = found.get(one.kind, Messages(one.kind, 0, 0))
        found[one.kind] = Messages(one.kind, before.count + one.count, before.nbytes + one.nbytes)
    return found


class Counts:
    """The steps of all connections, in the order in which they first came.

    Attributes
    ----------
    lock : threading.Lock
        Held while a piece is counted, and while the counts are copied.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections = Tally(CONNECTIONS)
        self._tallies: dict[str, Tally] = {}
        self._known: dict[int, Tally] = {}  # by what was sent, which holds values and is not kept

    def tally(self, sql: bytes) -> Tally:
        """That of a statement."""
        if (known := self._known.get(hash(sql))) is None:
            label = statement_label(sql.decode("utf-8", "replace"))
            if label not in self._tallies and len(self._tallies) >= MOST_STATEMENTS:
                label = OTHERS
            known = self._tallies.get(label) or self._tallies.setdefault(label, Tally(label))
            if len(self._known) < MOST_STATEMENTS:
                self._known[hash(sql)] = known
        return known

    def steps(self) -> tuple[Step, ...]:
        """All as they are now; that of the connections comes first."""
        with self.lock:
            found = [one.step() for one in (self.connections, *self._tallies.values())]
        return tuple(one for one in found if one.sent or one.received)

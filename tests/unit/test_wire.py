"""What is read of PostgreSQL's protocol: whole messages in whatever pieces they come, and statements without values."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloader.wiretap.conversation import Conversation
from dataloader.wiretap.counts import MOST_STATEMENTS, OTHERS, Counts, Step
from dataloader.wiretap.messages import RECEIVED, SENT, statement_label
from dataloader.wiretap.tables import INDENT, MOST_ROWS, TEXT_WIDTH, as_frame, as_html, as_text
from dataloader.wiretap.upstream import without_channel_binding

KINDS = {name: kind for names in (RECEIVED, SENT) for kind, name in names.items()}
SENT_KINDS, RECEIVED_KINDS = ({name: kind for kind, name in names.items()} for names in (SENT, RECEIVED))
SECRET = "S3CRET"


def message(kind: int, body: bytes = b"") -> bytes:
    return bytes([kind]) + struct.pack(">I", len(body) + 4) + body


def sent(name: str, *parts: str) -> bytes:
    return message(SENT_KINDS[name], b"".join(one.encode() + b"\0" for one in parts))


def received(*names: str) -> bytes:
    return b"".join(message(RECEIVED_KINDS[name], b"x" * 7) for name in names)


LOGGED_IN = received("Authentication", "ParameterStatus", "BackendKeyData", "ReadyForQuery")
MANY = 500
EXECUTEMANY = [
    (True, sent("Parse", "s1", "INSERT INTO t VALUES ($1)") + sent("Describe", "Ss1") + sent("Flush")),
    (False, received("ParseComplete", "ParameterDescription", "NoData")),
    (True, (sent("Bind", "", "s1", "v" * 50) + sent("Execute", "")) * MANY),
    (False, received("BindComplete", "CommandComplete") * (MANY // 2)),
    (True, sent("Sync")),
    (False, received("BindComplete", "CommandComplete") * (MANY // 2) + received("ReadyForQuery")),
]
COPIES = [
    (True, sent("Query", "COPY t FROM STDIN")),
    (True, message(SENT_KINDS["CopyData"], b"r" * 70_000) * 3 + sent("CopyDone")),
    (False, received("CopyInResponse", "CommandComplete", "ReadyForQuery")),
    (True, sent("Query", "COPY t TO STDOUT")),
    (False, received("CopyOutResponse", *["CopyData"] * 1000, "CopyDone", "CommandComplete", "ReadyForQuery")),
]
LEAVES = [(True, sent("Terminate"))]
FAILS = [
    (True, sent("Parse", "", "SELECT wrong") + sent("Bind", "", "") + sent("Execute", "")),
    (False, received("ErrorResponse")),
    (True, sent("Bind", "", "") + sent("Execute", "") + sent("Sync")),
    (False, received("ReadyForQuery")),
    (True, sent("Parse", "", "SELECT right") + sent("Bind", "", "") + sent("Execute", "") + sent("Sync")),
    (False, received("ParseComplete", "BindComplete", "DataRow", "CommandComplete", "ReadyForQuery")),
]


def steps_of(turns: list[tuple[bool, bytes]], cuts: int = 1 << 30) -> dict[str, Step]:
    """What is counted of a conversation, cut into pieces of so many bytes."""
    counts = Counts()
    conversation = Conversation(counts)
    conversation.begin(50)
    for is_sent, whole in [(False, LOGGED_IN), *turns]:
        for at in range(0, len(whole), cuts):
            (conversation.send if is_sent else conversation.receive)(whole[at : at + cuts])
    return {one.statement: one for one in counts.steps()}


def counted(step: Step) -> tuple[dict[str, int], dict[str, int], int]:
    return (
        {name: one.count for name, one in step.sent.items()},
        {name: one.count for name, one in step.received.items()},
        step.round_trips,
    )


def test_an_executemany_is_two_round_trips_however_its_answers_come() -> None:
    assert counted(steps_of(EXECUTEMANY)["INSERT INTO t VALUES (…)"]) == (
        {"Parse": 1, "Bind": MANY, "Describe": 1, "Execute": MANY, "Flush": 1, "Sync": 1},
        {
            "ParseComplete": 1,
            "ParameterDescription": 1,
            "NoData": 1,
            "BindComplete": MANY,
            "CommandComplete": MANY,
            "ReadyForQuery": 1,
        },
        2,
    )


def test_copies_are_one_round_trip_each_and_every_byte_is_counted() -> None:
    found = steps_of(COPIES)
    assert found["COPY t FROM STDIN"].sent["CopyData"].nbytes == 3 * 70_005
    assert [found[one].round_trips for one in ("COPY t FROM STDIN", "COPY t TO STDOUT")] == [1, 1]
    assert found["COPY t TO STDOUT"].rows == 1000
    assert found["COPY t TO STDOUT"].received_bytes == 1004 * 12
    whole = sum(len(piece) for is_sent, piece in COPIES if is_sent)
    assert sum(one.sent_bytes for one in found.values()) == whole + 50  # with the startup packet


REFUSED_COPY = [
    (True, sent("Query", "COPY missing FROM STDIN") + message(SENT_KINDS["CopyData"], b"row") + sent("CopyDone")),
    (False, received("ErrorResponse", "ReadyForQuery")),
]
PREPARED_COPY = [  # as libpq does: the first Sync comes before the rows are awaited, and has no answer
    (True, sent("Parse", "", "COPY t FROM STDIN") + sent("Bind", "", "") + sent("Execute", "") + sent("Sync")),
    (False, received("ParseComplete", "BindComplete", "CopyInResponse")),
    (True, message(SENT_KINDS["CopyData"], b"row") + sent("CopyDone") + sent("Sync")),
    (False, received("CommandComplete", "ReadyForQuery")),
]


@pytest.mark.parametrize("before", [COPIES, REFUSED_COPY, PREPARED_COPY], ids=["copies", "refused", "prepared"])
def test_what_follows_a_copy_is_counted_as_ever(before: list[tuple[bool, bytes]]) -> None:
    statement = "INSERT INTO t VALUES (…)"
    found = steps_of([*before, *EXECUTEMANY])
    assert counted(found[statement]) == counted(steps_of(EXECUTEMANY)[statement])
    assert [one.round_trips for name, one in found.items() if name.startswith("COPY")] == [1] * (len(found) - 2)


def test_after_an_error_the_answers_belong_to_the_statements_that_they_are_of() -> None:
    found = steps_of(FAILS)
    assert counted(found["SELECT wrong"])[1:] == ({"ErrorResponse": 1, "ReadyForQuery": 1}, 1)
    assert found["SELECT right"].rows == 1
    assert found["SELECT right"].round_trips == 1


def test_a_client_that_must_synchronize_after_an_error_waits_twice() -> None:
    turns = [
        (True, sent("Parse", "", "SELECT wrong") + sent("Describe", "S") + sent("Flush")),
        (False, received("ErrorResponse")),
        (True, sent("Sync")),
        (False, received("ReadyForQuery")),
    ]
    assert steps_of(turns)["SELECT wrong"].round_trips == 2


@settings(deadline=None, max_examples=40)
@given(cuts=st.integers(1, 200) | st.integers(1, 100_000))
def test_it_does_not_matter_in_which_pieces_the_bytes_come(cuts: int) -> None:
    turns = [*EXECUTEMANY, *COPIES, *FAILS, *LEAVES]
    if cuts < 20:
        turns = [*FAILS, *EXECUTEMANY[:2], *LEAVES]
    whole, pieces = steps_of(turns), steps_of(turns, cuts)
    assert {name: (one.sent, one.received, one.round_trips) for name, one in pieces.items()} == {
        name: (one.sent, one.received, one.round_trips) for name, one in whole.items()
    }


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n" * 9, b"\0" * 99, b"Q\0\0\0\1" * 9], ids=repr)
def test_what_is_no_such_protocol_is_passed_over(noise: bytes) -> None:
    assert set(steps_of([(True, noise), *EXECUTEMANY])) == {"(connections)"}


def test_a_password_is_counted_and_not_kept() -> None:
    counts = Counts()
    conversation = Conversation(counts)
    conversation.begin(50)
    for turn in (received("Authentication"), sent("Password", SECRET), LOGGED_IN):
        (conversation.send if turn[0] == SENT_KINDS["Password"] else conversation.receive)(turn)
    (found,) = counts.steps()
    assert counted(found)[0] == {"Startup": 1, "Password": 1}
    assert found.round_trips == 2
    assert SECRET not in everything(conversation)


def everything(value: Any, depth: int = 6) -> str:
    """The texts that an object holds, and those that they hold."""
    if isinstance(value, str | bytes):
        return repr(value)
    if isinstance(value, dict):
        return everything([*value, *value.values()], depth)
    if isinstance(value, list | tuple | set) or hasattr(value, "popleft"):
        return " ".join(everything(one, depth - 1) for one in value) if depth else ""
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    parts = [getattr(value, name) for name in names if hasattr(value, name)]
    return everything([*parts, *getattr(value, "__dict__", {}).values()], depth - 1) if depth else ""


LABELS = {
    f"SELECT '{SECRET}', E'\\'{SECRET}', $tag$ '{SECRET}' $tag$, $${SECRET}$$": "SELECT …, …, …, …",
    f'SELECT t1.c2, "a {SECRET[0]}" FROM t -- {SECRET}\n  WHERE x = /* {SECRET} */ 12.5e3': (
        f'SELECT t1.c2, "a {SECRET[0]}" FROM t WHERE x = …'
    ),
    f"CREATE ROLE kim PASSWORD '{SECRET}": "CREATE ROLE kim PASSWORD …",
    f"SELECT date'2020-01-01', '\\', '{SECRET}'": "SELECT date…, …, …",
    f"SELECT x'1F', n'{SECRET}', U&'{SECRET}', a$b FROM t": "SELECT …, …, U&…, a$b FROM t",
    "INSERT INTO t (a, b) VALUES ($1::INTEGER, $2::TIMESTAMP WITHOUT TIME ZONE), ($3::NUMERIC(12, 4), $4::VARCHAR)": (
        "INSERT INTO t (a, b) VALUES (…), …"
    ),
    "INSERT INTO t VALUES (1, 'a(b', 2), (2, 'x);', 3)": "INSERT INTO t VALUES (…), …",
    "SELECT * FROM t WHERE a IN ($1, $2) AND b = ANY($3::INTEGER[])": "SELECT * FROM t WHERE a IN (…) AND b = ANY(…)",
}


@pytest.mark.parametrize("sql", LABELS)
def test_a_statement_is_shown_without_its_values(sql: str) -> None:
    assert " ".join(statement_label(sql).split()) == LABELS[sql]


@settings(deadline=None, max_examples=100)
@given(before=st.text(alphabet="a$'\"\\-/* \n(),1e", max_size=12), value=st.text(alphabet="ab'c", max_size=6))
def test_a_literal_in_a_statement_is_never_shown(before: str, value: str) -> None:
    """A text that was quoted as it must be is not shown, whatever complete literals stand before it."""
    quoted = before.replace("'", "''")
    sql = f"SELECT '{quoted}', 'secret{value.replace(chr(39), chr(39) * 2)}' FROM t"
    assert statement_label(sql) == "SELECT …, … FROM t"


def test_many_different_statements_are_counted_together() -> None:
    counts = Counts()
    for number in range(MOST_STATEMENTS + 10):
        counts.tally(f"SELECT a{number}".encode()).send(SENT_KINDS["Query"], 1, 20)
    found = counts.steps()
    assert len(found) == MOST_STATEMENTS + 1
    assert found[-1].statement == OTHERS
    assert found[-1].count("Query") == 10


def test_a_long_page_of_values_keeps_its_end() -> None:
    page = ", ".join(f"(${2 * row + 1}::INTEGER, ${2 * row + 2}::VARCHAR)" for row in range(1000))
    found = steps_of([(True, sent("Parse", "", f"INSERT INTO t (a, b) VALUES {page} RETURNING t.id") + sent("Flush"))])
    assert "INSERT INTO t (a, b) VALUES (…), … RETURNING t.id" in found


def test_the_table_shows_what_has_most_bytes_and_the_sum_of_the_rest() -> None:
    turns = [
        turn
        for number in range(30)
        for turn in ((True, sent("Query", f"SELECT a{number}{'b' * number}")), (False, received("ReadyForQuery")))
    ]
    steps = [*steps_of([*turns, *COPIES]).values()]
    text = as_text("PostgreSQL shop", steps)
    title, summed, head, *lines = text.splitlines()
    assert title == "PostgreSQL shop:"
    assert summed.startswith("  1 connection, 33 round trips, 211 kB out, 12.5 kB in, ")
    assert head.split() == [*"round trips kB out kB in ms statement".split()]
    statements = [line for line in lines if not line.startswith(INDENT)]
    assert len(statements) == MOST_ROWS
    assert statements[-1].endswith("(22 other statements, see .messages)")
    assert sum(int(found) for found in re.findall(r"(\d+) Query", text)) == 32
    assert max(map(len, text.splitlines())) <= TEXT_WIDTH
    assert "<script" not in as_html("<script>", steps)
    messages = [one for step in steps for side in (step.sent, step.received) for one in side.values()]
    frame = as_frame(steps)
    assert frame["count"].sum() == sum(one.count for one in messages)
    assert frame["bytes"].sum() == sum(one.nbytes for one in messages)


SASL = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"


def test_what_is_bound_to_the_encryption_is_not_offered_to_the_client() -> None:
    offer = message(KINDS["Authentication"], struct.pack(">I", 10) + SASL)
    version = message(KINDS["NegotiateProtocolVersion"], b"\0" * 12)
    assert [without_channel_binding((version + offer)[:at]) for at in range(len(version + offer))] == [None] * len(
        version + offer
    )
    changed = message(KINDS["Authentication"], struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0")
    assert without_channel_binding(version + offer + b"more") == version + changed + b"more"
    plain = message(KINDS["Authentication"], struct.pack(">I", 0))
    assert without_channel_binding(plain) == plain

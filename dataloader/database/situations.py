"""Errors that carry no code of PostgreSQL: what is known of them by their class and their words.

A row for a class of SQLAlchemy, asyncpg, psycopg, sqlite3 or Python, or for what one of them says. Loads take the
remedies of SQLite and of the pool from here, `explain` all of them.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from dataloader.database.sqlstates import STATES, spoken

Left = Literal[
    "statement", "connection", "nothing sent", "no connection", "row", "client", "read", "warning", "unknown"
]
"""What such an error leaves of the transaction and the connection; `explanations` has the words."""


class Situation(NamedTuple):
    """What is known of an error.

    Attributes
    ----------
    meaning : str
        What happened, without a full stop.
    remedy : str
        What to do, with ``{again}`` where the reader would say "load again".
    left : str
        What it leaves of the transaction and the connection.
    pattern : str
        A regular expression that is found in the message; empty for a row that holds for the whole class.
    is_wrapper : bool
        Whether the class says less than what is behind it.
    is_transient : bool
        Whether the same rows may be taken when they are sent again.
    """

    meaning: str
    remedy: str
    left: Left = "nothing sent"
    pattern: str = ""
    is_wrapper: bool = False
    is_transient: bool = False


def situation_of(error: BaseException, text: str) -> Situation | None:
    """The first row of the error's class, or of the nearest class above it, that its message fits."""
    for kind in type(error).__mro__:
        for row in SITUATIONS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}", ()):
            if says(row, text):
                return row
    return None


def says(row: Situation, text: str) -> bool:
    """Whether a message is one of those that the row is about."""
    return not row.pattern or re.search(row.pattern, text) is not None


def remedy_of(text: str, again: str) -> str | None:
    """What to do about what SQLite or the pool says, in the words of who reads it."""
    found = next((row for row in _SAID if says(row, text)), None)
    return None if found is None else spoken(found.remedy, again)


def is_transient(text: str) -> bool:
    """Whether what SQLite or the pool says may be otherwise in a moment."""
    return any(row.is_transient and says(row, text) for row in _SAID)


def _said(pattern: str, meaning: str, remedy: str, *, is_transient: bool = False) -> Situation:
    return Situation(meaning, remedy, "row", pattern, is_transient=is_transient)


_POOL = Situation(
    "every connection of the engine's pool is in use, and none came back while it was waited (pool_timeout)",
    "Every connection of the engine's pool is in use: let one go, or make a larger pool: connect(url, pool_size=, "
    "max_overflow=), or use fewer workers= than it has connections.",
    "no connection",
    "QueuePool limit",
    is_transient=True,
)
_SQLITE = (
    _said(
        "database (table )?is locked",
        "another program, or another connection of this one, is writing to the file: SQLite has one writer",
        "Another program has the file open, in a transaction: end it there, and {again}. To wait longer: connect(url, "
        "connect_args={{'timeout': 60}}), where 30 s are the default.",
        is_transient=True,
    ),
    _said(
        "readonly database",
        "the file, or its folder, may not be written to",
        "Make the file and its folder writable, and leave mode=ro out of the URL.",
    ),
    _said(
        "unknown database",
        "there is no schema of that name",
        "SQLite has the schemas main and temp, and those of attached files: leave the schema out.",
    ),
    _said(
        "because it is a view",
        "rows cannot be written into a view",
        "Give the view an INSTEAD OF INSERT trigger, or load the table behind it.",
    ),
    _said("disk is full", "the disk is full", "Make room on the disk and {again}."),
    _said(
        "UNIQUE constraint failed",
        "the key of a row is in the table already, or twice in the data",
        "Correct the rows in the source, or say what is to be done with such a row: on_conflict='update' or "
        "'ignore'; then {again}.",
    ),
    _said(
        "FOREIGN KEY constraint failed",
        "a row refers to one that is not there, or one is taken away that others refer to",
        "Load the table that is referred to first, or correct the key, and {again}.",
    ),
    _said(
        "NOT NULL constraint failed",
        "a column that is NOT NULL got no value",
        "Give the column a value in the source, or a DEFAULT in the table, and {again}.",
    ),
    _said(
        "constraint failed",
        "a row breaks a CHECK constraint",
        "Correct the rows in the source, or the constraint, and {again}.",
    ),
    _said("datatype mismatch", "the table is STRICT, or the column is its row number", "Correct the value's type."),
    _said("no such (table|view)", "there is no table of that name", "Create it first, or check the name and the file."),
    _said("no such column|has no column", "there is no column of that name", "Check the names of the columns."),
    _said("syntax error|incomplete input", "the statement cannot be read", "Correct the statement, and {again}."),
    _said("already exists", "a table or index of that name is there already", "Drop it, or append to it."),
    _said(
        "unable to open database file",
        "the file cannot be opened: its folder is missing, or may not be used",
        "Check the path in the URL, and the rights of its folder.",
    ),
    _said("not a database", "the file is no SQLite database, or it is encrypted", "Check the path in the URL."),
    _said(
        "malformed", "the file is damaged", "Take it from a backup, or save what is readable: sqlite3 FILE .recover."
    ),
    _said("interrupted", "the statement was interrupted", "{Again}."),
    _said(
        "type '?.*'? is not supported|[Uu]nsupported type|Error binding parameter",
        "a value of a Python type that SQLite has not: a list, a dict, a Decimal",
        "Convert it first: json.dumps for lists and dicts, str for a Decimal; load_dataframe does so.",
    ),
    _said(
        "Incorrect number of bindings|did not supply a value",
        "the statement has another number of parameters than there are values",
        "Give each parameter a value.",
    ),
    _said(
        "[Cc]losed database|[Cc]annot operate on a closed|no active connection",
        "the connection to the file is closed",
        "Use it inside its block: async with engine.connect() as connection.",
    ),
    _said(
        "created in a thread",
        "the connection belongs to another thread",
        "Use an engine for each thread, or connect_args={{'check_same_thread': False}}.",
    ),
    _said("string or blob too big", "a value is larger than SQLite stores", "Split the value."),
    _said("too many SQL variables", "a statement takes 32,766 parameters", "Send fewer rows in one statement."),
)
_SAID = (_POOL, *_SQLITE)
_SQLITE_REFUSED = Situation(
    "SQLite refused the statement or a value", "Correct what the message names, and {again}.", "row"
)
_WRAPPER = Situation(
    "the driver raised an error", "Correct what the message names, and {again}.", "statement", is_wrapper=True
)
_CONCURRENT = Situation(
    "two tasks use one connection at once, or one that was interrupted in the middle of a statement",
    "Give each task a connection of its own: async with engine.connect() inside the task, not outside of gather().",
    "unknown",
    "another operation|manually started transaction|concurrent operations|got Future|already in progress|reentrant",
)
_CLOSED = Situation(
    "the connection has ended before: the server was restarted or ended the session, a limit has passed "
    "(idle_in_transaction_session_timeout, idle_session_timeout), or the network cut it",
    "{Again} on another connection. Have the pool test them before it gives them out (pool_pre_ping=True, as "
    "connect(url) does), leave no transaction idle, and see the server's log for who ended it.",
    "connection",
    "[Cc]onnection (is|was|has been|already) closed|the connection is (closed|lost)|closed in the middle|"
    "server closed the connection|terminat|connection is lost|released back to the pool",
)
_LOOP = Situation(
    "the engine's connections belong to another event loop: they were opened in one that has ended, or that runs in "
    "another thread, as by a second asyncio.run()",
    "Use an engine in the loop that first used it: one asyncio.run() for everything, or await in the notebook; or "
    "dispose of it there: await engine.dispose(). Loaders may be given the URL, which works in any loop.",
    "nothing sent",
    "different loop|different event loop|Event loop is closed|another event loop",
)
_TOO_LARGE = Situation(
    "a number is too large for its parameter's type",
    "Correct the value, or give the column room: bigint, or numeric, which evolve='widen' does.",
    "client",
    "query argument.*value out of",
)
_WRONG_TYPE = Situation(
    "a value has another Python type than its parameter, and asyncpg converts nothing",
    "Convert it: int(row['id']), str(...), Decimal(...), datetime.fromisoformat(...). load_dataframe and load_rows do "
    "so by the table's types, and name the row and column of a value that does not fit.",
    "client",
    "invalid input for query argument|invalid input in executemany",
)
TOO_MANY = "remaining connection slots|too many (clients|connections)"
"""What a server says that has no room; psycopg hands no code on while it connects."""
_FULL = Situation(STATES["53300"].meaning, STATES["53300"].remedy or "", "no connection", TOO_MANY)
_WARNS = Situation("it warns, and did what it was asked", "Read the warning.", "warning")
_ROWS = "Test for how many rows there are, or use first() or all()."
_NAMES = "Check the names of tables and columns in the model or the query."
_USED_WRONGLY = "Correct the call as its message says."

_SQLALCHEMY: dict[str, tuple[Situation, ...]] = {
    "SQLAlchemyError": (Situation("SQLAlchemy cannot do what it was asked", _USED_WRONGLY),),
    "ArgumentError": (Situation("an argument of SQLAlchemy's is not valid, or a URL cannot be read", _USED_WRONGLY),),
    "AmbiguousForeignKeysError": (Situation("several foreign keys join the two tables", "Name one: onclause."),),
    "ConstraintColumnNotFoundError": (Situation("a constraint names a column that its table has not", _NAMES),),
    "DuplicateColumnError": (Situation("a table's definition has a column twice", _NAMES),),
    "NoForeignKeysError": (Situation("no foreign key joins the two tables", "Say how: onclause, primaryjoin."),),
    "NoSuchModuleError": (
        Situation(
            "SQLAlchemy knows no driver of that name",
            "Write postgresql+asyncpg:// or sqlite+aiosqlite:// in the URL; connect(url) also takes postgresql://.",
            "no connection",
        ),
    ),
    "ObjectNotExecutableError": (
        Situation("what was executed is no statement", "Wrap SQL in text: connection.execute(sqlalchemy.text('...'))."),
    ),
    "CircularDependencyError": (Situation("tables depend on each other in a circle", "Break it: use_alter=True."),),
    "CompileError": (Situation("a statement cannot be written as SQL for this database", _USED_WRONGLY),),
    "UnsupportedCompilationError": (
        Situation("this database has no SQL for a part of the statement", "Use a type or function that it has."),
    ),
    "IdentifierError": (Situation("a name is too long for the database", "Shorten it: PostgreSQL takes 63 bytes."),),
    "DisconnectionError": (Situation(_CLOSED.meaning, _CLOSED.remedy, "connection"),),
    "TimeoutError": (_POOL, Situation(_POOL.meaning, _POOL.remedy, "no connection")),
    "InvalidRequestError": (
        _LOOP,
        Situation(
            "SQLAlchemy cannot do that in the state that it is in: a transaction is open already, or has ended",
            "Use one block of engine.begin() for each transaction, and each connection inside its block.",
        ),
    ),
    "IllegalStateChangeError": (_CONCURRENT._replace(pattern=""),),
    "AmbiguousColumnError": (Situation("several columns of the result have that name", "Label them: .label('name')."),),
    "NoSuchColumnError": (Situation("the result has no column of that name", _NAMES),),
    "NoSuchTableError": (
        Situation("there is no table of that name to be reflected", "Create it first, or check its schema.", "read"),
    ),
    "UnreflectableTableError": (Situation("the table cannot be reflected", "Define it by hand: sa.Table.", "read"),),
    "NoReferenceError": (Situation("a foreign key refers to what is unknown", _NAMES),),
    "NoReferencedTableError": (
        Situation("a foreign key refers to a table that is not in the MetaData", "Define or reflect that one as well."),
    ),
    "NoReferencedColumnError": (Situation("a foreign key refers to a column that its table has not", _NAMES),),
    "NoInspectionAvailable": (Situation("this object cannot be inspected", "Use run_sync(sa.inspect)."),),
    "NoResultFound": (Situation("the query gave no row where one is needed", _ROWS, "read"),),
    "MultipleResultsFound": (Situation("the query gave several rows where one is needed", _ROWS, "read"),),
    "PendingRollbackError": (
        Situation(
            "an earlier statement of the transaction has failed, and it was not rolled back since",
            "Roll back before anything else (await session.rollback(), or leave the block), and {again} from the "
            "first statement.",
            "statement",
            is_wrapper=True,
        ),
    ),
    "ResourceClosedError": (
        Situation(
            "a result is read that is closed: its transaction or connection has ended, or the statement gave no rows",
            "Read it inside the block: rows = result.all() before the transaction ends, or read_dataframe(query).",
            "read",
            "closed|does not return rows",
        ),
        Situation("what is used is closed: a connection, a transaction or a result", "Use it inside its block."),
    ),
    "UnboundExecutionError": (Situation("the session has no engine", "Make it so: AsyncSession(engine)."),),
    "AwaitRequired": (Situation("a synchronous call would have to wait for the database", "Await the async one."),),
    "MissingGreenlet": (
        Situation(
            "a synchronous call has met an async driver: an attribute of an ORM object that is loaded when it is "
            "touched, or engine.sync_engine used by itself",
            "Load what is needed before (selectinload, or expire_on_commit=False), or call it by await "
            "connection.run_sync(function).",
        ),
    ),
    "NoDBAPILoaded": (Situation("the driver is not loaded", "Install it, and make the engine by connect(url)."),),
    "StatementError": (
        Situation(
            "a value cannot be given to the statement: it lacks, or has the wrong Python type",
            "Give each parameter a value of its column's type; load_dataframe converts by the table's types.",
            is_wrapper=True,
        ),
    ),
    "EmulatedDBAPIException": (_CONCURRENT, _CLOSED, _TOO_LARGE, _WRONG_TYPE, _WRAPPER),
    "DBAPIError": (_TOO_LARGE, _WRONG_TYPE, _WRAPPER),
    "SATestSuiteWarning": (_WARNS,),
    "SAWarning": (_WARNS,),
    "SADeprecationWarning": (Situation("what was called will go away", "Use what the warning names.", "warning"),),
    "SAPendingDeprecationWarning": (Situation("what was called will go away", "Use what it names.", "warning"),),
}
_ASYNCPG: dict[str, tuple[Situation, ...]] = {
    "DataError": (_TOO_LARGE, _WRONG_TYPE),
    "InterfaceError": (
        _CONCURRENT,
        _CLOSED,
        Situation("asyncpg was asked for what it cannot do, or not now", _USED_WRONGLY),
    ),
    "InterfaceWarning": (_WARNS,),
    "InternalClientError": (
        _CLOSED,
        Situation(
            "asyncpg lost track of what the server sends, mostly because the connection broke or was interrupted",
            "{Again} on another connection: await connection.invalidate().",
            "connection",
        ),
    ),
    "ProtocolError": (
        Situation("what answers speaks another protocol", "Check the port; a pooler may be too old.", "connection"),
    ),
    "OutdatedSchemaCacheError": (
        Situation(
            "a type was changed since asyncpg has learned it: a table or enum was altered meanwhile",
            "{Again} on a new connection: await engine.dispose(), or connection.reload_schema_state().",
        ),
    ),
    "InvalidCachedStatementError": (
        Situation(
            "a table was altered since asyncpg prepared a statement for it",
            "Roll back and {again}: the statement is prepared anew. Leave DDL and rows in different transactions.",
            "statement",
        ),
    ),
    "TargetServerAttributeNotMatched": (
        Situation("none of the hosts is what target_session_attrs asks for", "Name a host that is.", "no connection"),
    ),
    "UnsupportedClientFeatureError": (Situation("asyncpg has not what was asked for", _USED_WRONGLY),),
    "UnsupportedServerFeatureError": (Situation("the server has not what was asked for", _USED_WRONGLY),),
    "ClientConfigurationError": (
        Situation(
            "what was given to connect with cannot be used", "Correct the URL or connect_args=.", "no connection"
        ),
    ),
    "PostgresError": (Situation("the server refused it", "Correct what the message names, and {again}.", "statement"),),
}
_PSYCOPG: dict[str, tuple[Situation, ...]] = {
    "Error": (_CONCURRENT, _CLOSED, Situation("psycopg raised an error", _USED_WRONGLY, "unknown")),
    "Warning": (_WARNS,),
    "InterfaceError": (_CONCURRENT, _CLOSED, Situation("psycopg was used in a way that it cannot be", _USED_WRONGLY)),
    "DatabaseError": (
        _CONCURRENT,
        _CLOSED,
        Situation("the database refused it", "Correct what the message names, and {again}.", "statement"),
    ),
    "ProgrammingError": (
        Situation(
            "a value of a Python type that psycopg knows no PostgreSQL type for, or a call in the wrong order",
            "Convert the value first; load_dataframe and load_rows do so by the table's types.",
        ),
    ),
    "DataError": (
        Situation(
            "a value cannot be sent: a NUL character in a text, or a number that is too large",
            "Correct the value; load_dataframe names the row and column.",
        ),
    ),
    "OperationalError": (
        _FULL,
        _CLOSED,
        Situation("the connection could not be made, or has ended", _CLOSED.remedy, "connection"),
    ),
    "ConnectionTimeout": (
        Situation(
            "no server answered in time", "Check host and port, and that no firewall is in between.", "no connection"
        ),
    ),
    "CancellationTimeout": (Situation("a cancel was not answered in time", "{Again} on a new connection.", "unknown"),),
    "PipelineAborted": (
        Situation("an earlier statement of the pipeline has failed", "See the earlier error.", "statement", "", True),
    ),
    "_WaitTimeout": (Situation("a wait for the server took too long", "{Again}.", "unknown"),),
}
_SQLITE3: dict[str, tuple[Situation, ...]] = {
    "Error": (*_SQLITE, _SQLITE_REFUSED),
    "Warning": (_WARNS,),
}
_PYTHON: dict[str, tuple[Situation, ...]] = {
    "asyncio.CancelledError": (
        Situation("it was interrupted: the cell was stopped, or its task canceled", "{Again}.", "unknown"),
    ),
    "builtins.KeyboardInterrupt": (Situation("it was interrupted by Ctrl-C", "{Again}.", "unknown"),),
    "builtins.MemoryError": (
        Situation(
            "this process has no memory left: all rows were made at once, as a list or a frame",
            "Read and send them in parts: load_rows takes a generator, load_files reads a file in chunks, and "
            "chunk_rows= bounds what is held.",
            "unknown",
        ),
    ),
    "builtins.RuntimeError": (
        _LOOP,
        _CONCURRENT,
        Situation(
            "asyncio.run() was called where a loop runs already, as in a notebook",
            "Write await in the notebook's cell, or dataloader.run(...).",
            "nothing sent",
            "cannot be called (from|when)|already running",
        ),
    ),
    "builtins.OverflowError": (
        Situation(
            "an integer is larger than SQLite's 64 bits",
            "Store it as text: dtype={{'column': sqlalchemy.Text}}; load_dataframe names its row.",
            "row",
            "too large to convert to SQLite",
        ),
    ),
    "builtins.TypeError": (
        Situation(
            "the driver does not know an option of the URL or of connect_args=",
            "Remove it; asyncpg knows ssl= where psql knows sslmode=. connect(url) reads libpq's names.",
            "no connection",
            "connect\\(\\) got an unexpected keyword",
        ),
        Situation(
            "await stands before what is no coroutine, or is missing before one",
            "Write await before each call of a loader or of an async connection, and nowhere else.",
            "nothing sent",
            "can't be used in 'await'|coroutine|asynchronous context manager|async for",
        ),
    ),
    "builtins.AttributeError": (
        Situation(
            "a coroutine was not awaited", "Write await before the call.", "nothing sent", "coroutine|not awaited"
        ),
    ),
}
_ROOTS = (("sqlalchemy", _SQLALCHEMY), ("asyncpg", _ASYNCPG), ("psycopg", _PSYCOPG), ("sqlite3", _SQLITE3))
SITUATIONS = {f"{root}.{name}": rows for root, table in _ROOTS for name, rows in table.items()} | _PYTHON
"""The rows by the first part of a class's module, and its name."""

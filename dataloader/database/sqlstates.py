"""What PostgreSQL's error codes mean, and what to do: a row for a code or for a whole class of codes.

The rows are those of PostgreSQL 18's appendix A, https://www.postgresql.org/docs/18/errcodes-appendix.html. Loads,
reads and `explain` say the same of a code because they read the same row.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["data", "refused", "transient", "lost", "busy", "login", "follows", "warning"]
"""A value; a statement, or what the role may do; may succeed when sent again; the connection has ended; the server
takes none now; a login was refused; an earlier error has done it; nothing has failed."""


class Row(NamedTuple):
    """What is known of a code; None: as for its class.

    Attributes
    ----------
    meaning : str
        What happened, without a full stop.
    remedy : str or None
        What to do, with ``{again}`` where the reader would say "load again".
    """

    meaning: str
    remedy: str | None = None
    kind: Kind | None = None


def row_of(sqlstate: str) -> Row | None:
    """All that is known of a code, by itself or by its class; None if it is not PostgreSQL's."""
    found, of_class = STATES.get(sqlstate), STATES.get(sqlstate[:2])
    if found is None or of_class is None:
        return found or of_class
    return Row(found.meaning, found.remedy or of_class.remedy, found.kind or of_class.kind)


def kind_of(sqlstate: str) -> Kind:
    """How a code is treated; one that is unknown is a statement that was refused."""
    row = row_of(sqlstate)
    return (row.kind if row is not None else None) or "refused"


def remedy_of(sqlstate: str, again: str) -> str | None:
    """What to do about a code, in the words of who reads it: to load, to read or to run something again."""
    row = row_of(sqlstate)
    return None if row is None or row.remedy is None else spoken(row.remedy, again)


def spoken(remedy: str, again: str) -> str:
    """A remedy in the words of who reads it."""
    return remedy.format(again=again, Again=again.capitalize())


_NAMED_STATEMENTS = "Behind a pooler use an engine of connect(url): it names no statements."
_PASSWORD = "Check the user and the password; where it is a token that expires, pass connect(password=) a function."
_BUG = "See the server's log: it is a defect of the server, an extension or its disk. Tell who runs it."
_DATABASE = "Check the database's name at the end of the URL, or create the database."
_HBA = "Check the user in the URL, and the server's pg_hba.conf."
_JSON = "Correct the document or the JSON path, and {again}."
_CONNECT = "{Again} when the server answers: the host, the port and the network are to be looked at if it does not."
_RESUMED = "{Again} when the server answers."
_IDLE = (
    "Send what was waiting in a transaction of its own, or raise the limit for this connection alone: connect(url, "
    "connect_args={{'server_settings': {{'%s': '0'}}}})."
)

STATES: dict[str, Row] = {
    # Warnings and no data: nothing has failed
    "00": Row("nothing went wrong", "There is nothing to do.", "warning"),
    "01": Row("the server warns; the statement was carried out", "Read the warning.", "warning"),
    "01003": Row("an aggregate left NULLs out"),
    "01004": Row("a text was cut to fit"),
    "01006": Row("a privilege was not revoked, because it was not there"),
    "01007": Row("a privilege was not granted, because this role may not grant it"),
    "01008": Row("a bit string was filled up with zeros"),
    "0100C": Row("a procedure returned result sets"),
    "01P01": Row("what was used is deprecated"),
    "02": Row("there is no row", "Test for None: it is no failure of the database.", "warning"),
    "02001": Row("there are no more result sets"),
    "03": Row("the statement is not complete yet", "Read its result to the end, and {again}."),
    # The connection
    "08": Row("the connection to the server broke, or could not be made", _CONNECT, "lost"),
    "08001": Row("the client could not connect"),
    "08003": Row("there is no connection any more: it was closed before"),
    "08004": Row("the server rejected the connection"),
    "08006": Row("the connection broke while it was in use"),
    "08007": Row("the connection broke during COMMIT, so that its outcome is unknown"),
    "08P01": Row(
        "what answers speaks another protocol: no PostgreSQL, or a pooler that does not know the message",
        "Check the port. Behind a pooler use an engine of connect(url), or a newer pooler.",
    ),
    "09": Row("a trigger failed", "Look at the trigger's function.", "data"),
    "0A": Row("the server cannot do that", "Do it another way: the message says what is not supported."),
    "0B": Row("no transaction can begin here", "End the one that is open first."),
    "0F": Row("a reference to a large object is not valid", "Open the large object again."),
    "0F001": Row("a large object is no longer open", None),
    "0L": Row("this role may not grant that", "Have the owner grant it."),
    "0LP01": Row("that privilege cannot be granted on this"),
    "0P": Row("there is no such role, or it may not be taken on", "Check the role's name; CREATE ROLE makes one."),
    "0Z": Row("GET DIAGNOSTICS was used wrongly", "Look at the PL/pgSQL function."),
    "0Z002": Row("GET STACKED DIAGNOSTICS stands outside an exception handler"),
    "10": Row("an XQuery expression is not valid", "Correct the expression."),
    "10608": Row("an argument of XQuery is not valid"),
    "20": Row("a CASE statement has no branch for the value", "Give the function's CASE an ELSE.", "data"),
    "21": Row("a row or a query gave more than there may be", "Make the subquery give one row, or the keys unique."),
    # Values
    "22": Row(
        "a value is not valid for its column or function", "Correct the value in the source and {again}.", "data"
    ),
    "22001": Row(
        "a text is longer than its column, a varchar(n) or char(n), allows",
        "Correct the value in the source and {again}, or give the column room: ALTER TABLE ... ALTER COLUMN ... TYPE "
        "text, which evolve='widen' does.",
    ),
    "22002": Row("NULL came where no NULL can be told of"),
    "22003": Row(
        "a number is too large or too small for its column's type",
        "Correct the value in the source and {again}, or give the column room: bigint, or numeric with more digits, "
        "which evolve='widen' does.",
    ),
    "22004": Row("NULL is not allowed here"),
    "22005": Row("a value cannot be assigned"),
    "22007": Row("a text is no date or time of the form that the server reads"),
    "22008": Row("a date or time is out of range, like the 30th of February"),
    "22009": Row("a time zone's offset is not valid"),
    "2200B": Row("the escape character stands for something else here"),
    "2200C": Row("an escape character stands where none may"),
    "2200D": Row("a byte after an escape is not valid"),
    "2200F": Row("a text of no characters is not allowed here"),
    "2200G": Row("the most specific type does not match"),
    "2200H": Row(
        "a sequence has no numbers left", "Give it, and its column, a larger type: ALTER SEQUENCE ... AS bigint."
    ),
    "2200L": Row("it is no XML document"),
    "2200M": Row("the XML document is not valid"),
    "2200N": Row("the XML content is not valid"),
    "2200S": Row("the XML comment is not valid"),
    "2200T": Row("the XML processing instruction is not valid"),
    "22010": Row("an indicator's value is not valid"),
    "22011": Row("a substring has a negative length"),
    "22012": Row("a division by zero", "Divide by NULLIF(x, 0), or correct the value in the source, and {again}."),
    "22013": Row("the size of a window's frame is not valid"),
    "22014": Row("the argument of ntile is not valid"),
    "22015": Row("an interval is out of range"),
    "22016": Row("the argument of nth_value is not valid"),
    "22018": Row("a text cannot be cast to that type"),
    "22019": Row("the escape character is not valid"),
    "2201B": Row("the regular expression is not valid"),
    "2201E": Row("a logarithm of zero or of a negative number"),
    "2201F": Row("a power that has no value, like 0 to a negative one"),
    "2201G": Row("an argument of width_bucket is not valid"),
    "2201W": Row("LIMIT is negative"),
    "2201X": Row("OFFSET is negative"),
    "22021": Row(
        "a text has a byte that the database's encoding has not, often a NUL byte or bytes of another encoding",
        "Take NUL characters out of the texts, or say how the file is encoded: csv={{'encoding': 'cp1252'}}.",
    ),
    "22022": Row("an indicator is too small"),
    "22023": Row("a parameter's value is not valid"),
    "22024": Row("a C string has no end"),
    "22025": Row("an escape sequence is not valid"),
    "22026": Row("a bit string has another length than its column"),
    "22027": Row("trim was given more than one character"),
    "2202E": Row("an array's subscripts, or its sizes, do not fit"),
    "2202G": Row("REPEATABLE of TABLESAMPLE is not valid"),
    "2202H": Row("the share of TABLESAMPLE is not valid"),
    "22030": Row("a JSON object has a key twice", _JSON),
    "22031": Row("a JSON path's datetime() was given what is no time", _JSON),
    "22032": Row("a text is no JSON", _JSON),
    "22033": Row("a JSON path's subscript is not valid", _JSON),
    "22034": Row("a JSON path gave more than one item", _JSON),
    "22035": Row("a JSON path gave no item", _JSON),
    "22036": Row("a JSON path met what is no number", _JSON),
    "22037": Row("a JSON object's keys are not unique", _JSON),
    "22038": Row("a JSON path needs a single item", _JSON),
    "22039": Row("a JSON path found no array", _JSON),
    "2203A": Row("a JSON path found no such member", _JSON),
    "2203B": Row("a JSON path found no number", _JSON),
    "2203C": Row("a JSON path found no object", _JSON),
    "2203D": Row("a JSON array has too many elements", _JSON),
    "2203E": Row("a JSON object has too many members", _JSON),
    "2203F": Row("a JSON path needs a scalar", _JSON),
    "2203G": Row("a JSON item cannot be cast to that type", _JSON),
    "22P01": Row("a calculation with floating point numbers has no result"),
    "22P02": Row("a text cannot be read as the column's type: a number, a date, a uuid, the label of an enum"),
    "22P03": Row(
        "bytes of a binary COPY, or of a parameter, are none of the column's type",
        "Encode to the column's own type; load_dataframe reads the types from the table.",
    ),
    "22P04": Row(
        "the data of a COPY has not the form that was announced: too few fields, or too many",
        "Correct the file, or its delimiter and quotes: load_files(csv=) has them, and names the row.",
    ),
    "22P05": Row("a character has no place in the client's or the database's encoding"),
    "22P06": Row("an escape in a text is not standard: write E'...'"),
    # Constraints
    "23": Row(
        "a row breaks a rule of the table", "Correct the rows in the source, or the constraint, and {again}.", "data"
    ),
    "23001": Row("a row that others refer to cannot be taken away", "Delete what refers to it first."),
    "23502": Row(
        "a column that is NOT NULL got no value",
        "Give the column a value in the source, or a DEFAULT in the table, and {again}.",
    ),
    "23503": Row(
        "a foreign key: a row refers to one that is not there, or one is taken away that others refer to",
        "Load the table that is referred to first, or correct the key, and {again}.",
    ),
    "23505": Row(
        "the key of a row is in the table already, or twice in the data",
        "Correct the rows in the source, or say what is to be done with such a row: on_conflict='update' or "
        "'ignore'; then {again}.",
    ),
    "23514": Row("a row breaks a CHECK constraint"),
    "23P01": Row("a row overlaps with another, which an EXCLUDE constraint forbids"),
    # Transactions, cursors, statements
    "24": Row("the cursor is not where the statement needs it", "Open and read it in one transaction."),
    "25": Row("the transaction is in no state for that", "Begin a transaction of its own for it: engine.begin()."),
    "25001": Row(
        "that cannot be done inside a transaction",
        "Use a connection that commits every statement: engine.execution_options(isolation_level='AUTOCOMMIT').",
    ),
    "25002": Row("a branch transaction is open already"),
    "25003": Row("the access mode of a branch transaction does not match"),
    "25004": Row("the isolation level of a branch transaction does not match"),
    "25005": Row("there is no transaction for the branch"),
    "25006": Row(
        "the server, the session or the transaction is read-only",
        "The server is a standby, or the session is read-only: connect to one that may write.",
    ),
    "25007": Row("statements that change the schema and the data are mixed"),
    "25008": Row("a cursor WITH HOLD needs the same isolation level"),
    "25P01": Row(
        "no transaction is open; where a result was read, its transaction has ended",
        "Read a result inside the block that made it (rows = result.all(), or read_dataframe), and open a transaction "
        "for what needs one: async with engine.begin() as connection.",
    ),
    "25P02": Row(
        "an earlier statement of the transaction has failed, and the server carries out nothing more in it",
        "Roll back and {again} from the first statement: leave the block of engine.begin(). See the earlier error.",
        "follows",
    ),
    "25P03": Row(
        "the session was idle inside a transaction for longer than idle_in_transaction_session_timeout, and the "
        "server ended it",
        _IDLE % "idle_in_transaction_session_timeout",
        "lost",
    ),
    "25P04": Row(
        "the transaction took longer than transaction_timeout, and the server ended the session",
        "Commit in shorter transactions (commit='chunk'), or raise transaction_timeout.",
        "lost",
    ),
    "26": Row("there is no prepared statement of that name", _NAMED_STATEMENTS),
    "27": Row("a trigger changed the row that its statement was changing", "Use an AFTER trigger.", "data"),
    # Rights
    "28": Row("the login was refused", _HBA, "login"),
    "28000": Row("the server takes no login like this: of this user, from this address, or without TLS"),
    "28P01": Row("the password is wrong, or there is no such user", _PASSWORD),
    "2B": Row("privileges depend on it", "Take those back first: REVOKE ... CASCADE."),
    "2BP01": Row(
        "other objects depend on it",
        "Other objects depend on the table: use if_exists='truncate', which keeps it, or drop them first.",
    ),
    "2D": Row("a transaction cannot end here", "Commit where no block or cursor is open."),
    "2F": Row("an SQL function did what it may not", "Look at the function."),
    "2F002": Row("a function that may not changes data"),
    "2F003": Row("a function carries out a statement that it may not"),
    "2F004": Row("a function that may not reads data"),
    "2F005": Row("a function ended without RETURN"),
    "34": Row(
        "there is no cursor of that name: its transaction has ended, or it was closed",
        "Read the result inside the block that made it: rows = result.all(), or read_dataframe(query).",
    ),
    "38": Row("a function in another language failed", "Look at the function."),
    "38001": Row("a function that may not carries out SQL"),
    "38002": Row("a function that may not changes data"),
    "38003": Row("a function carries out a statement that it may not"),
    "38004": Row("a function that may not reads data"),
    "39": Row("a function or trigger was not called as it must be", "Look at the function and who calls it."),
    "39001": Row("a function raised an error with an impossible code"),
    "39004": Row("a function does not take NULL"),
    "39P01": Row("a trigger's function did not return what it must"),
    "39P02": Row("a function that returns rows was called where it cannot"),
    "39P03": Row("an event trigger's function was called otherwise"),
    "3B": Row("the savepoint is not what it should be", "End savepoints in the reverse order of their beginning."),
    "3B001": Row("there is no savepoint of that name"),
    "3D": Row("there is no database of that name", _DATABASE, "login"),
    "3F": Row("there is no schema of that name", "Create the schema first: CREATE SCHEMA ..."),
    # To be sent again
    "40": Row("the server has rolled the transaction back", "{Again}: the whole transaction, from its beginning."),
    "40001": Row(
        "two transactions changed the same rows, and this one cannot be made as if they had come one after the other",
        "{Again}: the whole transaction; loads do so by themselves. Or use isolation_level='READ COMMITTED'.",
        "transient",
    ),
    "40002": Row("a constraint that was checked at the end has rolled the transaction back", None, "data"),
    "40003": Row("it is unknown whether the statement was completed"),
    "40P01": Row(
        "a deadlock: two transactions waited for each other's locks, and the server ended this one",
        "{Again}: the whole transaction; loads do so by themselves. To avoid it, write rows in the same order "
        "everywhere, sorted by the key.",
        "transient",
    ),
    # What a statement says
    "42": Row("the statement is wrong, or not allowed", "Correct the statement, and {again}."),
    "42501": Row(
        "this role lacks a privilege",
        "Ask for the missing privilege on the table or its schema: GRANT SELECT, INSERT ON ... TO ...; for loads "
        "`python -m dataloader grants` prints it.",
    ),
    "42601": Row("the statement cannot be read: a syntax error"),
    "42602": Row("a name is not valid"),
    "42611": Row("a column is not defined rightly"),
    "42622": Row("a name is longer than 63 bytes"),
    "42701": Row("a column of that name is there already, or named twice"),
    "42702": Row("a column's name is that of several tables: write table.column"),
    "42703": Row("there is no column of that name", "Check the names of the columns, and their case, and {again}."),
    "42704": Row("there is no such object: a type, an index, a role, an extension"),
    "42710": Row(
        "an object of that name is there already",
        "Another session created the table meanwhile: {again}. Drop what has that name if it is none.",
    ),
    "42712": Row("an alias is used twice"),
    "42723": Row("a function of that name is there already"),
    "42725": Row("several functions fit the call: cast its arguments"),
    "42803": Row("a column is neither in GROUP BY nor in an aggregate"),
    "42804": Row("an expression's type is not that of its column: cast it"),
    "42809": Row("it is no object of the kind that the statement needs: a view where a table must be"),
    "42830": Row("the columns that a foreign key refers to are no key"),
    "42846": Row("there is no cast between these types"),
    "42883": Row(
        "there is no function or operator for these types", "Cast its arguments: CAST(x AS ...), and {again}."
    ),
    "428C9": Row(
        "the column is numbered or calculated by the database (GENERATED ALWAYS)",
        "Leave the column out: columns=[...]; or pass override_identity=True to store your own numbers.",
    ),
    "42939": Row("the name is reserved: write it in double quotes"),
    "42P01": Row("there is no table or view of that name", "Create the table or its schema first, or check the name."),
    "42P02": Row("there is no parameter of that number"),
    "42P03": Row("a cursor of that name is open already"),
    "42P04": Row("a database of that name is there already"),
    "42P05": Row("a prepared statement of that name is there already", _NAMED_STATEMENTS),
    "42P06": Row("a schema of that name is there already"),
    "42P07": Row(
        "a table or index of that name is there already",
        "Another session created the table meanwhile: {again}. Or use if_exists='append' or 'replace'.",
    ),
    "42P08": Row("a parameter's type is ambiguous: cast it"),
    "42P09": Row("an alias is ambiguous"),
    "42P10": Row(
        "a column is named where it cannot be; after ON CONFLICT there must be a unique index on just these columns",
        "Create the unique index, or name the columns of the one that is there (key=), and {again}.",
    ),
    "42P11": Row("a cursor is not defined rightly"),
    "42P12": Row("a database is not defined rightly"),
    "42P13": Row("a function is not defined rightly"),
    "42P14": Row("a prepared statement is not defined rightly"),
    "42P15": Row("a schema is not defined rightly"),
    "42P16": Row("a table is not defined rightly"),
    "42P17": Row("an object is not defined rightly"),
    "42P18": Row("the type of a parameter or column is unknown: cast it"),
    "42P19": Row("a recursive query is not made as it must be"),
    "42P20": Row("a window function stands where none may"),
    "42P21": Row("two texts have different collations: write COLLATE"),
    "42P22": Row("a text's collation is unknown: write COLLATE"),
    "44": Row("the view that the row goes through would not show it (WITH CHECK OPTION)", "Correct the row.", "data"),
    # Resources
    "53": Row(
        "the server has run out of something", "{Again} when there is room; who runs the server can see of what."
    ),
    "53100": Row(
        "the server's disk is full",
        "The server's disk is full: make room and {again}. Write-ahead log that a replication slot keeps counts too.",
    ),
    "53200": Row(
        "the server has no memory left",
        "Send less at once (chunk_rows=), use fewer workers, or have max_connections, work_mem or "
        "max_locks_per_transaction looked at; then {again}.",
    ),
    "53300": Row(
        "the server has as many connections as it takes: max_connections, or the limit of the role or database",
        "Use a smaller pool (pool_size=, max_overflow=, workers=), close what is idle, put a pooler in between, or "
        "raise max_connections; then {again}.",
        "busy",
    ),
    "53400": Row("a limit of the server's configuration is reached, like temp_file_limit"),
    "54": Row("it is larger than PostgreSQL can be", "Shorten the row's values, or split the row, and {again}."),
    "54001": Row("the statement is too complex", "Send less in one statement, or raise max_stack_depth."),
    "54011": Row("there are too many columns: a table has 1,600", "Split the table, or keep some as one jsonb column."),
    "54023": Row(
        "there are too many arguments: a statement takes 32,767 parameters (asyncpg), a function 100",
        "Send fewer rows in one statement; load_dataframe never comes near it.",
    ),
    "55": Row("the object is in no state for that", "Wait until it is, and {again}."),
    "55006": Row("others use the object", "Have their sessions end: pg_stat_activity shows them; then {again}."),
    "55P02": Row("the setting can only be changed when the server starts"),
    "55P03": Row(
        "a lock could not be had: lock_timeout has passed, or it was asked not to wait (NOWAIT)",
        "Wait for who holds it, or end that by pg_terminate_backend(pid) or ROLLBACK PREPARED, and {again}.",
        "transient",
    ),
    "55P04": Row("a label was added to an enum by this very transaction", "Commit, and use it in the next one."),
    # Somebody, or a limit
    "57": Row("somebody, or a limit, has ended it", "Ask who runs the server; then {again}.", "refused"),
    "57014": Row(
        "the statement was canceled: statement_timeout has passed, or somebody canceled it",
        "A time limit of the server ended the statement: raise statement_timeout and {again}.",
    ),
    "57P01": Row("the server was stopped, or an administrator ended the session", _RESUMED, "lost"),
    "57P02": Row("another process of the server crashed, and it ended all sessions", _RESUMED, "lost"),
    "57P03": Row("the server is starting, stopping or recovering", "{Again} in a while.", "busy"),
    "57P04": Row("the database was dropped", "Check the database's name at the end of the URL.", "lost"),
    "57P05": Row(
        "the session was idle for longer than idle_session_timeout, and the server ended it",
        "Let the pool test its connections (pool_pre_ping=True, as connect(url) does), and {again}.",
        "lost",
    ),
    "58": Row("the server's machine failed", _BUG),
    "58030": Row("the server could not read or write a file", "Have its disk looked at: " + _BUG),
    "58P01": Row("a file is missing on the server", "Check its path there; an extension may not be installed."),
    "58P02": Row("a file is there already on the server"),
    "58P03": Row("a file's name is too long for the server"),
    "72": Row("the rows' old versions are gone (snapshot too old)", "{Again}, in shorter transactions."),
    "F0": Row("the server's configuration cannot be used", _BUG),
    "F0001": Row("the server's lock file is there: another server may run in its folder"),
    "HV": Row(
        "a foreign table's server failed or refused", "Look at the foreign server, its options and user mapping."
    ),
    "HV001": Row("a foreign data wrapper has no memory left"),
    "HV00B": Row("a foreign data wrapper lost a handle"),
    "HV00N": Row("the foreign server cannot be reached"),
    "HV00Q": Row("the foreign server has no such schema"),
    "HV00R": Row("the foreign server has no such table"),
    "P0": Row("a function in PL/pgSQL raised an error", "Look at the function, often a trigger's.", "data"),
    "P0001": Row("a function or trigger refused it by RAISE", "Do as its message says, and {again}."),
    "P0002": Row("a function's query gave no row (INTO STRICT)"),
    "P0003": Row("a function's query gave more than one row (INTO STRICT)"),
    "P0004": Row("a function's ASSERT failed"),
    "XX": Row("the server failed inside", _BUG),
    "XX001": Row("data on the server's disk are damaged", _BUG),
    "XX002": Row("an index on the server's disk is damaged", "Have it made anew: REINDEX. " + _BUG),
}

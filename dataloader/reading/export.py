"""A query under way into a file: the batches are written in a thread, a step behind the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from dataloader.errors import PlanError, ReadError
from dataloader.formatting import did_you_mean, one_line
from dataloader.reading.files import AtomicFile, check_place
from dataloader.reading.formats import Writer, format_of, open_writer
from dataloader.report import ExportReport
from dataloader.sync import finish_despite_cancel, start_task

if TYPE_CHECKING:
    from dataloader.display.progress import Progress
    from dataloader.reading.stream import Reading

IfFileExists = Literal["fail", "replace"]
_IF_EXISTS = ("fail", "replace")
_NO_FILE = "No file was left."


class FileSink:
    """Writes a result to a file, which is there when it is whole.

    Parameters
    ----------
    given : str or None
        Its format, where its name does not say it.

    Attributes
    ----------
    report : ExportReport or None
        What was done, when it is done.

    Raises
    ------
    PlanError
        When the file cannot be there, or its format is not known.
    """

    def __init__(self, path: str | os.PathLike[str], given: str | None, if_exists: str, source: str, database: str):
        if if_exists not in _IF_EXISTS:
            raise PlanError(f"if_exists={if_exists!r} is unknown", hint=did_you_mean(if_exists, _IF_EXISTS))
        if not isinstance(path, (str, os.PathLike)) or isinstance(path, bytes):
            raise PlanError(f"path= must be a path, got {type(path).__name__}", hint="Pass a str or a pathlib.Path.")
        self._path = Path(path).expanduser()
        self._kind, self._compression = format_of(self._path, given)
        self._replaces = if_exists == "replace"
        check_place(self._path, replaces=self._replaces)
        self._source, self._database = source, database
        self._file: AtomicFile | None = None
        self._writer: Writer | None = None
        self._writing: asyncio.Task[None] | None = None
        self.report: ExportReport | None = None

    async def run(self, reading: Reading) -> ExportReport:
        """Write all of a query's result; what fails leaves no file."""
        try:
            await reading.into(self)
        finally:
            if self.report is None:
                await finish_despite_cancel(self._give_up())
        assert self.report is not None
        return self.report

    async def take(self, batch: pa.RecordBatch) -> None:
        await self._written()
        self._writing = start_task(asyncio.to_thread(self._attempt, self._write, batch))

    async def finish(self, progress: Progress) -> None:
        await self._written()
        progress.phase("writing")
        self._writing = start_task(asyncio.to_thread(self._attempt, self._close))
        await self._written()
        # From here on there is a file: a cancel comes too late.
        (await finish_despite_cancel(asyncio.to_thread(self._attempt, self._put))).result()
        state = progress.state
        state.total = state.rows

        def report() -> ExportReport:
            assert self._file is not None
            return ExportReport(
                source=self._source,
                database=self._database,
                path=str(self._path),
                rows=state.rows,
                nbytes=self._file.nbytes,
                seconds=state.seconds,
                format=self._kind,
                columns=self._columns,
            )

        self.report = progress.succeed(report)

    async def _written(self) -> None:
        """Wait for what is being written, and raise its error."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                self._writing = writing
                raise

    async def _give_up(self) -> None:
        if self._file is not None:
            self._file.give_up()
        if self._writing is not None:  # its error, if it has one, is told by the one that ended this
            await asyncio.wait({self._writing})
        if self._file is not None:
            await asyncio.to_thread(self._release, self._file)

    def _release(self, file: AtomicFile) -> None:
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()  # which writes what nobody wants: the file refuses it
        file.give_up()  # it may have been made meanwhile
        file.close()

    def _attempt(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do what touches the disk, and tell of its errors in words."""
        try:
            work(*arguments)
        except FileExistsError as error:
            hint = f"Pass if_exists='replace', or choose another name. {_NO_FILE}"
            raise ReadError(f"the file {str(self._path)!r} was made by another meanwhile", hint=hint) from error
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else one_line(error)
            hint = f"Make room or choose another place, and export again. {_NO_FILE}"
            raise ReadError(f"{str(self._path)!r} could not be written: {why}", hint=hint) from error
        except pa.ArrowException as error:
            hint = f"Read what it is about as text, CAST(... AS text), or choose another format. {_NO_FILE}"
            raise ReadError(f"{self._kind} cannot hold the result: {one_line(error)}", hint=hint) from error

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._columns = tuple((field.name, str(field.type)) for field in batch.schema)
            self._file = AtomicFile(self._path, replaces=self._replaces)
            folder = self._path.parent
            self._writer = open_writer(self._kind, self._compression, self._file, batch.schema, folder)
        self._writer.write(batch)

    def _close(self) -> None:
        assert self._writer is not None
        self._writer.close()

    def _put(self) -> None:
        assert self._file is not None
        self._file.put()

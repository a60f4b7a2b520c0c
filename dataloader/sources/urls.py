"""URLs: the filesystems that they mean, by Arrow or fsspec, what is there, and what of them may be shown."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import weakref
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs

from dataloader.conversion.arrow_errors import in_words
from dataloader.errors import PlanError

STALL_SECONDS = 60.0
"""How long a web server may send nothing. aiohttp's own limit is for the whole file, which would end long loads."""
_PROBED = 512
_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)
_USER = re.compile(r"://[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^?#\s]*[?#]).*", re.DOTALL)
"""Signed URLs have their token in it; where one ends that is not encoded is unknown."""


class Download:
    """A file that is read once, from its beginning: fsspec's says that it can be read again, and cannot."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self._forget = weakref.finalize(self, opened.close)

    def read(self, count: int = -1) -> bytes:
        part = bytes(self._opened.read(count)) if self._forget.alive else b""
        if not part:
            self.close()
        return part

    def close(self) -> None:
        """Let the connection go."""
        self._forget()


@dataclass(frozen=True, slots=True)
class Found:
    """What a URL stands for.

    Attributes
    ----------
    paths : list of str
        One path, of a file or a folder, or those that match a glob.
    base : str or None
        Of a glob: the folder in which all its matches lie.
    stream : Download or None
        The file, opened, where it can be read from its beginning only.
    """

    filesystem: pa.fs.FileSystem
    paths: list[str]
    base: str | None = None
    stream: Download | None = None


def found_at(url: str) -> Found:
    """Find what a URL of a filesystem that Arrow knows stands for, else of one that fsspec knows.

    Raises
    ------
    PlanError
        When no filesystem is known for it, or nothing is there.
    """
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):  # which quote the URL
        filesystem, path = _arrow_filesystem(url)
        if not glob.has_magic(path) or _exists(filesystem, path, url):
            return Found(filesystem, [path])
        base = before_magic(path)
        return Found(filesystem, _some(_matching(filesystem, base, path, url), url), base)
    known, matches = _fsspec(url)
    matches = _some(matches, url)
    filesystem = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(known))
    if glob.has_magic(without_query(url)):
        return Found(filesystem, matches, str(known._strip_protocol(before_magic(without_query(url)))))
    is_whole = url.startswith(("http://", "https://")) and _is_whole(known, url)
    return Found(filesystem, matches, stream=_opened(known, url) if is_whole else None)


def _some(matches: list[str], url: str) -> list[str]:
    if not matches:
        raise PlanError(f"no file matches {hidden(url)!r}", hint="Check the URL.")
    return matches


def _arrow_filesystem(url: str) -> tuple[pa.fs.FileSystem, str]:
    try:
        path, mark, query = url.partition("?")
        encoded = path.replace("[", "%5B").replace("]", "%5D")  # of a glob: no URL may have them
        return pa.fs.FileSystem.from_uri(f"{encoded}{mark}{query}")  # type: ignore[no-any-return]  # of Arrow
    except OSError as error:  # S3 is asked where the bucket lies
        raise _unreadable(url, error) from cause(error)


def _unreadable(url: str, error: Exception) -> PlanError:
    what = f"{hidden(url)} cannot be read: {hidden(in_words(error))}"
    return PlanError(what, hint="Check the URL, the network, and that you may read it.")


def _exists(filesystem: pa.fs.FileSystem, path: str, url: str) -> bool:
    return bool(_kind(filesystem, path, url) != pa.fs.FileType.NotFound)


def is_folder(filesystem: pa.fs.FileSystem, path: str, url: str) -> bool:
    """Whether a folder is there.

    Raises
    ------
    PlanError
        When its server cannot be asked.
    """
    return bool(_kind(filesystem, path, url) == pa.fs.FileType.Directory)


def _kind(filesystem: pa.fs.FileSystem, path: str, url: str) -> pa.fs.FileType:
    try:
        return filesystem.get_file_info(path).type
    except Exception as error:  # of any library: each has errors of its own
        raise _unreadable(url, error) from cause(error)


def _matching(filesystem: pa.fs.FileSystem, base: str, pattern: str, url: str) -> list[str]:
    """The files that match a glob, in which ``**`` is any folders."""
    wanted = re.compile("".join(map(_part, PurePosixPath(pattern).parts)).removesuffix("/"))
    selector = pa.fs.FileSelector(base, allow_not_found=True, recursive=True)
    try:
        below = filesystem.get_file_info(selector)
    except OSError as error:
        raise _unreadable(url, error) from cause(error)
    return sorted(one.path for one in below if one.is_file and wanted.fullmatch(one.path))


def _part(part: str) -> str:
    if part == "**":
        return "(?:[^/]+/)*"
    pieces = re.split(r"(\*|\?|\[[^\]]+\])", part)
    known = {"*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(one) or _set(one) or re.escape(one) for one in pieces) + "/"


def _set(piece: str) -> str:
    """A set like [0-9] or [!a] as a regular expression has it."""
    if not (piece.startswith("[") and len(piece) > 2):
        return ""
    inner = piece[1:-1].replace("\\", r"\\")
    return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"


def before_magic(pattern: str) -> str:
    """The folder of a glob in which all that it matches lies."""
    parts = PurePosixPath(pattern).parts
    return os.path.join("", *itertools.takewhile(lambda part: not glob.has_magic(part), parts[:-1]))


def _fsspec(url: str) -> tuple[Any, list[str]]:
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an optional library, only for URLs Arrow cannot read

        filesystem, path = url_to_fs(url, **_options(url))
        return filesystem, sorted(filesystem.glob(path)) if glob.has_magic(without_query(path)) else [path]
    except Exception as error:  # of any library: each has errors of its own
        hint = "Install fsspec and the package of that filesystem, or copy the file here."
        if isinstance(error, ImportError) and url.startswith(("http://", "https://")):
            hint = "Install it: pip install 'notebook-dataloader[remote]', or download the file and load the copy."
        what = f"no filesystem is known for {hidden(url)!r}: {hidden(in_words(error))}"
        raise PlanError(what, hint=hint) from cause(error)


def _options(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        return {}
    import aiohttp  # noqa: PLC0415 - optional, fsspec's own for the web

    waits = aiohttp.ClientTimeout(total=None, sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
    return {"client_kwargs": {"timeout": waits}}


def _is_whole(known: Any, url: str) -> bool:
    """Whether a web server gives a file from its beginning only.

    Asked for a part it may send the whole file, and fsspec takes that for the part if it is no longer.

    Raises
    ------
    PlanError
        When the server refuses, or answers with a web page.
    """
    from fsspec.asyn import sync  # noqa: PLC0415 - as above

    async def probe() -> tuple[int, str, bytes]:
        session = await known.set_session()
        asked = {"Range": f"bytes=0-{_PROBED - 1}", "Accept-Encoding": "identity"}
        async with session.get(known.encode_url(url), headers=asked) as answer:
            part = await answer.content.read(_PROBED)
            return answer.status, answer.headers.get("Content-Encoding", "identity"), part

    try:
        status, encoding, part = sync(known.loop, probe)
    except Exception as error:
        raise _unreadable(url, error) from cause(error)
    if status >= HTTPStatus.BAD_REQUEST and status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it is empty
        hint = "Check the URL, and that you may read it." if status < 500 else "Try again later."
        raise PlanError(f"{hidden(url)} cannot be read: its server answers {_answer(status)}", hint=hint)
    if _PAGE.match(part):
        hint = "Take the address of the file itself, as behind a button for the download."
        raise PlanError(f"{hidden(url)} is a web page, and no file", hint=hint)
    return status != HTTPStatus.PARTIAL_CONTENT or encoding != "identity" or known.info(url).get("size") is None


def _answer(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _opened(known: Any, url: str) -> Download:
    try:
        return Download(known.open(url, "rb", block_size=0))
    except Exception as error:
        raise _unreadable(url, error) from cause(error)


def without_query(path: str) -> str:
    """A path as its file is called: over HTTP the whole URL is the path."""
    return path.partition("?")[0].partition("#")[0] if "://" in path else path


def without_secrets(url: str) -> str:
    """A URL as it may be kept: without its user, its password and its query."""
    return _USER.sub("://", without_query(url))


def hidden(text: str) -> str:
    """A text in which no URL shows its user, its password or its query."""
    return _QUERY.sub(r"\1***", _USER.sub("://***@", text))


def cause(error: Exception) -> Exception | None:
    """The error, if its text may be shown."""
    return error if hidden(str(error)) == str(error) else None

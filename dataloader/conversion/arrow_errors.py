"""What Arrow and other readers say of data, in words: their own are of chunks, codecs and C++ types."""

from __future__ import annotations

import re

import pyarrow as pa

from dataloader.formatting import one_line

DAMAGED = "it is damaged, or not what its name says"
_WORDS = (
    (
        r"with type (\S+): did not recognize Python value type",
        r"there is a value of type \1, which has no column type",
    ),
    (r"surrogates not allowed", "a text is not Unicode: it has half of a surrogate pair"),
    (r"magic bytes|[Pp]arquet file size is \d+ bytes, smaller", "it is not a Parquet file, or its end is missing"),
    (r"size is 0 bytes", "it is empty"),
    (
        r"metadata bytes|Not an Arrow file|[Ff]latbuffer|not an IPC|schema message",
        "it is not an Arrow file, or its end is missing",
    ),
    (
        r"inflate|decompress|[Tt]runcated compressed|[Cc]orrupt",
        "its compressed data is damaged or incomplete, or it is not compressed as its name says",
    ),
    (r"[Ii]nvalid position|not a zip file", "it is not a zip archive, or its end is missing"),
    (r"OAuth2 access token|[Uu]nable to locate credentials", "there are no credentials for its server"),
    (
        r"payload is not completed|TransferEncodingError|[Cc]onnection (was )?(reset|lost|closed|aborted)"
        r"|[Ss]erver disconnected",
        "the connection to its server was lost before its end",
    ),
    (r"range requests", "its server does not give the parts of it that are asked for"),
    (r"resolve host|[Nn]ame or service not known", "the host in its URL is unknown"),
    (r"ACCESS_DENIED|[Ff]orbidden|[Uu]nauthorized|\b40[13]\b", "its server refuses access"),
    (
        r"NETWORK_CONNECTION|[Cc]onnection refused|(an|ould)(no|n')t connect|[Cc]onnect to (server|host)",
        "its server cannot be reached",
    ),
    (r"detect file format|[Ii]nvalid [Zz]ip|[Zz]ip error", "it is not a spreadsheet, or its end is missing"),
    (r"out of (range|bounds)", "a value in it is out of range"),
    (r"[Pp]ermission denied", "this user may not read it"),
)


def in_words(error: Exception, otherwise: str = DAMAGED) -> str:
    """The error as one says it of a file or of values, in one line without a full stop; else `otherwise`."""
    text = one_line(error)
    for pattern, words in _WORDS:
        if found := re.search(pattern, text):
            return found.expand(words)
    if isinstance(error, TimeoutError):
        return "its server sends nothing for too long"
    if isinstance(error, FileNotFoundError):
        return "there is no such file, or its server cannot be reached"
    return otherwise if isinstance(error, pa.ArrowException) or not text else text

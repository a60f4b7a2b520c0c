"""What the package says in Python's words, said in those of the command line: ``casts='lossy'`` is ``--casts lossy``.

Messages are written once, for both; all that the command line prints of them goes through `spoken`.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Mapping

import click

Options = Mapping[str, click.Option]
"""The options of the command line by the names that they have in Python."""

_TEXT = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_CALL = r"(?:await )?\b(?:load_\w+|validate|plan_load|connect|run)\((?:[^()\n]|\([^()\n]*\))*\)"
_GIVEN = re.compile(
    rf"(?P<call>{_CALL})|(?<!\w)(?P<text>{_TEXT})(?!\w)|(?<![\w?&;./-])(?P<name>[a-z_]+)=(?!=)"
    rf"(?P<value>{_TEXT}|True|False|None|\{{[^}}\n]*\}}|\[[^\]\n]*\]|\(\d+, \d+\)|-?\d+(?:\.\d+)?|(?![^\s,.:;)]))"
)
_ALONE = re.compile(r"(?:^|(?<=error: )|(?<=another )|(?<=\(its ))(?P<name>[a-z_]+)(?= (?:must|names|requires|to|is) )")
_RESUMED = re.compile(
    rf"await load_\w+\(\.\.\., (?:{_TEXT}), (load_id=(?:{_TEXT})), resume=True(?:, (chunk_rows=\d+))?\)"
)
_SHELL_WORD = r"(?:'(?:[^']|'\"'\"')*'|[^\s;]+?(?=[.,;]?(?:\s|$)))"
_OR_RESUME = re.compile(rf"{_RESUMED.pattern}, or: (python -m dataloader resume {_SHELL_WORD})")
_PHRASES = (
    (r"engine=, on the command line as --to", "--to"),
    (r"; where it is a token that expires, pass connect\(password=\) a function", ""),
    (r"\bdf\[c\] = [^,]*?, or ", ""),
    (r", or df\[c\] = df\[c\][^,;\s]*?(?=\.?$)", ""),
    (r"\bset it to None", "leave the field empty"),
    (r", see \.frame\b", ": --json shows them"),
    (r"\bcsv= decides: (\w+)", r"--csv-\1 decides"),
)
_PHRASES_FOUND = tuple((re.compile(pattern, re.MULTILINE), words) for pattern, words in _PHRASES)


def spoken(text: str, options: Options, *, rejects: str | None = None, to: str = "") -> str:
    """A message with the command line's options in place of Python's.

    What stands in quotes is somebody's data, and stays; so do calls of functions, which are about other sources.

    Parameters
    ----------
    rejects : str or None
        The file in which rejected rows are.
    to : str
        What a command needs that is to find the same database.
    """
    text = _OR_RESUME.sub(lambda found: f"{found[3]}{to}", text)
    text = _RESUMED.sub(lambda found: " ".join(filter(None, ("the same command with --resume", *found.groups()))), text)
    text = re.sub(r"\breport\.rejects\b", lambda _: rejects or "the file of --rejects", text)
    for pattern, words in _PHRASES_FOUND:
        text = pattern.sub(words, text)
    text = _ALONE.sub(lambda found: options[found["name"]].opts[0] if found["name"] in options else found[0], text)
    return _GIVEN.sub(_translation(options), text)


def _translation(options: Options) -> Callable[[re.Match[str]], str]:
    def translated(found: re.Match[str]) -> str:
        name, value = found["name"] or "", found["value"]
        if name == "csv":
            return _csv(value, options)
        if name == "on_invalid":
            return "--rejects FILE"
        return _option(options[name], value) if name in options else found[0]

    return translated


def _option(option: click.Option, value: str | None) -> str:
    """An option with its value, which is spelled as in Python."""
    if value in {"", "None"}:
        return option.opts[0]
    if option.is_flag:
        return option.secondary_opts[0] if value == "False" and option.secondary_opts else option.opts[0]
    return f"{option.opts[0]} {_argument(value or '')}"


def _argument(value: str) -> str:
    given = _literal(value)
    if given is None:
        return value.strip("[]{}")
    given = ",".join(map(str, given)) if isinstance(given, list) and ... not in given else given
    given = "/".join(map(str, given)) if isinstance(given, tuple) else given  # a shard
    return shlex.quote(str(given)) if isinstance(given, (str, int, float)) else "..."


def _csv(value: str | None, options: Options) -> str:
    """The options of ``csv=``, each of which has a name of its own here."""
    given = _literal(value or "")
    names = given.items() if isinstance(given, dict) else ()
    said = [_option(options[f"csv_{name}"], repr(one)) for name, one in names if f"csv_{name}" in options]
    return " ".join(said) or "--csv-..."


def _literal(value: str) -> object:
    """What the text means in Python; None where the message left something out."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return None

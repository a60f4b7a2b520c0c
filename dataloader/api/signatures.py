"""The signatures of the public functions: help and completion know every option with its default."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from types import CoroutineType
from typing import Any, TypeVar, cast, get_type_hints

from dataloader.options import LoadOptions
from dataloader.sync import Call

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def with_options(kind: type | None = None) -> Callable[[F], F]:
    """Decorate a function that takes ``**options``, so that help and completion know each with its default.

    Parameters
    ----------
    kind : type or None
        The TypedDict of its options, if it shares some.
    """

    def decorate(function: F) -> F:
        decorated: Any = _calling(function) if inspect.iscoroutinefunction(function) else function
        decorated.__signature__ = _signature(function, kind)
        return cast(F, decorated)

    return decorate


def _calling(function: Callable[..., CoroutineType[Any, Any, T]]) -> Callable[..., Call[T]]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Call[T]:
        return Call(function(*arguments, **options))

    mark = getattr(inspect, "markcoroutinefunction", lambda same: same)  # from Python 3.12 on
    return cast("Callable[..., Call[T]]", mark(call))


def _signature(function: Callable[..., Any], kind: type | None) -> inspect.Signature:
    own = inspect.signature(function)
    taken = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    hints = {} if kind is None else get_type_hints(kind)
    types = {name: hint for name, hint in hints.items() if name not in own.parameters}
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=_default(one), annotation=types[one.name])
        for one in fields(LoadOptions)
        if one.name in types
    ]
    return own.replace(parameters=[*taken, *shared])


def _default(option: Any) -> Any:
    """None for the engine, which a caller may leave out and `LoadOptions` always has."""
    return None if option.name == "engine" else option.default

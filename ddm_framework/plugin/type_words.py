"""Types in words for readers of recipes: `Annotated[int, Field(ge=1)] | None` is `integer ≥ 1, or null`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ddm_framework.plugin.signatures import LARGEST_INT, ComponentOf

_PLAIN: dict[Any, str] = {
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    None: "null",
    types.NoneType: "null",
    Any: "anything",
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of", "pattern": "like"}
_LENGTHS = {"min_length": "at least", "max_length": "at most"}


def in_words(hint: Any) -> str:
    """A type in words.

    Args:
        hint: a type as `typing.get_type_hints(..., include_extras=True)` resolves it, so that its author's aliases do
            not show; or pydantic's `FieldInfo`.
    """
    if isinstance(hint, FieldInfo):
        return _with_marks(hint.annotation, hint.metadata)
    if _is_plain(hint):
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _with_marks(arguments[0], hint.__metadata__)
    if origin is typing.Literal:
        return " | ".join(f"`{as_written(each)}`" for each in arguments)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(map(in_words, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"list of {len(arguments)}: {', '.join(map(in_words, arguments))}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(origin, type) and issubclass(origin, Iterable) and arguments:
        return f"list of {in_words(arguments[0])}"
    return _by_name(hint)


def as_written(value: Any) -> str:
    """A default as a recipe would write it: `null`, `false`, `data`, `[{use: ddm}]`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_written, value))}]"
    return "null" if value is None else str(value)


def _is_plain(hint: Any) -> bool:
    try:
        return hint in _PLAIN
    except TypeError:  # an unhashable hint is not a plain type
        return False


def _by_name(hint: Any) -> str:
    """Words for a class or for a named type."""
    if isinstance(hint, type) and issubclass(hint, list | tuple | set | frozenset):
        return "list"
    if isinstance(hint, type) and issubclass(hint, Mapping | BaseModel):
        return "mapping"
    named = getattr(hint, "__supertype__", None) or getattr(hint, "__value__", None)  # NewType, and `type X = ...`
    return in_words(named) if named is not None else getattr(hint, "__name__", str(hint))


def _with_marks(hint: Any, marks: Sequence[Any]) -> str:
    """A type with its bounds, or with the kind of component that it stands for."""
    kinds = [mark.kind for mark in marks if isinstance(mark, ComponentOf)]
    words = _component(kinds[0], hint) if kinds else in_words(hint)
    values = [pair for mark in marks for pair in _limits(mark)]
    told = [(name, value) for name, value in values if name in _BOUNDS and value != LARGEST_INT]
    bounds = " and ".join(_bound(name, value, hint is int) for name, value in told)
    lengths = " and ".join(f"{_LENGTHS[name]} {value}" for name, value in values if name in _LENGTHS)
    return " ".join(filter(None, [words, bounds, f"({lengths})" if lengths else ""]))


def _component(kind: str, hint: Any) -> str:
    """`attributor`, `list of attributors`, or either with `, or null`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(in_words(each) if each is types.NoneType else _component(kind, each) for each in arguments)
    return f"list of {'studies' if kind == 'study' else f'{kind}s'}" if origin is list else kind


def _limits(mark: Any) -> Iterator[tuple[str, Any]]:
    """The bounds and lengths that a mark of `Annotated` sets; a custom validator sets none."""
    if isinstance(mark, FieldInfo):
        for each in mark.metadata:
            yield from _limits(each)
    for name in (*_BOUNDS, *_LENGTHS):
        value = getattr(mark, name, None)
        if value is not None and not callable(value):
            yield name, value


def _bound(name: str, value: Any, whole: bool) -> str:
    """A bound such as `≥ 1`; for integers, `> 0` is written as `≥ 1`."""
    if whole and name == "gt":
        return f"≥ {value + 1}"
    return f"{_BOUNDS[name]} {value}"

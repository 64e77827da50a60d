"""A component's signature is its schema: positional-only arguments from the core, keyword-only ones from recipes."""

from __future__ import annotations

import inspect
import itertools
import math
import types
import typing
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Strict, ValidationError, create_model
from pydantic_core import ErrorDetails

from ddm_framework.errors import Place, PluginError, shown, suggestion

_Model = TypeVar("_Model", bound=BaseModel)

NUM_CORE_ARGUMENTS = {
    "dataset": 0,
    "backbone": 1,
    "clusterer": 3,
    "distance": 2,
    "objective": 2,
    "attributor": 3,
    "study": 1,
}
"""How many positional-only arguments the core passes to a target of each kind."""

_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}

STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
LARGEST_INT = 2**63 - 1
"""Of 64 bits, with sign: PyTorch and NumPy count no further."""
LARGEST_FLOAT = 1e30
"""Networks compute in 32 bits, where what is larger soon becomes infinite."""


@dataclass(frozen=True, slots=True)
class ComponentOf:
    """Marks an option that takes components of a kind, each written as `{use: name, option: value}`.

    `Annotated[Choice, ComponentOf("objective")]` takes one, `Annotated[list[Choice], ComponentOf("backbone")]` several,
    and `Annotated[list[Grid], ComponentOf("attributor")]` several, each of which may list several values to try for an
    option.
    """

    kind: str


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a component.

    Attributes:
        name: what a recipe writes.
        hint: its type, with aliases and text annotations resolved; `Annotated` is kept.
        default: its default in the signature.
    """

    name: str
    hint: Any
    default: Any

    @property
    def takes_path(self) -> bool:
        """Whether its value is a path or contains one."""
        return mentions(self.hint, Path)


@dataclass(frozen=True, slots=True)
class Signature:
    """The options of a component, in the order of its signature, and the model that validates them."""

    options: tuple[Option, ...]
    model: type[BaseModel]

    @property
    def names(self) -> tuple[str, ...]:
        """The options' names."""
        return tuple(option.name for option in self.options)

    def defaults(self) -> dict[str, Any]:
        """Every option's default."""
        return {option.name: option.default for option in self.options}

    def validated(
        self, values: Mapping[str, Any], what: str, core_names: Sequence[str] = ()
    ) -> tuple[BaseModel | None, list[tuple[Place, str]]]:
        """The values as a model, or None with the place and the message of everything that is wrong.

        Args:
            values: of the options.
            what: how to name the component in a message.
            core_names: settings of the core in the same section, also listed in messages.
        """
        known = (*self.names, *core_names)
        listing = f" (options: {', '.join(known)})" if known else " (it has none)"
        return validated(
            self.model, values, lambda name: f"{what} has no option {name!r}{suggestion(name, known)}{listing}"
        )


def read_signature(target: Callable[..., Any], kind: str, who: str) -> Signature:
    """The schema of a component.

    Args:
        target: the imported function.
        kind: its kind, which determines how many arguments the core passes.
        who: how to name the component in an error.
    Raises:
        PluginError: if the signature breaks the contract of its kind.
    """
    return (_read_once if isinstance(target, Hashable) else _read)(target, kind, who)


def _read(target: Callable[..., Any], kind: str, who: str) -> Signature:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        raise PluginError(f"{who}: it has no signature; wrap it in a function of your own") from None
    core = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    for parameter in parameters:
        if parameter not in core and parameter not in options:
            written = _STARS.get(parameter.kind, "") + parameter.name
            raise PluginError(
                f"{who}: argument {written!r} must stand before '/' (from the core) or after '*' "
                "(an option of the recipe)"
            )
    if len(core) != NUM_CORE_ARGUMENTS[kind]:
        wanted = NUM_CORE_ARGUMENTS[kind]
        raise PluginError(f"{who}: it has {len(core)} positional-only arguments before '/', the core passes {wanted}")
    hints = _hints(target, {option.name: option.annotation for option in options}, who)
    for option in options:
        if option.annotation is option.empty or option.default is option.empty:
            raise PluginError(f"{who}: option {option.name!r} needs an annotation and a default")
        if option.name.startswith("_"):
            raise PluginError(f"{who}: option {option.name!r} must not start with an underscore")
    return Signature(
        tuple(Option(p.name, hints[p.name], p.default) for p in options),
        _model({p.name: (_held_in_bounds(hints[p.name]), p.default) for p in options}, who),
    )


_read_once = lru_cache(maxsize=1000)(_read)


def _model(fields: dict[str, Any], who: str) -> type[BaseModel]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Field name .* shadows an attribute", UserWarning)
            return create_model("Options", __config__=STRICT, **fields)
    except Exception as error:
        text = " ".join(str(error).split())
        raise PluginError(f"{who}: its options do not form a valid schema: {text}") from error


def _hints(target: Callable[..., Any], options: dict[str, Any], who: str) -> dict[str, Any]:
    """Resolved annotations of the options only: those of the core's arguments may name unimported types."""
    function = inspect.unwrap(target)
    holder = type("Holder", (), {"__annotations__": options, "__module__": function.__module__})
    try:
        return typing.get_type_hints(holder, vars(inspect.getmodule(function)), include_extras=True)
    except Exception as error:
        raise PluginError(f"{who}: an annotation cannot be resolved: {error}") from error


def _fillable(hint: Any) -> Any:
    """The hint with tuples that also accept a list, since YAML has no tuples; their elements stay strict."""
    origin, arguments = typing.get_origin(hint), tuple(map(_fillable, typing.get_args(hint)))
    if origin is tuple or hint is tuple:
        return typing.Annotated[hint, Strict(False)]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[arguments]  # noqa: UP007 - as many members as there are
    if origin is typing.Annotated:
        return typing.Annotated[arguments]
    return origin[arguments] if origin in (list, dict) else hint


def bearable(value: Any) -> Any:
    """A value as it is, if every number in it fits into what computes with it.

    Raises:
        ValueError: for integers beyond 64 bits, floats beyond 32, infinity and NaN.
    """
    if isinstance(value, Mapping):
        held: Any = value.values()
    else:
        held = value if isinstance(value, list | tuple | set | frozenset) else ()
    for each in held:
        bearable(each)
    if isinstance(value, int) and not -LARGEST_INT <= value <= LARGEST_INT:
        raise ValueError("input should fit into 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("input should be a finite number")
    if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
        raise ValueError(f"input should be at most {LARGEST_FLOAT:g} in size, for networks compute in 32 bits")
    return value


def _held_in_bounds(hint: Any) -> Any:
    """The hint of an option whose numbers are bounded, whatever holds them."""
    return Annotated[_fillable(hint), AfterValidator(bearable)]


def mentions(hint: Any, wanted: Any) -> bool:
    """Whether a type is the wanted one or contains it."""
    return hint is wanted or any(mentions(argument, wanted) for argument in typing.get_args(hint))


def validated(
    model: type[_Model], values: Mapping[str, Any], unknown: Callable[[str], str]
) -> tuple[_Model | None, list[tuple[Place, str]]]:
    """Values as a model, or None with the place and the message of every problem that pydantic finds.

    Args:
        model: that forbids other names than those of its fields.
        values: by name.
        unknown: the message for another name; these come first.
    """
    try:
        return model.model_validate(dict(values)), []
    except ValidationError as error:
        problems: dict[str, list[ErrorDetails]] = {}
        for each in error.errors(include_url=False):
            problems.setdefault(str(each["loc"][0]) if each["loc"] else "", []).append(each)
    strange: list[tuple[Place, str]] = []
    worded: list[tuple[Place, str]] = []
    for name, errors in problems.items():
        if errors[0]["type"] == "extra_forbidden" and len(errors[0]["loc"]) == 1:
            strange.append(((name,), unknown(name)))
            continue
        words = " or ".join(dict.fromkeys(map(_in_words, errors)))
        found = f", found {shown(values[name])}" if name in values else ""
        worded.append((_common(errors), f"{name and f'{name}: '}{words}{found}"))
    return None, strange + worded


def _common(errors: Sequence[ErrorDetails]) -> Place:
    """Where the errors' places agree; the alternatives of a type can disagree in different places."""
    alike = itertools.takewhile(lambda keys: len(set(keys)) == 1, zip(*(each["loc"] for each in errors), strict=False))
    return tuple(keys[0] for keys in alike)


def _in_words(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "model_type":
        return "input should be a mapping"
    text = str(error["msg"])
    return text[0].lower() + text[1:]

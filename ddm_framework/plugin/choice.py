"""A component chosen with its options (`Choice`), or with several settings to try (`Grid`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ddm_framework.plugin.source_code import code_digest

GIVEN = "given_from_python"
"""Stands for a data set or backbone that was passed in from Python, which no recipe can recreate."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A component that was chosen, with every option spelled out.

    Attributes:
        kind, name: of the component.
        options: the value of every option; paths are absolute, and other components are choices themselves.
        target: its function.
        given: the options that were set explicitly, with paths and components resolved; the others have their defaults.
        home: the module under which the component is registered.
        plugin: that brings it.
    """

    kind: str
    name: str
    options: dict[str, Any]
    target: Callable[..., Any] = field(repr=False, compare=False)
    given: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    home: str = field(default="", repr=False, compare=False)
    plugin: str = field(default="", repr=False, compare=False)

    @property
    def who(self) -> str:
        """How it is named in a message."""
        if self.name == GIVEN:
            return f"the {self.kind}"
        return f"{self.kind} {self.name!r}" + (f" of plugin {self.plugin}" if self.plugin else "")

    def __call__(self, *core: Any) -> Any:
        """Call the component with the core's arguments and the recipe's options."""
        return self.target(*core, **self.options)

    def as_dict(self) -> dict[str, Any]:
        """The component as a recipe writes it, with every option."""
        return {"use": self.name, **{name: plain(value) for name, value in self.options.items()}}

    def code(self) -> str:
        """A digest of its code; empty for code of the core or without a file (see `code_digest`)."""
        return code_digest(self.target, self.home)

    def inner(self) -> Iterator[Choice]:
        """This component and, recursively, the components among its options."""
        return (each for each in within(self) if isinstance(each, Choice))


@dataclass(frozen=True, slots=True)
class Grid:
    """A component with several settings to try: every combination of the values listed for its options.

    Attributes:
        choices: one per combination, at least one.
        given: the options as written, including the lists of values.
    """

    choices: tuple[Choice, ...]
    given: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind of the component."""
        return self.choices[0].kind

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.choices[0].name

    def as_dict(self) -> dict[str, Any]:
        """The component as a recipe writes it."""
        return {"use": self.name, **{name: plain(value) for name, value in self.given.items()}}


def use(name: str, /, **options: Any) -> Any:
    """A component in the form of a recipe, as the default of an option: `use("margin")`."""
    return {"use": name, **options}


def plain(value: Any) -> Any:
    """A value converted to what YAML and JSON can hold."""
    if isinstance(value, Choice | Grid):
        return value.as_dict()
    if isinstance(value, BaseModel):
        return {key: plain(each) for key, each in value.model_dump(by_alias=True).items()}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def within(value: Any) -> Iterator[Any]:
    """A value and all that it holds: options of components, choices of grids, members of mappings and lists."""
    yield value
    held = value.options if isinstance(value, Choice) else value.choices if isinstance(value, Grid) else value
    if isinstance(held, Mapping | list | tuple):
        for each in held.values() if isinstance(held, Mapping) else held:
            yield from within(each)

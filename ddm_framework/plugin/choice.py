"""A component with its options, and several settings of one: what choosing gives, and what components take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ddm_framework.plugin.source_code import code_digest


@dataclass(frozen=True, slots=True)
class Choice:
    """A component that was chosen, with every option spelled out.

    Attributes:
        kind, name: of the component.
        options: of every option its value: paths are absolute, and other components are choices themselves.
        target: its function.
        given: the options that were written, as they were, but for their paths; the others have their defaults.
        home: the module that the component is registered under.
    """

    kind: str
    name: str
    options: dict[str, Any]
    target: Callable[..., Any] = field(repr=False, compare=False)
    given: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    home: str = field(default="", repr=False, compare=False)

    def __call__(self, *core: Any) -> Any:
        """Call the component with the core's arguments and the recipe's options."""
        return self.target(*core, **self.options)

    def as_dict(self) -> dict[str, Any]:
        """As written in a recipe, every option spelled out."""
        return {"use": self.name, **{name: plain(value) for name, value in self.options.items()}}

    def code(self) -> str:
        """A digest of the code that it runs; empty where there is none to be read (see `code_digest`)."""
        return code_digest(self.target, self.home)

    def inner(self) -> Iterator[Choice]:
        """This component, and those among its options and theirs."""
        yield self
        for value in self.options.values():
            yield from _choices_in(value)


@dataclass(frozen=True, slots=True)
class Grid:
    """A component with the settings that are to be tried: every combination of the values that its options list.

    Attributes:
        choices: one for each combination, at least one.
        given: the options that were written, lists of values among them.
    """

    choices: tuple[Choice, ...]
    given: dict[str, Any]

    @property
    def kind(self) -> str:
        """Of the component."""
        return self.choices[0].kind

    @property
    def name(self) -> str:
        """Of the component."""
        return self.choices[0].name

    def as_dict(self) -> dict[str, Any]:
        """As written in a recipe."""
        return {"use": self.name, **{name: plain(value) for name, value in self.given.items()}}


def use(name: str, /, **options: Any) -> Any:
    """A component as a recipe writes it, for the default of an option: `use("margin")`."""
    return {"use": name, **options}


def plain(value: Any) -> Any:
    """Values as YAML and JSON can hold them."""
    if isinstance(value, Choice | Grid):
        return value.as_dict()
    if isinstance(value, BaseModel):
        return {key: plain(each) for key, each in value.model_dump(by_alias=True).items()}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _choices_in(value: Any) -> Iterator[Choice]:
    if isinstance(value, Choice):
        yield from value.inner()
    elif isinstance(value, Grid):
        for each in value.choices:
            yield from each.inner()
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _choices_in(each)

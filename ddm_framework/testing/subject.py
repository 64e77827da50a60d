"""A component under test, with the options that it is tested with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from ddm_framework.errors import DDMError, PluginError, suggestion
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.choosing import choose_registered
from ddm_framework.plugin.components import KINDS, check_kind
from ddm_framework.plugin.registry import Plugin, Registered, Registry
from ddm_framework.plugin.signatures import Signature, read_signature

Made = TypeVar("Made")
Options = Mapping[str, Mapping[str, Any]]
"""Options by component, as in `{"dataset.mnist": {"root": "data"}}`."""

NO_OPTIONS: Options = {}


@dataclass(frozen=True)
class Subject:
    """A component under test.

    Attributes:
        registered: the component.
        registry: where it looks others up.
        options: instead of its defaults; strings stand for paths where the option is one.
    """

    registered: Registered
    registry: Registry
    options: Mapping[str, Any] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.registered.kind

    @property
    def name(self) -> str:
        """What a recipe writes after `use:`."""
        return self.registered.component.name

    @property
    def id(self) -> str:
        """As options name it: `backbone.mlp`."""
        return f"{self.kind}.{self.name}"

    @cached_property
    def target(self) -> Callable[..., Any]:
        """The function itself."""
        return self.registered.load()

    @cached_property
    def signature(self) -> Signature:
        """What options it has."""
        return read_signature(self.target, self.kind, self.registered.who)

    @cached_property
    def broken(self) -> str:
        """Why it cannot be called at all; empty if it can."""
        try:
            _ = self.signature
        except PluginError as error:
            return str(error)
        return ""

    @cached_property
    def choice(self) -> Choice:
        """The component with its options, as a recipe picks it.

        Raises:
            DDMError: if an option is wrong.
            PluginError: if it cannot be imported, or its signature is no schema.
        """
        return self.with_options()

    def with_options(self, **changed: Any) -> Choice:
        """The component with other options than it is tested with."""
        return choose_registered(self.registered, self.registry, {**self.options, **changed})

    def once(self, what: str, make: Callable[[], Made]) -> Made:
        """Something that several checks look at, made by the first of them."""
        if what not in self._made:
            self._made[what] = make()
        made: Made = self._made[what]
        return made


def subjects(
    registry: Registry, *, kind: str | None = None, plugin: str | None = None, options: Options = NO_OPTIONS
) -> list[Subject]:
    """The components of a kind, or of a plugin, or all, in the order of a run.

    Args:
        registry: where they are.
        kind: of which kind.
        plugin: a distribution, one of its entry points as `ddm plugins` names it, or a local file.
        options: that some of them are tested with.
    Raises:
        DDMError: for an unknown kind or plugin, or options of a component that is not among them, or wrong ones.
    """
    if kind is not None:
        check_kind(kind)
    named = None if plugin is None else {each.name for each in plugins_of(registry, plugin)}
    found = [
        Subject(registered, registry, options.get(f"{each}.{registered.component.name}", {}))
        for each in KINDS
        if kind in (None, each)
        for registered in registry.components(each)
        if named is None or registered.plugin in named
    ]
    known = [subject.id for subject in found]
    for key in options:
        if key not in known:
            raise DDMError(f"there is no component {key!r} to set options of{suggestion(key, known)}")
    for subject in found:
        if subject.options:
            _check_options(subject)
    return found


def _check_options(subject: Subject) -> None:
    """Refuse wrong options before anything is checked; what is wrong with the component itself is for the checks."""
    if not subject.broken:
        _ = subject.choice


def plugins_of(registry: Registry, name: str) -> list[Plugin]:
    """The plugins of a distribution, or the one of that very name.

    Raises:
        DDMError: if there is none, with the nearest names.
    """
    found = [plugin for plugin in registry.plugins if name in (plugin.name, str(plugin.file))]
    found = found or [plugin for plugin in registry.plugins if _plain(plugin.name.partition(":")[0]) == _plain(name)]
    if not found:
        known = list(dict.fromkeys(_distributions(registry)))
        raise DDMError(
            f"no installed package {name!r} offers plugins of ddm{suggestion(name, known)}"
            f" (packages that do: {', '.join(known)}; a local file is named by its path)"
        )
    return found


def _distributions(registry: Registry) -> Iterator[str]:
    return (plugin.name.partition(":")[0] for plugin in registry.plugins if plugin.file is None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")

"""Components by kind and name; a target is imported only when its component is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_framework.errors import DDMError, PluginError, suggestion
from ddm_framework.plugin.components import Component, check_kind

LOCAL_PREFIX = "ddm_local_"
"""Prefix of the module names of plugins that are single files."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin: its components, or the reason why it has none.

    Attributes:
        name: distribution and entry point, such as `ddm-framework:backbones`, or the path of a local file.
        version: of the distribution; empty for a local file.
        components: what it provides, as (kind, component).
        failure: why it could not be loaded; empty if it was.
        file: path of a local plugin; None for an installed one.
    """

    name: str
    version: str = ""
    components: tuple[tuple[str, Component], ...] = ()
    failure: str = ""
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """A component and the plugin that provides it."""

    kind: str
    component: Component
    plugin: str

    @property
    def who(self) -> str:
        """How it is named in a message."""
        return f"{self.kind} {self.component.name!r} of plugin {self.plugin}"

    @property
    def home(self) -> str:
        """The module that its target names."""
        return self.component.target.partition(":")[0]

    def load(self) -> Callable[..., Any]:
        """Import the target.

        Raises:
            PluginError: if the target cannot be imported, whatever the reason.
        """
        module_name, _, attribute = self.component.target.partition(":")
        who = self.who
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())
            raise PluginError(f"{who} cannot be imported: {type(error).__name__}: {text}") from error
        if not hasattr(module, attribute):
            raise PluginError(f"{who}: module {module_name} has no {attribute!r}")
        target = getattr(module, attribute)
        if not callable(target):
            raise PluginError(f"{who}: {self.component.target} is not a function")
        return target  # type: ignore[no-any-return]


class Registry:
    """All components by kind and name; a name that two plugins provide is an error only when it is used.

    Attributes:
        plugins: those that were found, broken ones included.
        used: kind and name of each component that was looked up, in order. A study's result depends on the methods that
            it looks up by name; the pipeline clears this before the study runs and reads it afterwards.
    """

    def __init__(self, plugins: tuple[Plugin, ...], components: Sequence[Registered]) -> None:
        self.plugins = plugins
        self.used: dict[tuple[str, str], None] = {}
        self._entries: dict[tuple[str, str], list[Registered]] = {}
        for registered in components:
            self._entries.setdefault((registered.kind, registered.component.name), []).append(registered)

    @property
    def files(self) -> list[Path]:
        """Local files that were loaded as plugins."""
        return [plugin.file for plugin in self.plugins if plugin.file is not None]

    def names(self, kind: str) -> list[str]:
        """The names of a kind, sorted."""
        return sorted(name for of_kind, name in self._entries if of_kind == kind)

    def components(self, kind: str) -> list[Registered]:
        """All components of a kind, sorted by name, including those that share a name."""
        return [registered for name in self.names(kind) for registered in self._entries[kind, name]]

    def get(self, kind: str, name: str) -> Registered:
        """The one component of this kind and name.

        Raises:
            DDMError: for an unknown kind, an unknown name (with the nearest ones), or a name that two plugins provide.
        """
        check_kind(kind)
        self.used[kind, name] = None
        found = self._entries.get((kind, name), [])
        if not found:
            near = suggestion(name, self.names(kind))
            broken = f"; not loaded: {', '.join(self.failed)}, `ddm plugins` says why" if self.failed else ""
            raise DDMError(f"unknown {kind} {name!r}{near} (`ddm ls {kind}` lists them all{broken})")
        if len(found) > 1:
            plugins = " and ".join(registered.plugin for registered in found)
            raise DDMError(f"{kind} {name!r} is brought by {plugins}; uninstall one of them, or rename one component")
        return found[0]

    def collisions(self) -> list[tuple[Registered, ...]]:
        """Groups of components that share a kind and a name."""
        return [tuple(group) for group in self._entries.values() if len(group) > 1]

    @property
    def failed(self) -> list[str]:
        """Names of the plugins that could not be loaded."""
        return [plugin.name for plugin in self.plugins if plugin.failure]

"""Find plugins and collect their components, each in isolation: a broken plugin affects no other."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from ddm_framework.errors import PluginError, shown, suggestion
from ddm_framework.files import FileError, check_file
from ddm_framework.plugin import hookspecs
from ddm_framework.plugin.components import KINDS, Component, hook_name
from ddm_framework.plugin.registry import LOCAL_PREFIX, Plugin, Registered, Registry

GROUP = "ddm"
_PREFIX = "ddm_register_"
_HOOKS = tuple(map(hook_name, KINDS))
_HOSTS = ("importlib", "pluggy", "ddm_framework")
"""Packages whose frames come before those of a plugin's own code in a traceback."""


def load_plugins(files: Sequence[Path] = ()) -> Registry:
    """Everything that installed distributions and the given local files offer.

    Raises:
        PluginError: if one of the local files cannot be loaded. If an installed plugin fails, the registry records
            the failure instead, and `ddm plugins` shows it.
    """
    plugins = list(_installed())
    for file in files:
        plugin = _load(str(file), "", partial(_import_file, file))
        if plugin.failure:
            raise PluginError(f"plugin file {file}: {plugin.failure}")
        plugins.append(replace(plugin, file=file.resolve()))
    return Registry(
        tuple(plugins),
        [Registered(kind, component, plugin.name) for plugin in plugins for kind, component in plugin.components],
    )


def _installed() -> Iterator[Plugin]:
    """Plugins of all distributions. If two have the same name, the first on the path counts, as for an import."""
    seen = set()
    for distribution in distributions():
        name = ""
        try:
            name = distribution.name or ""
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception as error:
            yield Plugin(name or "unnamed distribution", failure=f"its metadata cannot be read: {error!r}")
            continue
        plain = name.lower().replace("_", "-")
        if not entries or not plain or plain in seen:
            continue
        seen.add(plain)
        for entry in entries:
            yield _load(f"{name}:{entry.name}", distribution.version or "", partial(_import_entry_point, entry))


def _load(name: str, version: str, load: Callable[[], Any]) -> Plugin:
    """Import a plugin and collect its components; whatever it raises is recorded as its failure."""
    try:
        return Plugin(name, version, tuple(_drain(load(), name)))
    except (Exception, SystemExit) as error:
        return Plugin(name, version, failure=_reason(error))


def _drain(module: Any, name: str) -> Iterator[tuple[str, Component]]:
    """The components of one plugin. Each plugin has its own manager, so that a bad one cannot affect the others."""
    _check_names(module)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    manager.check_pending()  # otherwise pluggy silently ignores a misspelt hook
    for kind in KINDS:
        seen: set[str] = set()
        for implementation in getattr(manager.hook, hook_name(kind)).get_hookimpls():
            for component in _records(implementation.function(), kind):
                if component.name in seen:
                    raise PluginError(f"{hook_name(kind)} yields two components named {component.name!r}")
                seen.add(component.name)
                yield kind, component


def _check_names(module: Any) -> None:
    """Refuse functions that look like hooks but would be ignored."""
    for name in dir(module):
        if not name.startswith(_PREFIX):
            continue
        if name not in _HOOKS:
            raise PluginError(f"there is no hook {name!r}{suggestion(name, _HOOKS, most=1)}")
        if not hasattr(getattr(module, name), f"{hookspecs.PROJECT}_impl"):
            raise PluginError(f"function {name} is not marked with @hookimpl, so it would be ignored")


def _records(yielded: Any, kind: str) -> Iterator[Component]:
    if isinstance(yielded, Component) or not isinstance(yielded, Iterable):
        raise PluginError(f"{hook_name(kind)} must yield Component records, it returned {shown(yielded)}")
    for record in yielded:
        if not isinstance(record, Component):
            raise PluginError(f"{hook_name(kind)} must yield Component records, it yielded {shown(record)}")
        yield record


def _reason(error: BaseException) -> str:
    """The error in one line, with the place in the plugin's own code where it was raised."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, PluginError):
        return text
    places = [
        (str(frame.f_globals.get("__name__")).partition(".")[0], f" ({Path(frame.f_code.co_filename).name}:{line})")
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    foreign = [(package, place) for package, place in places if package not in _HOSTS]
    own = [place for package, place in foreign if package == foreign[0][0]]
    return f"{type(error).__name__}: {text}{own[-1] if own else ''}"


def _import_entry_point(entry: EntryPoint) -> Any:
    if not entry.pattern.match(entry.value):
        raise PluginError(f"its entry point names no module: {entry.value!r}")
    return entry.load()


def _import_file(file: Path) -> ModuleType:
    """Import a local file under a unique module name, so that its targets can be imported by that name."""
    try:
        check_file(file)
    except FileError as error:
        raise PluginError(error.reason) from None
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    stem = re.sub(r"\W", "_", file.stem)
    name = f"{LOCAL_PREFIX}{stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise PluginError("it is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

"""Find plugins and take their components in, each by itself: a broken plugin breaks nothing but itself."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from ddm_framework import hookspecs
from ddm_framework.components import KINDS, Component, hook_name
from ddm_framework.errors import PluginError
from ddm_framework.registry import LOCAL_PREFIX, Registered, Registry

GROUP = "ddm"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin as found: its components, or the reason why it has none.

    Attributes:
        name: distribution and entry point, such as `ddm-framework:backbones`, or the path of a local file.
        version: of the distribution; empty for a local file.
        components: what it brings, as (kind, component).
        failure: why it could not be loaded; empty if it was.
    """

    name: str
    version: str = ""
    components: tuple[tuple[str, Component], ...] = ()
    failure: str = ""


def load_plugins(files: Sequence[Path] = ()) -> Registry:
    """Everything that installed distributions and the given local files offer.

    Raises:
        PluginError: if a local file that was asked for by name cannot be loaded. An installed plugin that fails is
            remembered in the registry instead, for `ddm plugins` to show.
    """
    plugins = [_load_entry_point(distribution, entry) for distribution, entry in _entry_points()]
    for file in files:
        plugin = _load(str(file), "", lambda file=file: _import_file(file))
        if plugin.failure:
            raise PluginError(f"plugin file {file}: {plugin.failure}")
        plugins.append(plugin)
    return Registry(
        tuple(plugins),
        [Registered(kind, component, plugin.name) for plugin in plugins for kind, component in plugin.components],
    )


def _entry_points() -> Iterator[tuple[Distribution, EntryPoint]]:
    """Entry points of the group, each distribution once: the first on the path is the one that Python imports."""
    seen = set()
    for distribution in distributions():
        name = distribution.name
        if not name or name.lower().replace("_", "-") in seen:
            continue
        entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        if entries:
            seen.add(name.lower().replace("_", "-"))
        for entry in entries:
            yield distribution, entry


def _load_entry_point(distribution: Distribution, entry: EntryPoint) -> Plugin:
    return _load(f"{distribution.name}:{entry.name}", distribution.version, entry.load)


def _load(name: str, version: str, load: Any) -> Plugin:
    """Import a plugin and drain its hooks; whatever it raises becomes its failure."""
    try:
        return Plugin(name, version, tuple(_drain(load(), name)))
    except (Exception, SystemExit) as error:
        return Plugin(name, version, failure=_reason(error))


def _drain(module: Any, name: str) -> Iterator[tuple[str, Component]]:
    """The components of one plugin. A manager of its own keeps a bad plugin from touching the others."""
    unmarked = [hook for hook in map(hook_name, KINDS) if hasattr(module, hook) and not _is_marked(module, hook)]
    if unmarked:
        raise PluginError(f"function {unmarked[0]} is not marked with @hookimpl, so it would be ignored")
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    manager.check_pending()
    for kind in KINDS:
        seen: set[str] = set()
        for yielded in getattr(manager.hook, hook_name(kind))():
            for component in _records(yielded, kind):
                if component.name in seen:
                    raise PluginError(f"{hook_name(kind)} yields two components named {component.name!r}")
                seen.add(component.name)
                yield kind, component


def _is_marked(module: Any, hook: str) -> bool:
    return hasattr(getattr(module, hook), f"{hookspecs.PROJECT}_impl")


def _records(yielded: Any, kind: str) -> Iterator[Component]:
    if isinstance(yielded, Component) or not isinstance(yielded, Iterable):
        raise PluginError(f"{hook_name(kind)} must yield Component records, it returned {_shown(yielded)}")
    for record in yielded:
        if not isinstance(record, Component):
            raise PluginError(f"{hook_name(kind)} must yield Component records, it yielded {_shown(record)}")
        yield record


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _reason(error: BaseException) -> str:
    """The error in one line, with the place in the plugin's own code where it was raised."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, PluginError):
        return text
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if Path(file).is_file() and "importlib" not in file and file != __file__ and "pluggy" not in Path(file).parts:
            place = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {text}{place}"


def _import_file(file: Path) -> ModuleType:
    """Import a local file under a name of its own, so that its targets can be found again."""
    if not file.is_file():
        raise PluginError("there is no such file")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    name = f"{LOCAL_PREFIX}{file.stem}_{digest}"
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

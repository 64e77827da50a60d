"""What `ddm ls`, `ddm show` and `ddm plugins` print."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddm_framework.errors import DDMError, suggestion
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.registry import Registry
from ddm_framework.plugin.type_words import as_written, in_words


def print_components(registry: Registry, kind: str | None, console: Console | None = None) -> None:
    """A table of components, of one kind or of all.

    Raises:
        DDMError: for an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise DDMError(f"there is no kind {kind!r}{suggestion(kind, KINDS)} (kinds: {', '.join(KINDS)})")
    table = Table("kind", "name", "what it is", "source", "plugin", box=None, pad_edge=False)
    for each in KINDS if kind is None else (kind,):
        for registered in registry.components(each):
            component = registered.component
            cells = (each, component.name, component.summary, component.source, registered.plugin)
            table.add_row(*map(Text, cells))
    (console or _console()).print(table)
    _note_failures(registry, console or _console())


def print_plugins(registry: Registry, console: Console | None = None) -> None:
    """A table of plugins with the reason why any failed, and names that two of them bring."""
    console = console or _console()
    table = Table("plugin", "version", "brings", box=None, pad_edge=False)
    for plugin in registry.plugins:
        brings = ", ".join(f"{kind} {component.name}" for kind, component in plugin.components) or "nothing"
        state = Text(f"not loaded: {plugin.failure}", "red") if plugin.failure else Text(brings)
        table.add_row(Text(plugin.name), Text(plugin.version), state)
    console.print(table)
    for group in registry.collisions():
        owners = " and ".join(registered.plugin for registered in group)
        component = group[0]
        console.print(
            Text(f"{component.kind} {component.component.name!r} is brought by {owners}; a recipe cannot use it", "red")
        )


def print_component(registry: Registry, kind: str, name: str, console: Console | None = None) -> None:
    """One component: options from its signature, and its docstring.

    Raises:
        DDMError: for an unknown component, or one that cannot be imported.
    """
    from ddm_framework.plugin.signatures import read_signature

    console = console or _console()
    registered = registry.get(kind, name)
    target = registered.load()
    signature = read_signature(target, kind, f"{kind} {name!r} of plugin {registered.plugin}")
    component = registered.component
    console.print(Text.assemble((f"{kind} {name}", "bold"), f": {component.summary}"))
    console.print(
        Text(f"from {registered.plugin}, {component.target}" + (f"; {component.source}" if component.source else ""))
    )
    table = Table("option", "type", "default", box=None, pad_edge=False)
    for option in signature.options:
        kind = in_words(option.annotation).replace("`", "")
        table.add_row(Text(option.name), Text(kind), Text(as_written(option.default)))
    console.print()
    console.print(table if signature.options else Text("no options"))
    console.print()
    console.print(Text(inspect.getdoc(target) or "no documentation"))


def _console() -> Console:
    """Wide where the output is not a terminal, so that nothing is cut off in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=300)


def _note_failures(registry: Registry, console: Console) -> None:
    failed = [plugin.name for plugin in registry.plugins if plugin.failure]
    if failed:
        console.print(Text(f"not loaded: {', '.join(failed)}; `ddm plugins` says why", "red"))

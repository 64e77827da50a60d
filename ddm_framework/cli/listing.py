"""What `ddm ls`, `ddm show` and `ddm plugins` print."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddm_framework.plugin import KINDS, Registry, read_signature
from ddm_framework.plugin.components import check_kind
from ddm_framework.plugin.type_words import as_written, in_words


def components_as_dict(registry: Registry, kind: str | None) -> dict[str, dict[str, dict[str, str]]]:
    """Components by kind and name, each with its `summary`, `target`, `source` and `plugin`, for other programs.

    A name that two plugins bring, which no recipe can use, is left out; `print_plugins` shows it.

    Raises:
        DDMError: for an unknown kind.
    """
    clashing = {(each.kind, each.component.name) for group in registry.collisions() for each in group}
    return {
        each: {
            registered.component.name: {
                **{key: getattr(registered.component, key) for key in ("summary", "target", "source")},
                "plugin": registered.plugin,
            }
            for registered in registry.components(each)
            if (each, registered.component.name) not in clashing
        }
        for each in _kinds(kind)
    }


def print_components(registry: Registry, kind: str | None, console: Console | None = None) -> None:
    """A table of components, of one kind or of all.

    Raises:
        DDMError: for an unknown kind.
    """
    console = console or wide_console()
    table = Table("kind", "name", "what it is", "source", "plugin", box=None, pad_edge=False)
    for each in _kinds(kind):
        for registered in registry.components(each):
            component = registered.component
            cells = (each, component.name, component.summary, component.source, registered.plugin)
            table.add_row(*map(Text, cells))
    console.print(table)
    if registry.failed:
        console.print(Text(f"not loaded: {', '.join(registry.failed)}; `ddm plugins` says why", "red"))


def print_plugins(registry: Registry, console: Console | None = None) -> None:
    """A table of plugins with the reason why any failed, and names that two of them bring."""
    console = console or wide_console()
    table = Table("plugin", "version", "brings", box=None, pad_edge=False)
    for plugin in registry.plugins:
        brings = ", ".join(f"{kind} {component.name}" for kind, component in plugin.components) or "nothing"
        state = Text(f"not loaded: {plugin.failure}", "red") if plugin.failure else Text(brings)
        table.add_row(Text(plugin.name), Text(plugin.version), state)
    console.print(table)
    for group in registry.collisions():
        owners = " and ".join(registered.plugin for registered in group)
        name = f"{group[0].kind} {group[0].component.name!r}"
        console.print(Text(f"{name} is brought by {owners}; a recipe cannot use it", "red"))


def print_component(registry: Registry, kind: str, name: str, console: Console | None = None) -> None:
    """One component: options from its signature, and its docstring.

    Raises:
        DDMError: for an unknown component, or one that cannot be imported.
    """
    console = console or wide_console()
    registered = registry.get(kind, name)
    target = registered.load()
    signature = read_signature(target, kind, registered.who)
    component = registered.component
    console.print(Text.assemble((f"{kind} {name}", "bold"), f": {component.summary}"))
    source = f"; {component.source}" if component.source else ""
    console.print(Text(f"from {registered.plugin}, {component.target}{source}"))
    table = Table("option", "type", "default", box=None, pad_edge=False)
    for option in signature.options:
        cells = (option.name, in_words(option.hint).replace("`", ""), as_written(option.default))
        table.add_row(*map(Text, cells))
    console.print()
    console.print(table if signature.options else Text("no options"))
    console.print()
    console.print(Text(inspect.getdoc(target) or "no documentation"))


def _kinds(kind: str | None) -> tuple[str, ...]:
    if kind is None:
        return KINDS
    check_kind(kind)
    return (kind,)


def wide_console() -> Console:
    """Wide where the output is not a terminal, so that nothing is cut off in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=300)

"""The tables of components and plugins hold everything that was found, and why the rest is missing."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable

import pytest
from plugin_sites import REGISTRY
from rich.console import Console

from ddm_framework.cli.listing import print_component, print_components, print_plugins
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.plugin.components import KINDS, Component
from ddm_framework.plugin.registry import Plugin, Registered, Registry
from ddm_framework.plugin.signatures import read_signature
from ddm_framework.plugin.type_words import as_written, in_words

COMPONENTS = [registered for kind in KINDS for registered in REGISTRY.components(kind)]

MIXED = Registry(
    (
        Plugin("one:main", "1.0", (("objective", Component("x", "a:b", "[bold]X[/bold]", "[Eq. 6]")),)),
        Plugin("two:main", "2.0", (("objective", Component("x", "c:d")), ("study", Component("y", "os:getcwd")))),
        Plugin("three:main", "3.0", failure="OSError: [red]disk[/red] (three.py:1)"),
        Plugin("four:main"),
    ),
    [
        Registered("objective", Component("x", "a:b", "[bold]X[/bold]", "[Eq. 6]"), "one:main"),
        Registered("objective", Component("x", "c:d"), "two:main"),
        Registered("study", Component("y", "os:getcwd"), "two:main"),
    ],
)


def printed(show: Callable[[Console], None], width: int = 300) -> str:
    out = io.StringIO()
    show(Console(file=out, width=width))
    return out.getvalue()


def test_all_components_are_listed_by_kind_and_name_with_their_plugin() -> None:
    lines = printed(lambda console: print_components(REGISTRY, None, console)).splitlines()
    assert lines[0].split() == ["kind", "name", "what", "it", "is", "source", "plugin"]
    assert [tuple(line.split()[:2]) for line in lines[1:]] == [
        (registered.kind, registered.component.name) for registered in COMPONENTS
    ]
    for line, registered in zip(lines[1:], COMPONENTS, strict=True):
        assert registered.component.summary in line
        assert registered.component.source in line
        assert line.rstrip().endswith(registered.plugin)


def test_one_kind_is_listed_alone() -> None:
    lines = printed(lambda console: print_components(REGISTRY, "distance", console)).splitlines()
    assert [line.split()[1] for line in lines[1:]] == REGISTRY.names("distance")


def test_both_of_two_colliding_components_and_failed_plugins_are_listed() -> None:
    lines = printed(lambda console: print_components(MIXED, None, console)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["objective", "x", "[bold]X[/bold]", "[Eq.", "6]", "one:main"],
        ["objective", "x", "two:main"],
        ["study", "y", "two:main"],
        ["not", "loaded:", "three:main;", "`ddm", "plugins`", "says", "why"],
    ]


def test_an_unknown_kind_is_told_with_the_nearest() -> None:
    with pytest.raises(DDMError) as caught:
        print_components(REGISTRY, "objektive")
    assert str(caught.value) == (f"there is no kind 'objektive'; did you mean 'objective'? (kinds: {', '.join(KINDS)})")


def test_plugins_are_listed_with_what_they_bring_or_why_not() -> None:
    lines = [line.rstrip() for line in printed(lambda console: print_plugins(MIXED, console)).splitlines()]
    assert lines == [
        "plugin      version  brings",
        "one:main    1.0      objective x",
        "two:main    2.0      objective x, study y",
        "three:main  3.0      not loaded: OSError: [red]disk[/red] (three.py:1)",
        "four:main            nothing",
        "objective 'x' is brought by one:main and two:main; a recipe cannot use it",
    ]


def test_a_long_reason_is_wrapped_and_not_cut() -> None:
    reason = "PluginError: " + " ".join(f"word{number}" for number in range(60))
    registry = Registry((Plugin("bad:main", "1.0", failure=reason),), [])
    text = printed(lambda console: print_plugins(registry, console), width=60)
    assert " ".join(text.split()).endswith(f"bad:main 1.0 not loaded: {reason}")


@pytest.mark.parametrize("registered", COMPONENTS, ids=lambda each: f"{each.kind}-{each.component.name}")
def test_every_component_is_shown_with_its_options_and_docstring(registered: Registered) -> None:
    kind, component = registered.kind, registered.component
    text = printed(lambda console: print_component(REGISTRY, kind, component.name, console), width=400)
    target = registered.load()
    assert text.startswith(
        f"{kind} {component.name}: {component.summary}\nfrom {registered.plugin}, {component.target}"
    )
    for option in read_signature(target, kind, "it").options:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [option.name]]
        words = in_words(option.hint).replace("`", "")
        assert " ".join(line.split()) == " ".join(f"{option.name} {words} {as_written(option.default)}".split())
    documentation = inspect.getdoc(target)
    assert documentation
    assert text.rstrip().endswith(documentation)


def test_a_component_without_options_or_docstring_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(workspace: object, /) -> None: ...

    monkeypatch.setattr("os.getcwd", run)
    assert printed(lambda console: print_component(MIXED, "study", "y", console)).splitlines() == [
        "study y: ",
        "from two:main, os:getcwd",
        "",
        "no options",
        "",
        "no documentation",
    ]


def test_a_component_that_keeps_no_contract_is_not_shown() -> None:
    with pytest.raises(PluginError) as caught:
        print_component(MIXED, "study", "y")
    assert str(caught.value) == (
        "study 'y' of plugin two:main: it has 0 positional-only arguments before '/', the core passes 1"
    )

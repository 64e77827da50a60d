"""One look-up by kind and name: nothing is imported before it, and every way it can fail has its message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_sites import GOOD, REGISTRY, Site, hooks

from ddm_framework.errors import DDMError, PluginError
from ddm_framework.plugin.components import KINDS, Component
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.plugin.registry import Plugin, Registered, Registry


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def registered(target: str, kind: str = "objective") -> Registered:
    return Registered(kind, Component("mine", target), "someone:main")


def test_names_and_components_are_sorted_by_name() -> None:
    entries = [Registered("distance", Component(name, f"a:{name}"), "p") for name in ("b", "c", "a")]
    registry = Registry((), [*entries, Registered("study", Component("z", "a:z"), "p")])
    assert registry.names("distance") == ["a", "b", "c"]
    assert [each.component.target for each in registry.components("distance")] == ["a:a", "a:b", "a:c"]
    assert registry.names("backbone") == []


def test_a_component_is_imported_when_it_is_loaded_and_not_before(site: Site) -> None:
    site.add("fake_lazy", hooks('yield Component("lazy", "fake_late_import:measure")'))
    (site.path / "fake_late_import.py").write_text("def measure(a, b, /):\n    return a\n")
    found = load_plugins().get("objective", "lazy")
    assert "fake_late_import" not in sys.modules
    assert found.load()(5, None) == 5
    assert "fake_late_import" in sys.modules


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_built_in_components_without_collisions(kind: str) -> None:
    assert REGISTRY.names(kind)
    assert not [group for group in REGISTRY.collisions() if group[0].plugin.startswith("ddm-framework:")]
    assert all(each.component.summary for each in REGISTRY.components(kind))


@pytest.mark.parametrize(
    ("kind", "near"),
    [
        ("objectives", "'objective'"),
        ("backbon", "'backbone'"),
        ("Distance", "'distance'"),
        ("attributer", "'attributor'"),
    ],
)
def test_an_unknown_kind_is_told_with_the_nearest(kind: str, near: str) -> None:
    with pytest.raises(DDMError) as caught:
        REGISTRY.get(kind, "x")
    assert str(caught.value) == f"there is no kind {kind!r}; did you mean {near}? (kinds: {', '.join(KINDS)})"


def test_an_unknown_name_is_told_with_the_nearest_and_the_command_that_lists() -> None:
    with pytest.raises(DDMError) as caught:
        REGISTRY.get("backbone", "convnt")
    assert str(caught.value) == (
        "unknown backbone 'convnt'; did you mean 'convnet'? (`ddm ls backbone` lists them all)"
    )


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    with pytest.raises(DDMError) as caught:
        REGISTRY.get("clusterer", "zzzz")
    assert str(caught.value) == "unknown clusterer 'zzzz' (`ddm ls clusterer` lists them all)"


def test_plugins_that_were_not_loaded_are_named_where_a_component_is_missing() -> None:
    plugins = (Plugin("good:main"), Plugin("bad:main", failure="no luck"), Plugin("worse:main", failure="none"))
    with pytest.raises(DDMError) as caught:
        Registry(plugins, []).get("study", "mine")
    assert str(caught.value) == (
        "unknown study 'mine' (`ddm ls study` lists them all; not loaded: bad:main, worse:main, `ddm plugins` says why)"
    )


def test_a_name_that_two_distributions_bring_is_an_error_for_who_uses_it(site: Site) -> None:
    site.add("fake_good", GOOD)
    site.add("fake_other", GOOD)
    registry = load_plugins()
    assert not [plugin for plugin in registry.plugins if plugin.failure]
    ((first, second),) = registry.collisions()
    assert {first.plugin, second.plugin} == {"fake-good:main", "fake-other:main"}
    with pytest.raises(DDMError) as caught:
        registry.get("objective", "gauge")
    assert str(caught.value) == (
        f"objective 'gauge' is brought by {first.plugin} and {second.plugin}; "
        "uninstall one of them, or rename one component"
    )
    assert registry.get("objective", "margin").component.name == "margin"
    assert len(registry.components("objective")) == len(REGISTRY.components("objective")) + 2


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (None, "cannot be imported: ModuleNotFoundError: No module named 'fake_module'"),
        ("import fake_nowhere", "cannot be imported: ModuleNotFoundError: No module named 'fake_nowhere'"),
        ("import sys\nsys.nothing", "cannot be imported: AttributeError: module 'sys' has no attribute 'nothing'"),
        ("raise ValueError('two\\nlines')", "cannot be imported: ValueError: two lines"),
        ("import sys\nsys.exit(1)", "cannot be imported: SystemExit: 1"),
        ("def measur(): ...", ": module fake_module has no 'measure'"),
        ("measure = 3", ": fake_module:measure is not a function"),
    ],
)
def test_a_target_that_cannot_be_had_is_told_with_its_plugin(site: Site, code: str | None, problem: str) -> None:
    if code is not None:
        site.add("fake_module", code)
    with pytest.raises(PluginError) as caught:
        registered("fake_module:measure").load()
    separator = "" if problem.startswith(":") else " "
    assert str(caught.value) == f"objective 'mine' of plugin someone:main{separator}{problem}"

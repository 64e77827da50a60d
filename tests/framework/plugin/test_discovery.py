"""A broken plugin breaks itself alone, and says why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_sites import BROKEN, GOOD, REGISTRY, YIELD, Site, hooks

from ddm_framework.errors import PluginError
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.plugin.registry import LOCAL_PREFIX, Plugin, Registry
from ddm_framework.recipe.reading import load_recipe

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def plugin_of(registry: Registry, name: str) -> Plugin:
    (found,) = [plugin for plugin in registry.plugins if plugin.name == name]
    return found


def local(folder: Path, code: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")
    return file


def test_built_in_components_come_by_the_same_door() -> None:
    built_in = [plugin for plugin in REGISTRY.plugins if plugin.name.startswith("ddm-framework:")]
    assert {"ddm-framework:backbones", "ddm-framework:objectives", "ddm-framework:studies"} <= {
        plugin.name for plugin in built_in
    }
    assert all(plugin.components and plugin.version and not plugin.failure for plugin in built_in)


def test_plugins_are_named_by_distribution_and_entry_point(site: Site) -> None:
    site.add("fake_good", GOOD, name="Fake.Good", entry_points="[ddm]\nfirst = fake_good\n\n[other]\nx = fake_good\n")
    plugin = plugin_of(load_plugins(), "Fake.Good:first")
    assert plugin.version == "1.0"
    assert [(kind, component.name, component.target) for kind, component in plugin.components] == [
        ("objective", "gauge", "fake_good:gauge")
    ]


@pytest.mark.parametrize("module", BROKEN)
def test_a_broken_plugin_is_remembered_with_its_reason(module: str, site: Site) -> None:
    code, reason = BROKEN[module]
    site.add(module, code)
    plugin = plugin_of(load_plugins(), f"{module.replace('_', '-')}:main")
    assert plugin.failure.startswith(reason)
    assert "\n" not in plugin.failure
    assert plugin.components == ()


def test_any_number_of_broken_plugins_leaves_the_others_and_their_recipes_alone(site: Site) -> None:
    for module, (code, _) in BROKEN.items():
        site.add(module, code)
    site.add("fake_good", GOOD)
    registry = load_plugins()
    assert sum(bool(plugin.failure) for plugin in registry.plugins) == len(BROKEN)
    assert registry.names("objective") == sorted([*REGISTRY.names("objective"), "gauge"])
    assert registry.get("objective", "gauge").load()(3.0, None, scale=2.0) == 6.0
    assert load_recipe(str(ROOT / "recipes/digits_convnet.yaml"), registry).objectives[0].name == "output_shift"


def test_the_place_given_is_the_deepest_in_the_plugins_own_package(site: Site) -> None:
    site.add("fake_package", "")
    package = site.path / "fake_nest"
    package.mkdir()
    (package / "__init__.py").write_text("from fake_nest import inner\n")
    (package / "inner.py").write_text("import json\n\n\ndef read():\n    json.loads('')\n\n\nread()\n")
    site.add("fake_nested", "", entry_points="[ddm]\nmain = fake_nest\n")
    failure = plugin_of(load_plugins(), "fake-nested:main").failure
    assert failure.endswith("(inner.py:5)")


@pytest.mark.parametrize(
    ("entry_points", "name", "reason"),
    [
        ("[ddm]\nmain = not a module\n", "fake-entry:main", "its entry point names no module: 'not a module'"),
        ("[ddm]\nmain =\n", "fake-entry:main", "its entry point names no module: ''"),
        ("[ddm]\nmain = fake_nowhere\n", "fake-entry:main", "ModuleNotFoundError: No module named 'fake_nowhere'"),
        (
            "[ddm]\nmain = fake_entry:nothing\n",
            "fake-entry:main",
            "AttributeError: module 'fake_entry' has no attribute 'nothing'",
        ),
        ("[ddm]\nmain\n", "fake-entry", "its metadata cannot be read: TypeError("),
    ],
)
def test_bad_entry_points_break_their_distribution_alone(site: Site, entry_points: str, name: str, reason: str) -> None:
    site.add("fake_entry", "", entry_points=entry_points)
    registry = load_plugins()
    assert plugin_of(registry, name).failure.startswith(reason)
    assert registry.names("backbone") == REGISTRY.names("backbone")


def test_metadata_without_a_version_is_enough_and_without_a_name_is_passed_over(site: Site) -> None:
    site.add("fake_good", GOOD, metadata="Name: fake-good\n")
    site.add("fake_nameless", "raise OSError", metadata="")
    registry = load_plugins()
    assert plugin_of(registry, "fake-good:main").version == ""
    assert len(registry.plugins) == len(REGISTRY.plugins) + 1


def test_of_one_distribution_found_twice_the_first_on_the_path_counts(tmp_path: Path) -> None:
    with Site(tmp_path / "hidden") as hidden, Site(tmp_path / "first") as first:
        hidden.add("fake_good", "raise OSError('the hidden one')", name="fake-good")
        first.add("fake_good", GOOD, name="Fake_Good")
        found = [plugin for plugin in load_plugins().plugins if plugin.name.lower().startswith("fake")]
    assert [(plugin.name, plugin.failure) for plugin in found] == [("Fake_Good:main", "")]


def test_a_plugin_may_bring_one_name_of_several_kinds_and_return_a_list(site: Site) -> None:
    code = hooks('return [Component("x", "a:b"), Component("y", "a:c")]') + (
        f"@hookimpl\ndef ddm_register_attributors():\n    {YIELD}\n"
    )
    site.add("fake_kinds", code)
    assert [(kind, component.name) for kind, component in plugin_of(load_plugins(), "fake-kinds:main").components] == [
        ("objective", "x"),
        ("objective", "y"),
        ("attributor", "x"),
    ]


def test_a_local_file_is_a_plugin_named_by_its_path(tmp_path: Path) -> None:
    code = hooks('yield Component("mine", f"{__name__}:measure")') + "def measure(a, b, /):\n    return a + b\n"
    file = local(tmp_path, code)
    registry = load_plugins([file])
    assert registry.plugins[-1].name == str(file)
    registered = registry.get("objective", "mine")
    assert registered.component.target.startswith(f"{LOCAL_PREFIX}mine_")
    assert registered.load()(1, 2) == 3
    assert load_plugins().names("objective") == REGISTRY.names("objective")


@pytest.mark.parametrize("name", ["my-objective.py", "my objective.py", "objective.v2.py", "1st.py", "größe.py"])
def test_a_local_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    code = hooks('yield Component("mine", f"{__name__}:measure")') + "def measure(a, b, /):\n    return a + b\n"
    registry = load_plugins([local(tmp_path, code, name)])
    assert registry.get("objective", "mine").load()(1, 2) == 3


def test_two_local_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        code = (
            hooks(f'yield Component("{name}", f"{{__name__}}:measure")') + f"def measure(a, b, /):\n    return '{name}'"
        )
        files.append(local(tmp_path, code, f"{name}/mine.py"))
    registry = load_plugins(files)
    assert [registry.get("objective", name).load()(0, 0) for name in ("one", "two")] == ["one", "two"]


@pytest.mark.parametrize("module", BROKEN)
def test_a_broken_local_file_is_an_error(module: str, tmp_path: Path) -> None:
    code, reason = BROKEN[module]
    file = local(tmp_path, code, f"{module}.py")
    with pytest.raises(PluginError) as caught:
        load_plugins([file])
    expected = reason.replace(f"{module.replace('_', '-')}:main", str(file))
    assert str(caught.value).startswith(f"plugin file {file}: {expected}")


def test_a_local_file_that_cannot_be_imported_leaves_no_module(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="SystemExit: 1"):
        load_plugins([local(tmp_path, "raise SystemExit(1)", "fake_gone.py")])
    assert not [name for name in sys.modules if name.startswith(f"{LOCAL_PREFIX}fake_gone")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py", "there is no such file"),
        (".", "it is a folder, not a file"),
        ("notes.txt", "it is not a Python file; its name must end in .py"),
    ],
)
def test_what_is_no_python_file_is_an_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PluginError) as caught:
        load_plugins([tmp_path / name])
    assert str(caught.value) == f"plugin file {tmp_path / name}: {message}"


def test_an_interruption_is_no_failure_of_a_plugin(site: Site) -> None:
    site.add("fake_interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_plugins()

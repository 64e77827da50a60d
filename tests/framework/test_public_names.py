"""One door for everybody: each package says what it offers, and the built-in plugins use nothing else."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddm_framework

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["ddm_framework"] + [
    f"ddm_framework.{each.name}" for each in pkgutil.iter_modules(ddm_framework.__path__) if each.ispkg
]
FLAT = {
    "__init__",
    "__main__",
    "api",
    "own_network",
    "arguments",
    "errors",
    "files",
    "resources",
    "randomness",
    "progress",
}
SOURCES = [*sorted((ROOT / "plugins").rglob("*.py")), *sorted((ROOT / "tests" / "example_plugin").rglob("*.py"))]


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """What a file takes from the core, as (module, name)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ddm_framework":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("ddm_framework"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_built_in_plugins_use_public_names_alone(path: Path) -> None:
    for module, name in imported(path):
        assert module in PACKAGES, f"{module} is a module of the core's own; take {name} from its package"
        assert name in importlib.import_module(module).__all__, f"{module} does not offer {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_once_and_explained(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert sorted(module.__all__) == sorted(set(module.__all__))
    submodules = {each.name for each in pkgutil.iter_modules(module.__path__)}
    assert not submodules & set(module.__all__)  # a name would hide a module, or a module the name
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_the_core_has_no_module_outside_a_package_but_these() -> None:
    assert {path.stem for path in (ROOT / "ddm_framework").glob("*.py")} == FLAT


@pytest.mark.parametrize(
    "package", ["ddm_framework", "ddm_framework.cli", "ddm_framework.plugin", "ddm_framework.recipe"]
)
def test_no_module_of_the_light_packages_imports_torch(package: str) -> None:
    folder = ROOT / package.replace(".", "/")
    modules = [package] + ([f"{package}.{each.stem}" for each in folder.glob("*.py")] if "." in package else [])
    code = f"import sys, {', '.join(sorted(modules))}\nassert 'torch' not in sys.modules, sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code.replace(".__init__", "")], check=True)


def layers() -> list[list[str]]:
    """The layers that import-linter checks, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def test_the_picture_of_the_house_shows_every_package_in_its_place() -> None:
    page = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    drawn = re.search(r"checks that\.\n\n((?:    .*\n)+)", page)
    assert drawn
    rows = [re.findall(r"[a-z_]+", line.strip().partition("   ")[0]) for line in drawn[1].splitlines()]
    shown = {name: place for place, row in enumerate(rows) for name in row}
    known = [name for layer in layers() for name in layer if name != "__main__"]
    assert shown.keys() == set(known)
    assert [shown[name] for name in known] == sorted(shown[name] for name in known)

"""One door for everybody: each package says what it offers, and the built-in plugins use nothing else."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddm_framework

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["ddm_framework"] + [
    f"ddm_framework.{each.name}" for each in pkgutil.iter_modules(ddm_framework.__path__) if each.ispkg
]
FLAT = {"__init__", "__main__", "api", "own_network", "errors", "randomness", "progress"}
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

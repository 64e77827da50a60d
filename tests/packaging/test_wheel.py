"""What users install: the wheel made from the source distribution, used outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))

Ddm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built by way of the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def ddm(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Ddm:
    """The command, run from the installed wheel in an empty folder."""
    site, away = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("away")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ddm_framework", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_wheel_holds_every_module_once_and_every_recipe(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    packages = [path for top in (ROOT, ROOT / "plugins") for path in top.glob("ddm_*/**/*.py")]
    expected = {path.relative_to(ROOT).as_posix().removeprefix("plugins/") for path in packages}
    assert {name for name in names if name.endswith(".py")} == expected
    assert sorted(name for name in names if name.endswith(".yaml")) == [f"ddm_framework/recipes/{r}" for r in RECIPES]
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ddm_framework" / "templates").rglob("*.j2")}
    page = {f"ddm_framework/app/static/{name}" for name in ("index.html", "app.js", "style.css")}
    assert {"ddm_framework/py.typed", "ddm_framework/templates/report.js", *templates, *page} <= set(names)
    assert len(templates) > 10


def test_a_recipe_is_found_by_its_name(ddm: Ddm) -> None:
    done = ddm("validate", "digits_convnet")
    assert done.returncode == 0, done.stderr
    assert "ddm_framework/recipes/digits_convnet.yaml is a valid recipe" in done.stdout.replace("\n", "")


def test_built_in_plugins_come_in_by_the_wheels_own_entry_points(ddm: Ddm) -> None:
    done = ddm("plugins")
    assert done.returncode == 0, done.stderr
    assert "ddm-framework:backbones" in done.stdout
    assert "not loaded" not in done.stdout


def test_a_recipe_runs(ddm: Ddm) -> None:
    small = ("training.epochs=2", "matching.steps=2", "matching.step_length=1", "study.queries=3", "study.show=1")
    done = ddm("run", "digits_convnet", *(f"--set={each}" for each in small))
    assert done.returncode == 0, done.stderr
    assert "report: runs/digits_convnet/report.html" in done.stdout

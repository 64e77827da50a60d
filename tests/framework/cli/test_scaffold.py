"""`ddm new-plugin`: what it writes works untouched, and what it cannot write is refused."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_sites import Site
from run_fixtures import ddm, refused

from ddm_framework.cli.scaffold import FUNCTIONS, write_package
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.testing import checks_of, run_checks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands are given in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A package of every kind, laid out as pip installs them, its sources beside it."""
    site = Site(tmp_path_factory.mktemp("site"))
    for kind in KINDS:
        package = site.path / "sources" / kind
        write_package(kind, f"my_{kind}", package)
        for path in (package / "src").rglob("*"):
            if path.is_file():
                target = site.path / path.relative_to(package / "src")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        info = site.path / f"ddm_my_{kind}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
        entries = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["ddm"].items())
        (info / "entry_points.txt").write_text(f"[ddm]\n{entries}")
    importlib.invalidate_caches()
    with site:
        yield site


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_of_each_kind_passes_every_check(packages: Site, kind: str) -> None:
    found = list(run_checks(load_plugins(), f"ddm-my-{kind}"))
    assert [each.check for each in found] == [check.name for check in checks_of(kind)]
    assert not [(each.check, each.message) for each in found if each.outcome != "passed"]


def test_their_own_tests_pass(packages: Site) -> None:
    files = sorted(map(str, packages.path.glob("sources/*/tests/test_*.py")))
    assert len(files) == len(KINDS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(packages.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"{sum(len(checks_of(kind)) for kind in KINDS)} passed" in done.stdout, done.stdout


def test_they_are_listed_and_their_recipes_are_valid(packages: Site) -> None:
    registry = load_plugins()
    for kind in KINDS:
        assert f"my_{kind}" in registry.names(kind)
    chosen = [f"--set={kind}.use=my_{kind}" for kind in ("dataset", "backbone", "clusterer", "distance", "study")]
    status, out, err = ddm("validate", "digits_convnet", *chosen, "--set", "objectives.0.use=my_objective")
    assert (status, err) == (0, "")
    assert "my_dataset, my_backbone, my_clusterer" in out
    assert ddm("validate", "fidelity_digits", "--set", "study.methods=[{use: ddm}, {use: my_attributor}]")[0] == 0


def test_all_but_the_attributor_run_together(packages: Site) -> None:
    chosen = [f"--set={kind}.use=my_{kind}" for kind in ("dataset", "backbone", "clusterer", "distance", "study")]
    small = ["training.epochs=4", "matching.steps=2", "clusterer.clusters_per_class=2", "threads=1"]
    status, out, err = ddm(
        "run",
        "digits_convnet",
        "--json",
        "--set=objectives.0.use=my_objective",
        *chosen,
        *(f"--set={s}" for s in small),
    )
    assert status == 0, err
    assert len(json.loads(out)["my_study"]["mean_effect"]) == 4


def test_the_command_writes_the_files_and_says_what_to_do_next() -> None:
    status, out, err = ddm("new-plugin", "objective", "how_bright")
    assert (status, err) == (0, "")
    package = Path("ddm-how-bright")
    written = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    source = "src/ddm_how_bright"
    assert written == {
        "pyproject.toml",
        "README.md",
        f"{source}/__init__.py",
        f"{source}/how_bright.py",
        f"{source}/py.typed",
        "tests/test_how_bright.py",
    }
    assert {line for line in out.splitlines() if line.startswith("ddm-how-bright")} == {
        f"{package / w}" for w in written
    }
    assert out.splitlines()[-1] == "pip install -e 'ddm-how-bright[test]' && python -m pytest ddm-how-bright"
    readme = (package / "README.md").read_text()
    assert "--set objectives.0.use=how_bright" in readme
    assert "ddm check ddm-how-bright" in readme


def test_another_folder_can_be_named() -> None:
    assert ddm("new-plugin", "study", "mine", "--out", "deep/er")[0] == 0
    assert Path("deep/er/src/ddm_mine/mine.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("objektive", "x"), "there is no kind 'objektive'; did you mean 'objective'? (kinds: dataset, "),
        (("objective", "My-Objective"), "'My-Objective' cannot name a component; take small letters, digits and "),
        (("objective", "class"), "'class' cannot name a component"),
        (("objective", "a__b"), "'a__b' cannot name a component"),
        (("objective", "margin"), "objective 'margin' is brought by ddm-framework:objectives already; choose another"),
        (("objective", "framework"), "a package ddm_framework is installed already; choose another name"),
        (("objective", "backbones"), "a package ddm_backbones is installed already; choose another name"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert refused("new-plugin", *arguments).startswith(message)
    assert not list(Path.cwd().iterdir())


def test_a_folder_that_is_there_is_left_alone() -> None:
    Path("ddm-mine").mkdir()
    assert refused("new-plugin", "study", "mine") == (
        "ddm-mine exists already; choose another folder with --out, or another name"
    )
    assert not list(Path("ddm-mine").iterdir())


def test_each_kind_has_a_function_and_a_template() -> None:
    assert tuple(FUNCTIONS) == KINDS

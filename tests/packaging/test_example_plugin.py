"""A plugin of somebody else's: built as a wheel, installed in an environment of its own, checked, used by a recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

import ddm_framework
from ddm_framework.cli.scaffold import write_package
from ddm_framework.testing import checks_of

EXAMPLE = Path(__file__).resolve().parents[1] / "example_plugin"
RECIPE = EXAMPLE / "recipes" / "digits_mixer.yaml"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def succeeded(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return done  # type: ignore[no-any-return]


def python_of(environment: Path) -> str:
    """Its interpreter."""
    return str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")


def installed(package: Path, environment: Path) -> None:
    """Build a wheel of a package and install it, without looking at its dependencies."""
    out = package.with_name("wheels")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    # The wheel is built by the environment that runs the tests, which has setuptools.
    succeeded([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(out), str(package)])
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python_of(environment),
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
    ]
    succeeded([*pip, "--disable-pip-version-check", *map(str, out.glob("*.whl"))])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees the packages of this one, ddm among them, but has a site of its own."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/*/site-packages") if os.name != "nt" else folder.glob("Lib/site-packages")
    # `addsitedir` and not a plain line, so that the .pth files of editable installations count too.
    seen = [path for path in sys.path if path.endswith("-packages")]
    seen.append(str(Path(ddm_framework.__file__).resolve().parents[1]))
    lines = [f"import site; site.addsitedir({path!r})" for path in seen]
    (site / "ours.pth").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Python in that environment, in an empty folder."""
    away = tmp_path_factory.mktemp("away")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return succeeded(
            [python_of(environment), "-m", *arguments], cwd=away, env={**variables, "OMP_NUM_THREADS": "1"}
        )

    return call


@pytest.fixture(scope="module")
def example(environment: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same, with the example installed."""
    installed(copied(EXAMPLE, tmp_path_factory.mktemp("source")), environment)
    return run


def copied(package: Path, to: Path) -> Path:
    """The sources elsewhere: building writes beside them."""
    for path in package.rglob("*"):
        if path.is_file() and not {"build", "__pycache__"} & set(path.parts):
            target = to / package.name / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return to / package.name


def test_it_is_found_by_its_entry_point(example: Run) -> None:
    listed = example("ddm_framework", "plugins").stdout
    assert "ddm-example:example" in listed
    assert "backbone mixer, objective surprise" in listed
    assert "not loaded" not in listed


def test_it_keeps_its_contracts(example: Run) -> None:
    found = json.loads(example("ddm_framework", "check", "ddm-example", "--json").stdout)
    assert (found["failed"], found["skipped"]) == (0, 0)
    assert found["passed"] == len(checks_of("backbone")) + len(checks_of("objective"))


def test_its_own_tests_pass(example: Run) -> None:
    asked = ("pytest", "-q", "-p", "no:cacheprovider", "-c", str(EXAMPLE / "pyproject.toml"), str(EXAMPLE / "tests"))
    assert " passed" in example(*asked).stdout


def test_a_recipe_uses_both(example: Run, tmp_path: Path) -> None:
    done = example("ddm_framework", "run", str(RECIPE), "--out", str(tmp_path / "run"), "--json")
    metrics = json.loads(done.stdout)
    assert metrics["target"]["test_accuracy"] > 0.8
    assert metrics["attribution"]["num_queries"] == 20
    assert "surprise" in metrics["attribution"]
    assert (tmp_path / "run" / "report.html").is_file()


def test_without_it_the_recipe_is_refused() -> None:
    command = [sys.executable, "-m", "ddm_framework", "validate", str(RECIPE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown backbone 'mixer'" in done.stderr


def test_a_package_that_new_plugin_wrote_is_installed_and_passes_its_tests(
    environment: Path, run: Run, tmp_path: Path
) -> None:
    package = tmp_path / "ddm-brightness"
    write_package("objective", "brightness", package)
    installed(package, environment)
    tested = run(
        "pytest", "-q", "-p", "no:cacheprovider", "-c", str(package / "pyproject.toml"), str(package / "tests")
    )
    assert f"{len(checks_of('objective'))} passed" in tested.stdout
    assert "objective brightness" in " ".join(run("ddm_framework", "check", "ddm-brightness").stdout.split())

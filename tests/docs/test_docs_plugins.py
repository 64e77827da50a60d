"""What docs/plugins.md tells people to type works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ddm_framework.testing import checks_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
SMALL = ["training.epochs=2", "matching.steps=2", "matching.step_length=1", "study.queries=3", "study.show=1"]
SMALL += ["certificate.retrainings=0"]


def ddm(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A command of the page, in a folder."""
    program, *arguments = shlex.split(command)
    assert program == "ddm"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "ddm_framework", *arguments, *more]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def command(beginning: str) -> str:
    """The one command of the page that begins so."""
    (found,) = [line for line in COMMANDS if line.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's first file."""
    found = tmp_path_factory.mktemp("author")
    code = next(text for language, text in BLOCKS if language == "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    (found / "entropy.py").write_text(code, encoding="utf-8")
    return found


def test_the_objective_of_ten_lines_runs(folder: Path) -> None:
    done = ddm(command("ddm run digits_convnet --plugin"), folder, *(f"--set={each}" for each in SMALL))
    assert done.returncode == 0, done.stderr
    assert "entropy" in (folder / "runs" / "entropy" / "report.html").read_text(encoding="utf-8")


def test_it_passes_every_check(folder: Path) -> None:
    done = ddm(command("ddm check entropy.py"), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(checks_of('objective'))} passed, 0 failed, 0 skipped" in done.stdout


def test_the_package_holds_the_files_that_the_page_lists(folder: Path) -> None:
    assert ddm(command("ddm new-plugin"), folder).returncode == 0
    package = folder / "ddm-brightness"
    listed = re.findall(r"^    ((?:src|tests)/\S+|pyproject\.toml|README\.md)", PAGE, flags=re.MULTILINE)
    written = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert set(listed) == written - {"src/ddm_brightness/py.typed"}
    test = next(text for language, text in BLOCKS if language == "python" and "parametrize_with_checks" in text)
    plain = (package / "tests" / "test_brightness.py").read_text(encoding="utf-8").replace(": Subject", "")
    assert test.strip() in plain.replace(": Check", "").replace(" -> None", "")


def test_the_entry_point_is_that_of_the_example() -> None:
    told = next(tomllib.loads(text) for language, text in BLOCKS if language == "toml")
    example = tomllib.loads((ROOT / "tests" / "example_plugin" / "pyproject.toml").read_text(encoding="utf-8"))
    assert told["project"]["entry-points"] == example["project"]["entry-points"]


def test_checks_that_the_page_names_exist() -> None:
    named = re.findall(r"\.(check_\w+)", PAGE)
    assert set(named) <= {check.name for check in checks_of("backbone")}

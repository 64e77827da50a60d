"""`ddm runs` tells how far each run is, `ddm report` opens one, and the shell completes names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from run_fixtures import asked_tiny, copied, ddm, refused

from ddm_framework.cli import completion
from ddm_framework.cli.run_listing import runs_in
from ddm_framework.plugin import KINDS
from ddm_framework.runs import STAGES
from ddm_framework.runs.run_folder import locked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asked_tiny(tmp_path_factory.getbasetemp() / "tiny")


def undo(run: Path, *stages: str) -> None:
    """Make the manifest say that some stages were begun and not done."""
    manifest = json.loads((run / "manifest.json").read_text())
    for stage in stages:
        manifest["stages"][stage]["done"] = False
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_every_run_is_listed_with_its_state(made: Path, tmp_path: Path) -> None:
    finished = copied(made, tmp_path / "a")
    stopped = copied(made, tmp_path / "b" / "deeper")
    undo(stopped, "matching", "online")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.json").write_text("{")
    (tmp_path / "d" / "no_run").mkdir(parents=True)
    (finished / "variants" / "other").mkdir(parents=True)
    (finished / "variants" / "other" / "manifest.json").write_text('{"stages": {}}')
    found = {each["folder"]: each for each in runs_in(tmp_path)}
    assert set(found) == {str(finished), str(stopped), str(tmp_path / "c")}
    metrics = json.loads((finished / "metrics.json").read_text())
    told = found[str(finished)]
    assert (told["recipe"], told["state"]) == ("tiny", "finished")
    assert told["test_accuracy"] == metrics["target"]["test_accuracy"]
    assert told["version"] == version("ddm-framework")
    assert found[str(stopped)]["state"] == "stopped in matching"
    assert found[str(tmp_path / "c")]["state"].startswith("unreadable: ")
    assert json.loads(ddm("runs", tmp_path, "--json")[1]) == runs_in(tmp_path)
    status, out, _ = ddm("runs", tmp_path)
    assert status == 0
    assert all(each in "".join(out.split()) for each in (str(finished), str(stopped), "stoppedinmatching"))


def test_a_run_that_is_worked_on_says_so(made: Path, tmp_path: Path) -> None:
    run = copied(made, tmp_path)
    undo(run, *STAGES[1:])
    script = f"""
from pathlib import Path
from ddm_framework.runs.run_folder import locked
with locked(Path({str(run)!r})):
    print("locked", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        assert [each["state"] for each in runs_in(run)] == ["running: partition"]
        other.communicate(b"\n")
    assert [each["state"] for each in runs_in(run)] == ["stopped in partition"]
    with locked(run):  # looking has left no lock behind
        pass


def test_a_folder_without_runs_says_what_to_do(tmp_path: Path) -> None:
    assert ddm("runs", tmp_path)[1] == f"{tmp_path} holds no run; make one with `ddm run RECIPE`\n"
    assert refused("runs", tmp_path / "nowhere").startswith(f"there is no folder {tmp_path / 'nowhere'}")


def test_listing_runs_imports_nothing_heavy(made: Path) -> None:
    code = "import sys\nimport ddm_framework.cli.run_listing as r\nr.runs_in(r.Path(sys.argv[1]))\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(made)], check=True, capture_output=True, text=True)
    assert not {"torch", "numpy", "sklearn", "matplotlib"} & set(done.stdout.split())


def test_a_report_is_opened(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert ddm("report", made) == (0, f"{made / 'report.html'}\n", "")
    assert opened == [(made / "report.html").as_uri()]
    ddm("report", made, "--no-browser")
    assert len(opened) == 1


def test_a_report_that_is_not_there_is_told(made: Path, tmp_path: Path) -> None:
    assert refused("report", tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'} holds no run of ddm")
    run = copied(made, tmp_path)
    (run / "report.html").unlink()
    assert "report.html is missing; `ddm run` with the same recipe and --fresh" in refused("report", run)
    undo(run, "online")
    assert "is not finished (online)" in refused("report", run)


def test_the_version_is_told() -> None:
    assert ddm("--version") == (0, f"ddm {version('ddm-framework')}\n", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ddm run digits_c", {"digits_convnet"}),
        ("ddm show back", {"backbone"}),
        ("ddm show backbone conv", {"convnet"}),
        ("ddm ser", {"serve"}),
        ("ddm serve mine", {"mine_a/", "mine_b/"}),
        ("ddm run mine", {"mine.yaml", "mine_a/", "mine_b/"}),
    ],
)
def test_the_shell_completes(line: str, offered: set[str], tmp_path: Path) -> None:
    for name in ("mine_a", "mine_b"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.yaml").touch()
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_DDM_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['ddm']\nfrom ddm_framework.cli import main\nmain()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, **words}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == offered, done.stderr


def test_paths_are_completed_as_they_were_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / ".hidden").mkdir()
    (tmp_path / "a" / "c.yaml").touch()
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {
        each: completion.recipes(each) for each in ("a", "a/", "a/c", f"{tmp_path}/a/", "nowhere/")
    }
    assert asked == {
        "a": ["a/"],
        "a/": ["a/b/", "a/c.yaml"],
        "a/c": ["a/c.yaml"],
        f"{tmp_path}/a/": [f"{tmp_path}/a/b/", f"{tmp_path}/a/c.yaml"],
        "nowhere/": [],
    }
    assert completion.runs("a/") == ["a/b/"]
    assert completion.kinds("") == sorted(KINDS)

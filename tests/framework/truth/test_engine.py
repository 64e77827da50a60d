"""Workers start with the modules that are meant, whatever lies in the current folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddm_framework import Workspace
from ddm_framework.engine import ALONE, Processes
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.truth.retraining import bank_logits, retrained

SPY = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nraise SystemExit(7)\n"


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules named as those that ddm imports."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    for name in ("argparse", "torch", "numpy", "yaml", "pydantic", "rich"):
        (folder / f"{name}.py").write_text(SPY)
    (folder / "evil-1.0.dist-info").mkdir()
    (folder / "evil-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (folder / "evil-1.0.dist-info" / "entry_points.txt").write_text("[ddm]\nmain = evil\n")
    (folder / "evil.py").write_text(SPY)
    monkeypatch.chdir(folder)
    return folder


def test_a_worker_imports_nothing_from_the_current_folder(
    workspace: Workspace, strangers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.engine = Processes(2, 1)
    monkeypatch.setenv("PYTHONPATH", f":{strangers / 'nowhere'}:")  # an empty entry stands for the current folder
    rows = leave_one_out(workspace.partition.num_clusters)[1:5]
    logits = bank_logits(workspace, retrained(workspace, rows, coupling="independent"), workspace.queries_of("test"))
    assert torch.isfinite(logits).all()
    assert not (strangers / "ran").exists()


def test_the_module_run_as_a_program_imports_nothing_from_the_current_folder(strangers: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ddm_framework", "ls", "clusterer"], capture_output=True, text=True, check=True
    )
    assert "kmeans" in done.stdout
    assert "evil" not in done.stdout
    assert not (strangers / "ran").exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_beside_a_control_a_network_that_lacks_nothing_is_the_target(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(Workspace, "same_rounding", property(lambda _: False))
    workspace.engine = ALONE
    monkeypatch.setattr("ddm_framework.truth.retraining.bank_folder", lambda run: run.folder.path / f"bank_{threads}")
    torch.set_num_threads(threads)
    bank = retrained(workspace, leave_one_out(workspace.partition.num_clusters)[:3])
    for name, each in bank.load(slice(0, 3)).items():
        assert torch.equal(each[0], workspace.target[name])
    assert not torch.equal(bank.load(slice(1, 2))["0.weight"][0], workspace.target["0.weight"])
    shift = bank_logits(workspace, bank, workspace.queries_of("test"))
    assert torch.equal(shift[0], workspace.target_logits(workspace.queries_of("test").images))

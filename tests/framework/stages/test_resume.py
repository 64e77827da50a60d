"""Kill it anywhere, start it again: the numbers are those of a run that nobody disturbed."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import (
    FATAL,
    assert_same_run,
    ddm,
    finished_tiny,
    in_process,
    manifest,
    refused,
    stamps,
    tiny,
)

import ddm_framework
from ddm_framework.runs import artifacts
from ddm_framework.runs.run_folder import RunFolder
from ddm_framework.stages import pipeline

KILLS: dict[str, list[str]] = {
    "training:12": [],
    "training:5": [],
    "partition:2": ["training"],
    "matching:2": ["training", "partition"],
    "matching:7": ["training", "partition"],
    "online:1": ["training", "partition", "matching"],
    "report:1": ["training", "partition", "matching"],
}
"""At which call of the fatal plugin, and what is finished by then."""


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_tiny(tmp_path_factory.getbasetemp() / "tiny")


def run_until(recipe: Path, out: Path, kill: str) -> None:
    """Run a recipe in this process, which the fatal plugin kills."""
    os.environ["DDM_TEST_KILL"] = kill
    ddm_framework.run(recipe, out=out, plugins=[FATAL])


def test_a_run_that_is_killed_in_every_stage_ends_the_same(tmp_path: Path) -> None:
    recipe = tiny(
        tmp_path,
        backbone="{use: fatal_convnet}",
        clusterer="{use: fatal_kmeans, clusters_per_class: 2}",
        distance="{use: fatal_cosine}",
        study="{use: fatal_attribution}",
    )
    run, saved = tmp_path / "run", []
    for kill, finished in KILLS.items():
        assert in_process(run_until, recipe, run, kill) == -signal.SIGKILL, kill
        stages = manifest(run)["stages"]
        assert [stage for stage, record in stages.items() if record["done"]] == finished, kill
        saved.append(stamps(run, "offline/trajectory"))
    assert {Path(name).name for name in saved[0]} == {
        f"{name}.safetensors" for name in ("epoch_000", "epoch_002", "velocity_002", "resume")
    }
    for before, after in itertools.pairwise(saved):
        assert all(after[name] == stamp for name, stamp in before.items() if "resume" not in name)
    assert in_process(run_until, recipe, run, "never") == 0
    whole = ddm_framework.run(recipe, out=tmp_path / "whole", plugins=[FATAL])
    assert_same_run(run, whole.path)


class Killed(BaseException):
    """The process is dead: nothing that it still does reaches the disk."""


class Disk:
    """Counts what changes the names on the disk, and dies before one of these calls, or fails there with an error."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, error: OSError | None = None) -> None:
        self.calls, self._at, self._error = 0, at, error
        for name in ("replace", "unlink", "rmdir") if error is None else ("fsync",):
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nothing = function.__name__ in ("unlink", "rmdir") and not Path(arguments[0]).exists()
            self.calls += not nothing
            if self._error is not None and self.calls == self._at:
                raise self._error
            if self._error is None and self.calls >= self._at:
                raise Killed
            return function(*arguments, **options)

        return counted


def test_a_run_that_is_killed_at_any_touch_of_the_disk_ends_the_same(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "page", lambda *_: "a page")  # half of the time goes into its charts
    recipe = tiny(tmp_path)
    for at in range(1, 1000):
        run = tmp_path / f"killed_at_{at}"
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, at)
            try:
                ddm_framework.run(recipe, out=run)
            except Killed:
                pass
            else:
                break
        ddm_framework.run(recipe, out=run)
        assert_same_run(run, original)
    assert disk.calls > 20


def test_a_disk_that_fills_up_is_one_message_and_loses_nothing(original: Path, tmp_path: Path) -> None:
    recipe, run = tiny(tmp_path), tmp_path / "run"
    full = OSError(errno.ENOSPC, "No space left on device")
    for at in range(5, 1000, 4):
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, at, full)
            status, out, err = ddm("run", recipe, "--out", run)
        if status == 0:
            break
        assert status == 2
        assert out == ""
        assert "the disk is full; free some space and run the same command again to go on" in err
        assert not list(run.rglob("*.partial"))
    assert_same_run(run, original)


def discard_killed_at(recipe: Path, run: Path, at: int) -> bool:
    """Whether a run with other settings was killed at its n-th touch of the disk."""
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, at)
        try:
            ddm_framework.run(recipe, ["training.lr=0.2", "training.epochs=2"], out=run, fresh=True)
        except Killed:
            return True
        return False


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 12, 14])
def test_a_discard_that_is_killed_leaves_nothing_of_the_old_run_to_the_new(tmp_path: Path, at: int) -> None:
    recipe, run = tiny(tmp_path), tmp_path / "run"
    ddm_framework.run(recipe, out=run)
    assert discard_killed_at(recipe, run, at)
    new = ["training.lr=0.2", "training.epochs=2"]
    ddm_framework.run(recipe, new, out=run, fresh=True)
    assert_same_run(run, ddm_framework.run(recipe, new, out=tmp_path / "new").path)


def command(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ddm_framework", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts: tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def test_ctrl_c_is_one_message_and_status_130_and_the_run_can_go_on(tmp_path: Path) -> None:
    recipe = tiny(
        tmp_path,
        training="{epochs: 3000, lr: 0.01, batch_size: 16, checkpoint_every: 100}",
        matching="{pairing: final}",
    )
    run = tmp_path / "run"
    process = command("run", recipe, "--out", run)
    wait_for(run / "offline" / "trajectory" / "resume.safetensors", process)
    assert "another ddm works in" in refused("run", recipe, "--out", run)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err == "ddm: interrupted; what was finished is kept, run the same command again to go on\n"
    assert not list(run.rglob("*.partial"))
    folder = RunFolder.open(run)
    state = artifacts.load_state(folder, torch.device("cpu"))
    assert state is not None
    assert state.epoch == artifacts.saved_epochs(folder)[-1] >= 100

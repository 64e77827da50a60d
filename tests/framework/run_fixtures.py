"""Small runs to test with, and processes that die in the middle of one."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

import ddm_framework
from ddm_framework.cli import commands
from ddm_framework.runs.run_folder import NETWORKS

FATAL = Path(__file__).with_name("fatal_plugin.py")
_PRELOADED = [
    "torch._dynamo",
    "sklearn.cluster",
    "sklearn.linear_model",
    "matplotlib.backends.backend_svg",
    "run_fixtures",
]
TINY = """\
schema: 1
seed: 3
device: cpu
threads: 1
memory_mb: 64
dataset: {use: npz, path: data.npz, validation: 0.25}
backbone: {use: convnet, width: 4, depth: 1}
clusterer: {use: kmeans, clusters_per_class: 2, restarts: 1}
distance: {use: cosine}
training: {epochs: 4, lr: 0.1, batch_size: 16, momentum: 0.9, checkpoint_every: 2}
matching: {steps: 4, step_length: 2}
online: {perturbations: leave_one_out}
objectives: [{use: output_shift}]
study: {use: attribution, show: 1}
"""
DIGITS = """\
seed: 0
device: cpu
threads: 1
dataset: {use: digits}
backbone: {use: convnet, width: 8, depth: 2}
clusterer: {use: kmeans, clusters_per_class: 2, restarts: 1}
distance: {use: cosine}
training: {epochs: 8, lr: 0.1, checkpoint_every: 4}
matching: {steps: 30}
objectives: [{use: output_shift}, {use: performance, metric: loss}]
study: {use: attribution, queries: 60, show: 2}
"""


def tiny(folder: Path, text: str = TINY, **replaced: str) -> Path:
    """A recipe with its data in a folder; `replaced` gives sections anew, as in `distance="{use: mse}"`."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data.npz").exists():
        save_data(folder / "data.npz")
    lines = [line for line in text.splitlines() if line.partition(":")[0] not in replaced]
    path = folder / "tiny.yaml"
    path.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in replaced.items())]) + "\n")
    return path


def save_data(path: Path, seed: int = 0, num_train: int = 48, **changes: Any) -> None:
    """Three classes of noisy 6 x 6 stripes."""
    random = np.random.default_rng(seed)
    labels = np.arange(num_train + 12) % 3
    stripes = np.stack([np.roll(np.tile([1.0, 0.0, 0.0], (6, 2)), shift, 1) for shift in range(3)])
    images = np.clip(stripes[labels] * 0.6 + random.uniform(0, 0.4, (len(labels), 6, 6)), 0, 1).astype(np.float32)
    arrays = {
        "x_train": images[:num_train],
        "y_train": labels[:num_train],
        "x_test": images[num_train:],
        "y_test": labels[num_train:],
    }
    np.savez(path, **{**arrays, **changes})


@cache
def finished_tiny(folder: Path) -> Path:
    """A finished run of the tiny recipe, to be copied and not asked: questions leave networks and variants behind."""
    return ddm_framework.run(tiny(folder), out=folder / "run").path


@cache
def asked_tiny(folder: Path) -> Path:
    """A copy of that run which tests may ask anything, and leave as their questions leave it."""
    return copied(finished_tiny(folder), folder.with_name(f"{folder.name}_asked"))


@cache
def finished_digits(folder: Path) -> Path:
    """A finished run on the handwritten digits, to be copied and not touched."""
    recipe = folder / "digits.yaml"
    recipe.write_text(DIGITS)
    return ddm_framework.run(recipe, out=folder / "run").path


def copied(run: Path, to: Path) -> Path:
    """A run that a test may break, beside its recipe and data."""
    shutil.copytree(run.parent, to, dirs_exist_ok=True)
    return to / run.name


def tensors(run: Path) -> dict[str, Tensor]:
    """Every tensor of a run, by file and name; networks that a question left there do not count."""
    return {
        f"{path.relative_to(run)}:{name}": each
        for path in sorted(run.rglob("*.safetensors"))
        if NETWORKS not in path.parts
        for name, each in load_file(path).items()
    }


def numbers(run: Path) -> dict[str, Any]:
    """metrics.json without what a clock says."""
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["seconds"]
    return metrics


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "manifest.json").read_text())


def stamps(run: Path, under: str = ".") -> dict[str, tuple[int, int]]:
    """Size and time of last change of every file; networks that a question left there do not count."""
    found = (path for path in (run / under).rglob("*") if path.is_file() and NETWORKS not in path.parts)
    return {path.relative_to(run).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def assert_same_run(run: Path, other: Path) -> None:
    """The same numbers and, bit for bit, the same tensors in the same files."""
    mine, theirs = tensors(run), tensors(other)
    assert mine.keys() == theirs.keys()
    different = [name for name, each in mine.items() if not torch.equal(each, theirs[name])]
    assert not different
    assert numbers(run) == numbers(other)
    assert not list(run.rglob("*.partial"))


def in_process(target: Callable[..., None], *args: Any) -> int:
    """Call a function in a process of its own; its exit status, or minus the signal that ended it."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(_PRELOADED)
    child = processes.Process(target=target, args=args)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def ddm(*arguments: object) -> tuple[int, str, str]:
    """What the command line exits with and prints, in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["ddm", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            commands.main()
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def refused(*arguments: object) -> str:
    """The one message of a command that the user got wrong."""
    status, out, err = ddm(*arguments)
    assert status == 2, err
    assert out == ""
    assert err.startswith("ddm: ")
    assert "Traceback" not in err
    return err.removeprefix("ddm: ").strip()


def plugin(path: Path, kind: str, name: str, source: str) -> Path:
    """A local file with one component, whose function is called `target`."""
    hook = "ddm_register_studies" if kind == "study" else f"ddm_register_{kind}s"
    path.write_text(f"""\
from ddm_framework import Component, Report, hookimpl, objective
import torch

@hookimpl
def {hook}():
    yield Component("{name}", f"{{__name__}}:target")

{source}
""")
    return path

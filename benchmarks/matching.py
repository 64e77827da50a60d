"""Matching layer by layer against the way before: a vmap over a gradient of a gradient.

    python benchmarks/matching.py MNIST CIFAR10   (ten minutes; writes benchmarks/results/matching.json)

MNIST is the folder that holds MNIST, CIFAR10 the folder that holds cifar-10-batches-py, or an .npz file. Each network
is trained and its clusters are made as its recipe says; then both ways match the same clusters, in turns, in one
process. `digits` and `mnist_quick` are matched as their recipes say and as they said before, with more steps and other
betas of Adam. The others take the same steps in both ways. Peak memory is that of processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import stored
import torch

import ddm_framework
from ddm_framework.network.layer_gradients import LayerGradients
from ddm_framework.offline import Synset, match, possible_pairs, trajectory_gradients
from ddm_framework.plugin import load_plugins
from ddm_framework.recipe import load_recipe
from ddm_framework.recipe.settings import Matching
from ddm_framework.runs.opening import num_cores

RESULT = Path(__file__).resolve().parent / "results" / "matching.json"
SLICE = ["dataset.train_size=1000", "dataset.test_size=200", "training.epochs=5", "training.checkpoint_every=1"]
SAME: dict[str, Any] = {"steps": 30}
BEFORE: dict[str, dict[str, Any]] = {
    "digits": {"steps": 300, "betas": [0.9, 0.999]},
    "mnist_quick": {"steps": 200, "betas": [0.9, 0.999]},
}
NETWORKS = {
    "digits": ("digits_convnet", []),
    "mnist_quick": ("mnist_quick", []),
    "alexnet": ("cifar10_alexnet", [*SLICE, "backbone.width=8"]),
    "resnet": ("cifar10_resnet", [*SLICE, "backbone.width=4", "backbone.blocks=[1,1,1,1]"]),
    "vit": (
        "cifar10_vit",
        [*SLICE, "backbone.width=32", "backbone.depth=2", "backbone.heads=2", "distance.use=cosine"],
    ),
}
WAYS = ("before", "now")
TURNS, SHORT = 5, 8
"""Turns of each way for the seconds of a step, and steps of a turn."""


class Case:
    """A network, its clusters and their real gradients.

    Args:
        folder: of a run that has been trained and divided.
        name: of the network.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.workspace = ddm_framework.open_run(folder).workspace
        self.name, self.everything = name, slice(0, self.workspace.partition.num_clusters)
        pairs = possible_pairs(sorted(self.workspace.trajectory), self.workspace.recipe.matching)
        budget = self.workspace.budget
        self.real = trajectory_gradients(self.workspace.trained, self.workspace.divided, self.everything, pairs, budget)

    def settings(self, way: str) -> Matching:
        """What the recipe says now, or said before."""
        if self.name not in BEFORE:
            return self.workspace.recipe.matching.model_copy(update=SAME)
        now = load_recipe(NETWORKS[self.name][0], load_plugins()).matching
        return now.model_copy(update=BEFORE[self.name] if way == "before" else {})

    def match(self, way: str, steps: int | None = None) -> Synset:
        """All clusters, matched in one way."""
        settings = self.settings(way)
        settings = settings if steps is None else settings.model_copy(update={"steps": steps})
        workspace = self.workspace
        arguments = (workspace.trained, workspace.divided, self.everything, workspace.recipe.distance, settings, 0)
        with mock.patch.object(LayerGradients, "of", LayerGradients.of if way == "now" else _unknown):
            return match(*arguments, budget=workspace.budget, real=self.real)


def _unknown(*_: object) -> None:
    """No network is known, so all are differentiated twice under a vmap."""


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def step_seconds(case: Case) -> dict[str, float]:
    """Median seconds of a step, both ways in turns; what matching takes besides its steps is subtracted."""
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(TURNS):
        for way in WAYS:
            short, long = (seconds(partial(case.match, way, steps)) for steps in (1, 1 + SHORT))
            taken[way].append((long - short) / SHORT)
    return {way: statistics.median(each) for way, each in taken.items()}


def measured(case: Case, folder: Path, threads: int) -> dict[str, Any]:
    """Both ways on so many threads."""
    torch.set_num_threads(threads)
    each_step, found = step_seconds(case), {}
    for way in WAYS:
        begin = time.perf_counter()
        synset = case.match(way)
        found[way] = {
            "steps": case.settings(way).steps,
            "seconds_per_step": round(each_step[way], 5),
            "seconds": round(time.perf_counter() - begin, 2),
            "mean_cosine": round(float(synset.cosine.mean()), 4),
            "peak_mb": peak(folder, case.name, way, threads),
        }
    before, now = found["before"], found["now"]
    ratios = {key: round(before[key] / now[key], 2) for key in ("seconds_per_step", "seconds")}
    return {**found, "ratio": ratios, "cosine_difference": round(now["mean_cosine"] - before["mean_cosine"], 4)}


def peak(folder: Path, name: str, way: str, threads: int) -> int:
    """How far matching raises the memory of a process of its own, in MiB."""
    command = [sys.executable, __file__, "--one", str(folder), name, way, str(threads)]
    returned = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0"}  # or what the real gradients took would hide it
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=returned)
    return int(done.stdout.split()[-1])


def one(folder: Path, name: str, way: str, threads: int) -> None:
    """Match a few steps, and print how far the memory of this process rose above what it held before."""
    case = Case(folder, name)
    torch.set_num_threads(threads)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    before = _status("VmRSS")
    case.match(way, 3)
    print((_status("VmHWM") - before) // 1024)


def _status(name: str) -> int:
    """A size in KiB from this process's status (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def main() -> None:
    """Measure every network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path, nargs="?")
    parser.add_argument("cifar10", type=Path, nargs="?")
    parser.add_argument("--one", nargs=4)
    given = parser.parse_args()
    if given.one:
        folder, name, way, threads = given.one
        one(Path(folder), name, way, int(threads))
        return
    source = {
        "mnist_quick": [f"dataset.root={given.mnist.resolve()}"],
        **dict.fromkeys(("alexnet", "resnet", "vit"), stored.source(given.cifar10)),
    }
    found: dict[str, Any] = {"cores": num_cores(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as place:
        for name, (recipe, changes) in NETWORKS.items():
            folder = Path(place, name)
            ddm_framework.run(recipe, [*source.get(name, []), *changes, "matching.steps=1"], out=folder)
            case = Case(folder, name)
            found[name] = {f"threads_{threads}": measured(case, folder, threads) for threads in (1, 2)}
            print(name, json.dumps(found[name], indent=2), flush=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

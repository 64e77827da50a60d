"""Memory that one item of each kind takes, and the coefficients of `ddm_framework.network.memory` that follow.

Each kind is run with a small and a large stack in processes of their own. The difference of their peak memory, divided
by the number of items more, is the memory of one. Weights and activations that explain it over several networks are
found by non-negative least squares.

    python benchmarks/memory.py > benchmarks/results/memory.json

With a folder that holds MNIST it measures something else: the peak memory of whole runs on a slice of it, with more and
more clusters. It should grow by what is kept of each cluster alone, as the bytes of the results say.

    python benchmarks/memory.py --clusters data       writes benchmarks/results/memory_clusters.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import stored
import torch
from scipy.optimize import nnls
from torch import Tensor

import ddm_framework
from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network import Network, Parameters, broadcast, build_network
from ddm_framework.network.memory import BLOCK_GRADIENT, EVALUATION, FINE_TUNING, SECOND_ORDER, TRAINING, Budget, Cost
from ddm_framework.network.networks import QUERY_BATCH
from ddm_framework.network.target import Target
from ddm_framework.network.training import start, train
from ddm_framework.offline import Divided, Partition, match
from ddm_framework.plugin import load_plugins
from ddm_framework.plugin.choosing import choose
from ddm_framework.recipe.settings import Matching, Training
from ddm_framework.runs.streaming import SHARE

OUT = stored.RESULTS / "memory_clusters.json"
INFO = DataInfo((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3, tuple("abcdefghij"))
NETWORKS = {
    "convnet": ("convnet", {"width": 32}),
    "convnet, one block": ("convnet", {"width": 32, "depth": 1}),
    "alexnet": ("alexnet", {"width": 64}),
    "resnet": ("resnet", {"width": 16}),
    "vit": ("vit", {"width": 96, "depth": 4, "heads": 3, "patch_size": 4}),
}
FEW, MANY = 8, 24
KINDS: dict[str, tuple[Cost, int]] = {
    "evaluation": (EVALUATION, QUERY_BATCH),
    "training": (TRAINING, 32),
    "fine_tuning": (FINE_TUNING, 4),
    "block_gradient": (BLOCK_GRADIENT, 16),
    "second_order": (SECOND_ORDER, 2),
}
"""The cost of each kind, and how many images of each item pass through the network at a time."""


def task(kind: str, network: Network, initial: Parameters, count: int) -> Callable[[], object]:
    """What is measured: `count` items in one stack."""
    images = KINDS[kind][1]
    batch = torch.randn(images, *INFO.shape)
    if kind == "evaluation":
        stack = broadcast(initial, count)
        return lambda: network.logits(stack, batch)
    if kind == "training":
        data, settings = ImageSet(batch, torch.arange(images) % 10), Training(epochs=1, batch_size=images, momentum=0.9)
        return lambda: list(train(network, start(initial, count), data, torch.ones(count, images), settings, 0))
    if kind == "second_order":
        data = ImageSet(torch.randn(count, *INFO.shape), torch.zeros(count, dtype=torch.int64))
        divided = Divided(data, Partition(torch.arange(count), torch.zeros(count, dtype=torch.int64)))
        settings_ = Matching(steps=2, pairing="final", images_per_cluster=images)
        distance, target = choose(load_plugins(), "distance", "cosine"), Target(network, {0: initial})
        return lambda: match(target, divided, slice(0, count), distance, settings_, 0, budget=Budget(16))
    own, labels = torch.randn(count, images, *INFO.shape), torch.randint(10, (count, images))
    weights: Tensor = torch.full((count, images), 1 / images)
    return lambda: network.gradients(broadcast(initial, count), own, labels, weights)


def peak(kind: str, name: str, count: int) -> int:
    """Peak memory in bytes of a fresh process that runs one task."""
    command = [sys.executable, __file__, "--one", kind, name, str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(kind: str, name: str, count: int) -> None:
    """Run one task, and print how far the memory of this process rose above what it held before, in bytes."""
    use, options = NETWORKS[name]
    torch.set_num_threads(1)
    network, initial = build_network(choose(load_plugins(), "backbone", use, options), INFO, 0, torch.device("cpu"))
    work = task(kind, network, initial, count)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _status("VmRSS")
    work()
    print(_status("VmHWM") - before)


CLUSTERS = (100, 300, 1000)
QUERIES = 100
SLICE = [
    *("threads=1", "dataset.train_size=3000", "dataset.test_size=200", f"study.queries={QUERIES}", "study.show=1"),
    *("training.epochs=2", "training.checkpoint_every=1", "matching.step_length=1", "matching.steps=5"),
]
"""Of recipes/mnist_narrow.yaml, whose `memory_mb` is left to `auto`."""


def clusters(count: int, data: Path) -> dict[str, float]:
    """What a run with so many clusters took, in MB, measured in a fresh process."""
    command = [sys.executable, __file__, "--run", str(count), str(data)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    found: dict[str, float] = json.loads(told)
    return found


def whole_run(count: int, data: Path) -> None:
    """Run the slice, and print the peak memory of this process, imports and data included, and what is kept of it."""
    settings = [*SLICE, "memory_mb=auto", f"clusterer.clusters_per_class={count // 10}", *stored.source(data)]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        workspace = ddm_framework.run(stored.RECIPES / "mnist_narrow.yaml", settings, out=Path(folder, "run")).workspace
        attribution = workspace.folder.file("online", "attribution.safetensors").stat().st_size
        logits = len(workspace.perturbations) * QUERIES * workspace.info.num_classes * 4
        kept = {
            "synset": sum(each.nbytes for each in workspace.synset.tensors().values()),
            "design of perturbations": 3 * 4 * workspace.perturbations.numel(),
            "attribution": attribution,
            "logits of the perturbed networks": logits if SHARE * logits <= workspace.budget.memory_mb * 2**20 else 0,
        }
        found = {
            "peak": _status("VmHWM"),
            "kept": sum(kept.values()),
            **{f"kept, {name}": size for name, size in kept.items()},
        }
        told = {f"{name} (MB)": round(size / 1e6, 1) for name, size in found.items()}
        print(json.dumps({**told, "memory_mb": workspace.budget.memory_mb, "seconds": time.monotonic() - begun}))


def _status(name: str) -> int:
    """A size in bytes from this process's status (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measured(kind: str) -> dict[str, object]:
    """Float32 values of one item in each network, and the coefficients that explain them."""
    cost, images = KINDS[kind]
    rows, values, found = [], [], {}
    for name, (use, options) in NETWORKS.items():
        network = build_network(choose(load_plugins(), "backbone", use, options), INFO, 0, torch.device("cpu"))[0]
        each = max(0.0, (peak(kind, name, MANY) - peak(kind, name, FEW)) / (MANY - FEW) / 4)
        rows.append([network.num_weights, images * network.activation_values])
        values.append(each)
        budgeted = cost.weights * rows[-1][0] + cost.activations * rows[-1][1]
        found[name] = {"values": round(each), "budgeted": budgeted, "share": round(each / budgeted, 2)}
    # Each network counts the same, whatever its size.
    scale = np.array(values).clip(1)
    weights, activations = nnls(np.array(rows) / scale[:, None], np.array(values) / scale)[0]
    fitted = {"weights": round(float(weights), 1), "activations": round(float(activations), 1)}
    return {"networks": found, "fitted": fitted, "used": {"weights": cost.weights, "activations": cost.activations}}


def main() -> None:
    """Measure every kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--clusters", type=Path)
    parser.add_argument("--run", nargs=2)
    asked = parser.parse_args()
    if asked.run:
        whole_run(int(asked.run[0]), Path(asked.run[1]))
    elif asked.clusters:
        found = {str(count): clusters(count, asked.clusters) for count in CLUSTERS}
        stored.write(OUT, {"machine": stored.machine("cpu"), "settings": SLICE, "clusters": found})
        print(OUT.read_text(encoding="utf-8"))
    elif asked.one:
        one(asked.one[0], asked.one[1], int(asked.one[2]))
    else:
        print(json.dumps({kind: measured(kind) for kind in KINDS}, indent=2))


if __name__ == "__main__":
    main()

"""What a GPU does with ddm, in eight minutes at most: one command, the most important first, resumable.

    python benchmarks/device.py [--mnist DIR] [--cifar10 DIR] [--minutes 8] [--again]
    python benchmarks/device.py --device cpu --tiny        (two minutes: shows that every part works)

In this order: the tests that need a GPU; exact retraining as a bank beside a plain loop; matching; the dial; what
`matmul_precision: high` changes; then `mnist_convnet` and `cifar10_convnet` at the paper's own sizes, as far as the
minutes go. DIR is the folder of the images (for CIFAR-10 perhaps an .npz file with part of them); without it, random
images of the same sizes stand in, which cost the same and teach nothing. Each part is written to
benchmarks/results/device.json when it is done and left alone the next time; a recipe that was stopped goes on where it
was. At the end the table is printed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import stored
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ddm_framework.data import DataInfo, ImageSet, StoredImages
from ddm_framework.network import (
    Budget,
    Network,
    Parameters,
    Target,
    broadcast,
    build_network,
    flat,
    start,
    take,
    train,
)
from ddm_framework.offline import Divided, Partition, match
from ddm_framework.offline.matching import image_gradients
from ddm_framework.online import leave_one_out, perturbed_networks
from ddm_framework.online.replaying import Replay
from ddm_framework.plugin import load_plugins
from ddm_framework.plugin.choosing import choose
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.settings import Matching, Training

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path("runs", "results", "device")
TESTS = "tests/framework/network/test_devices.py"
LEAST = {
    "tests": 60,
    "bank": 45,
    "matching": 30,
    "dial": 30,
    "precision": 20,
    "mnist_convnet": 60,
    "cifar10_convnet": 60,
}
"""Seconds that must be left for a part to be begun."""


@dataclass(frozen=True)
class Bed:
    """Sizes of what is timed.

    Attributes:
        width, side: of the ConvNet, 3 deep, and of its images.
        images, batch: of the training.
        clusters: that are matched, and as many networks that the dial estimates.
        stacks: numbers of networks that are trained side by side.
        repeats: steps that are timed.
        memory_mb: of a chunk.
    """

    width: int
    side: int
    images: int
    batch: int
    clusters: int
    stacks: tuple[int, ...]
    repeats: int
    memory_mb: int


PAPER = Bed(128, 28, 6400, 64, 100, (1, 2, 4, 8, 16, 32, 64, 128), 20, 16_000)
TINY = Bed(8, 28, 256, 32, 12, (1, 2, 8), 3, 64)


@dataclass(frozen=True)
class Bench:
    """A network and random images on a device."""

    bed: Bed
    device: torch.device
    network: Network
    initial: Parameters
    data: ImageSet
    partition: Partition

    @classmethod
    def on(cls, device: torch.device, bed: Bed) -> Bench:
        """Made from one seed."""
        info = DataInfo((1, bed.side, bed.side), 10, (0.5,), (0.25,), tuple("0123456789"))
        build = choose(load_plugins(), "backbone", "convnet", {"width": bed.width, "depth": 3})
        network, initial = build_network(build, info, 0, device)
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (bed.images, 1, bed.side, bed.side), generator=random, dtype=torch.uint8)
        clusters = torch.arange(bed.images) % bed.clusters
        labels = clusters * 10 // bed.clusters
        classes = torch.arange(bed.clusters) * 10 // bed.clusters
        images = StoredImages.of(pixels, info.mean, info.std).to(device)
        partition = Partition(clusters.to(device), classes.to(device))
        return cls(bed, device, network, initial, ImageSet(images, labels.to(device)), partition)

    @property
    def training(self) -> Training:
        """One epoch of it is timed."""
        return Training(epochs=1, lr=0.01, batch_size=self.bed.batch)

    def some(self, steps: int) -> ImageSet:
        """The images of so many steps."""
        return self.data.take(torch.arange(min(steps * self.bed.batch, len(self.data)), device=self.device))

    def target(self) -> Target:
        """A target of two epochs, all of them saved."""
        kept = torch.ones(1, len(self.data), device=self.device)
        settings = self.training.model_copy(update={"epochs": 2})
        states = train(self.network, start(self.initial, 1), self.data, kept, settings, 0)
        trajectory = {state.epoch: take(state.parameters, 0) for state in states}
        return Target(self.network, {0: self.initial, **trajectory})


def seconds(device: torch.device, work: Callable[[], object], repeats: int = 3) -> float:
    """Median seconds of a few calls, after one that warms up."""
    found = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - begun)
    return statistics.median(found[1:])


def tests(bench: Bench, left: float) -> dict[str, Any]:
    """`pytest -m cuda`; on a processor the same tests without the mark."""
    marked = ["-m", "cuda"] if bench.device.type == "cuda" else [TESTS]
    command = [sys.executable, "-m", "pytest", "-q", *marked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
    return {"status": done.returncode, "said": done.stdout.strip().splitlines()[-1][:200]}


def bank(bench: Bench, _left: float) -> dict[str, Any]:
    """Seconds of one step of one network: a plain loop, and stacks."""
    bed, some = bench.bed, bench.some(bench.bed.repeats)
    steps = len(some) // bed.batch
    plain = seconds(bench.device, lambda: plain_epoch(bench, some)) / steps
    stacks, grouped = {}, {}
    for count in bed.stacks:
        for found, network in ((grouped, bench.network), (stacks, _ungrouped(bench.network))):
            try:
                spent = seconds(bench.device, lambda each=network, count=count: stacked_epoch(bench, each, some, count))
            except torch.OutOfMemoryError:
                continue
            found[str(count)] = spent / steps / count
    best = min([*stacks.values(), *grouped.values()])
    return {
        "plain_loop_seconds_a_step": plain,
        "grouped_seconds_a_step_and_network": grouped,
        "vmap_seconds_a_step_and_network": stacks,
        "times_faster_than_a_plain_loop": plain / best,
    }


def _ungrouped(network: Network) -> Network:
    return replace(network, grouped=None)


def plain_epoch(bench: Bench, some: ImageSet) -> None:
    """An ordinary loop: a module, an optimiser, tensors on the device, no data loader."""
    module = copy.deepcopy(bench.network.module).requires_grad_()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for batch in torch.randperm(len(some)).to(bench.device).split(bench.bed.batch):
        optimizer.zero_grad()
        F.cross_entropy(module(some.images[batch]), some.labels[batch]).backward()
        optimizer.step()


def stacked_epoch(bench: Bench, network: Network, some: ImageSet, count: int) -> None:
    """The same epoch of a stack."""
    kept = torch.ones(count, len(some), device=bench.device)
    for _ in train(network, start(bench.initial, count), some, kept, bench.training, 0):
        pass


def matching(bench: Bench, _left: float) -> dict[str, Any]:
    """Seconds of one step of matching all clusters, and of the real gradients at one checkpoint."""
    target, bed = bench.target(), bench.bed
    divided, budget = Divided(bench.data, bench.partition), Budget(bed.memory_mb)
    distance = choose(load_plugins(), "distance", "cosine")

    def matched(steps: int) -> float:
        settings = Matching(steps=steps, step_length=1)
        everything = slice(0, bed.clusters)
        return seconds(
            bench.device, lambda: match(target, divided, everything, distance, settings, 0, budget=budget), 1
        )

    few, many = matched(1), matched(1 + bed.repeats)
    return {"clusters": bed.clusters, "seconds_a_step": (many - few) / bed.repeats, "seconds_besides": few}


def dial(bench: Bench, _left: float) -> dict[str, Any]:
    """Seconds of all networks without one cluster, by a step alone and with a replay of the last epoch."""
    bed, target = bench.bed, bench.target()
    divided, budget = Divided(bench.data, bench.partition), Budget(bed.memory_mb)
    distance = choose(load_plugins(), "distance", "cosine")
    settings = Matching(steps=2, step_length=1)
    synset = match(target, divided, slice(0, bed.clusters), distance, settings, 0, budget=budget)
    recipe = load_recipe(
        str(stored.RECIPES / "mnist_convnet.yaml"),
        load_plugins(),
        [
            "training.epochs=2",
            f"training.batch_size={bed.batch}",
            f"memory_mb={bed.memory_mb}",
            "matching.step_length=1",
        ],
    )
    rows = leave_one_out(bed.clusters)
    zero = {name: torch.zeros_like(each) for name, each in bench.initial.items()}
    found = {}
    for epochs in (0, 1):
        asked = replace(recipe, online=recipe.online.changed({"replay": epochs}))
        after = Replay(bench.data, bench.partition.clusters, epochs, zero, True) if epochs else None
        found[f"E = {epochs}"] = seconds(
            bench.device,
            lambda asked=asked, after=after: [None for _ in perturbed_networks(target, synset, rows, asked, after)],
            1,
        )
    return {"networks": len(rows), "images": len(bench.data), "seconds": found}


def precision(bench: Bench, _left: float) -> dict[str, Any]:
    """What `matmul_precision: high` changes: relative differences from float32, and seconds."""
    bed, some = bench.bed, bench.some(bench.bed.repeats)
    index = torch.arange(bed.clusters, device=bench.device)
    images, logits = bench.data.images[index][:, None], torch.zeros(bed.clusters, 1, 10, device=bench.device)
    distance = choose(load_plugins(), "distance", "cosine")
    towards = broadcast(bench.initial, bed.clusters)
    gradients = image_gradients(Target(bench.network, {0: bench.initial}), distance)

    def trained() -> Tensor:
        kept = torch.ones(2, len(some), device=bench.device)
        *_, last = train(bench.network, start(bench.initial, 2), some, kept, bench.training, 0)
        return flat(last.parameters) - flat(broadcast(bench.initial, 2))

    def by_images() -> Tensor:
        found: Tensor = gradients(images, logits, towards, bench.initial)[0]
        return found

    before, results = torch.get_float32_matmul_precision(), {}
    try:
        for name, work in {"training": trained, "matching": by_images}.items():
            found, spent = {}, {}
            for level in ("highest", "high"):
                torch.set_float32_matmul_precision(level)
                found[level], spent[level] = work(), seconds(bench.device, work)
            error = (found["high"] - found["highest"]).norm() / found["highest"].norm()
            results[name] = {"relative_difference": float(error), "seconds": spent}
    finally:
        torch.set_float32_matmul_precision(before)
    return results


def recipe_run(name: str, source: Path | None, *, tiny: bool) -> Callable[[Bench, float], dict[str, Any]]:
    """A recipe at the paper's sizes, as far as the time goes; what is done stays for the next time."""

    def run(bench: Bench, left: float) -> dict[str, Any]:
        data = _stand_in(name, tiny=tiny) if source is None else source
        settings = [*stored.source(data), f"device={bench.device.type}"]
        settings += TINY_SETTINGS if tiny else ["memory_mb=16000"]
        out = RUNS / f"{name}{'_tiny' if tiny else ''}"
        command = [sys.executable, "-m", "ddm_framework", "run", str(stored.RECIPES / f"{name}.yaml"), "--json"]
        command += [part for each in settings for part in ("--set", each)] + ["--out", str(out)]
        begun = time.perf_counter()
        told = {"data": "random images" if source is None else "real images"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
        except subprocess.TimeoutExpired:
            return {**told, "unfinished": _stages(out), "seconds_so_far": time.perf_counter() - begun}
        if done.returncode:
            return {**told, "failed": done.stderr.strip()[-300:]}
        found = json.loads(done.stdout)
        return {
            **told,
            "test_accuracy": found["target"]["test_accuracy"],
            "mean_cosine": found["matching"]["mean_cosine"],
            "seconds": found["seconds"],
        }

    return run


TINY_SETTINGS = ["backbone.width=8", "training.epochs=2", "training.checkpoint_every=1", "matching.steps=3"]
TINY_SETTINGS += ["matching.step_length=1", "clusterer.clusters_per_class=2", "study.show=1", "threads=1"]


def _stages(out: Path) -> dict[str, Any]:
    manifest = out / "manifest.json"
    return (
        {}
        if not manifest.exists()
        else {
            stage: {"done": each.get("done", False), "seconds": each.get("seconds", 0.0)}
            for stage, each in stored.read(manifest)["stages"].items()
        }
    )


def _stand_in(name: str, *, tiny: bool) -> Path:
    """Random images of the data set's sizes, uint8."""
    side, channels = (28, 1) if name.startswith("mnist") else (32, 3)
    train_size, test_size = (600, 100) if tiny else ((60_000 if channels == 1 else 50_000), 10_000)
    file = RUNS / f"random_{side}_{train_size}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        arrays = {}
        for split, count in (("train", train_size), ("test", test_size)):
            arrays[f"x_{split}"] = random.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
            arrays[f"y_{split}"] = np.arange(count) % 10
        np.savez(file, **arrays)
    return file


def main() -> None:
    """Every part that is not there yet, until the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mnist", type=Path, help="the folder that holds MNIST")
    parser.add_argument("--cifar10", type=Path, help="the folder that holds cifar-10-batches-py, or an .npz file")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing more is begun [8]")
    parser.add_argument("--tiny", action="store_true", help="small sizes; written to a file of its own beside the runs")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--only", action="append", choices=list(LEAST), help="this part; may be repeated")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    result = (RUNS / "tiny.json") if given.tiny else stored.RESULTS / "device.json"
    found: dict[str, Any] = stored.read(result) if result.exists() else {}
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    parts: dict[str, Callable[[Bench, float], dict[str, Any]]] = {
        "tests": tests,
        "bank": bank,
        "matching": matching,
        "dial": dial,
        "precision": precision,
        "mnist_convnet": recipe_run("mnist_convnet", given.mnist, tiny=given.tiny),
        "cifar10_convnet": recipe_run("cifar10_convnet", given.cifar10, tiny=given.tiny),
    }
    bench = Bench.on(device, TINY if given.tiny else PAPER)
    for part, work in parts.items():
        known = found.get(part)
        unfinished = known is None or "unfinished" in known or "failed" in known
        left = until - time.monotonic()
        if (given.only and part not in given.only) or not (unfinished or given.again):
            continue
        if left < (5 if given.tiny else LEAST[part]):
            print(f"{part}: no time left", flush=True)
            continue
        begun = time.perf_counter()
        try:
            found[part] = work(bench, left)
        except Exception as error:  # the parts that follow are measured all the same
            found[part] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        found[part]["seconds_of_this_part"] = round(time.perf_counter() - begun, 1)
        found["machine"] = stored.machine(name)
        stored.write(result, found)
        print(part, found[part], flush=True)
    show(found)


def show(found: dict[str, Any]) -> None:
    """The results as a table."""
    table = Table("part", "figure", "value", title=found.get("machine", ""), box=None)
    for part, figures in found.items():
        for key, value in _leaves(figures) if isinstance(figures, dict) else ():
            table.add_row(part, key, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console(width=160).print(table)


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    return [
        leaf
        for key, value in tree.items()
        for leaf in (_leaves(value, f"{prefix}{key}, ") if isinstance(value, dict) else [(f"{prefix}{key}", value)])
    ]


if __name__ == "__main__":
    main()

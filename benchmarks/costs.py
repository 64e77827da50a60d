"""What a run is told to cost beforehand, beside what it cost, at three sizes; and what larger sizes are told to cost.

    python benchmarks/costs.py MNIST [--again]    (writes benchmarks/results/costs.json)

MNIST is the folder that holds it. Each size is asked with `ddm run --dry-run` and then run, in a process of its own and
with one thread; memory is that of the process and its workers together. CIFAR-10 is predicted at the paper's size on
random images; ImageNet, which no machine here holds, from a few timed steps of ResNet-18 on images of 224 pixels and
the sizes put into the model (`ddm_framework.stages.costs`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import stored
import torch
from watching import watched

from ddm_framework.data import DataInfo, DataSplits
from ddm_framework.network import build_network
from ddm_framework.plugin import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.stages.costs import costs_of
from ddm_framework.stages.foretelling import sizes_of
from ddm_framework.stages.timed_steps import measured

RESULT = stored.RESULTS / "costs.json"
PLAIN = ["threads=1", "device=cpu", 'study={"use": "attribution", "show": 5}', "online.keep_mb=0"]
SIZES: dict[str, tuple[str, list[str]]] = {
    "digits, 1,258 images": (
        "fidelity_digits",
        ["matching.steps=100", "online.replay=2", "certificate.retrainings=16"],
    ),
    "MNIST, 2,000 images": ("fidelity_mnist", ["matching.steps=100", "certificate.retrainings=8"]),
    "MNIST, 8,000 images": (
        "mnist_narrow",
        ["dataset.train_size=8000", "training.epochs=8", "matching.steps=50"],
    ),
}
"""Recipe and changes."""
PARTS = {
    "training": ["train"],
    "partition": ["cluster"],
    "matching": ["match"],
    "online and report": ["perturb", "perturb and replay", "study"],
    "certificate": ["certificate"],
}
"""Of a finished run's seconds, and the parts that were foretold."""
IMAGENET = {"train": 1_281_167, "queries": 50_000, "clusters": 10_000, "networks": 10_001}


def compared(recipe: str, settings: list[str]) -> dict[str, Any]:
    """One size: what was foretold, and what it was."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "runs", "run")
        command = [sys.executable, "-m", "ddm_framework", "run", str(stored.RECIPES / f"{recipe}.yaml"), "--json"]
        command += ["--out", str(out), *(part for each in (*settings, *PLAIN) for part in ("--set", each))]
        asked, done = watched([*command, "--dry-run"]), watched(command)
        if asked.status or done.status:
            raise SystemExit(asked.complaint + done.complaint)
        foretold, seconds = json.loads(asked.out), json.loads(done.out)["seconds"]
        seconds["online and report"] = seconds["online"] + seconds["report"]
        disk = sum(file.stat().st_size for file in out.parent.rglob("*") if file.is_file())
    stages = foretold["stages"]
    parts = {
        part: {
            "predicted": sum(stages[name]["seconds"] for name in names if name in stages),
            "measured": seconds[part],
        }
        for part, names in PARTS.items()
        if part in seconds
    }
    return {
        "seconds": parts,
        "total_seconds": {"predicted": foretold["total"]["seconds"], "measured": seconds["total"]},
        "memory_bytes": {"predicted": foretold["total"]["memory_bytes"], "measured": done.peak_bytes},
        "disk_bytes": {"predicted": foretold["total"]["disk_bytes"], "measured": disk},
        "seconds_to_foretell": asked.seconds,
    }


def cifar10() -> dict[str, Any]:
    """`cifar10_convnet` as the paper has it, on 50,000 random images."""
    with tempfile.TemporaryDirectory() as folder:
        file, random = Path(folder, "random.npz"), np.random.default_rng(0)
        arrays = {}
        for split, count in (("train", 50_000), ("test", 10_000)):
            arrays[f"x_{split}"] = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            arrays[f"y_{split}"] = np.arange(count) % 10
        np.savez(file, **arrays)
        command = [sys.executable, "-m", "ddm_framework", "run", str(stored.RECIPES / "cifar10_convnet.yaml")]
        changes = [*stored.source(file), "certificate.retrainings=20"]
        command += ["--json", "--dry-run", *(part for each in changes for part in ("--set", each))]
        found: dict[str, Any] = json.loads(watched([*command, "--out", str(Path(folder, "run"))]).out)
    return found


def imagenet() -> dict[str, Any]:
    """timm's ResNet-18 on ImageNet: 90 epochs, ten clusters a class, ten epochs of replay, twenty retrainings."""
    recipe = load_recipe(
        str(stored.RECIPES / "cifar10_resnet.yaml"),
        load_plugins(),
        [
            'backbone={"use": "timm", "model": "resnet18"}',
            "training.batch_size=8",
            "training.augmentation=[]",
            "training.checkpoint_every=10",
            "training.epochs=90",
            "matching.step_length=10",
            "online.replay=10",
            "certificate.retrainings=20",
            "threads=1",
        ],
    )
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (64, 3, 224, 224), dtype=np.uint8))
    data = DataSplits.from_pixels(
        (pixels[:48], torch.arange(48) % 4), (pixels[48:], torch.arange(16) % 4), class_names=tuple("abcd")
    )
    small = replace(recipe, clustering=recipe.clustering.model_copy(update={"clusters_per_class": 4}))
    info = DataInfo((3, 224, 224), 1000, (0.5,) * 3, (0.25,) * 3, tuple(map(str, range(1000))))
    network, initial = build_network(recipe.backbone, data.info, 0, torch.device("cpu"))
    sizes = sizes_of(small, data, network)
    speed = measured(small, data, network, initial, replace(sizes, workers=1))
    large = build_network(recipe.backbone, info, 0, torch.device("cpu"))[0]
    whole = replace(
        sizes,
        **IMAGENET,
        classes=1000,
        weights=large.num_weights,
        data_bytes=IMAGENET["train"] * 3 * 224**2,
        workers=1,
    )
    return {**costs_of(whole, speed, held=1e9).as_dict(), "sizes": asdict(whole), "speed": asdict(speed)}


def main() -> None:
    """Every size that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    given = parser.parse_args()
    found: dict[str, Any] = stored.read(RESULT) if RESULT.exists() else {}
    source = {name: [] if name.startswith("digits") else stored.source(given.mnist) for name in SIZES}
    work = {
        name: lambda each=each, name=name: compared(each[0], [*source[name], *each[1]]) for name, each in SIZES.items()
    }
    for name, each in {**work, "CIFAR-10": cifar10, "ImageNet": imagenet}.items():
        if name in found and not given.again:
            continue
        found[name] = each()
        found["machine"] = stored.machine("cpu")
        stored.write(RESULT, found)
        print(name, json.dumps(found[name])[:600], flush=True)


if __name__ == "__main__":
    main()

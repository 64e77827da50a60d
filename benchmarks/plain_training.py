"""A ResNet-18 with batch norm, trained by plain PyTorch with its checkpoints kept, and brought with its training.

python benchmarks/plain_training.py CIFAR.npz   (about fifteen minutes; writes benchmarks/results/plain_training.json)

CIFAR.npz holds x_train, y_train, x_test, y_test (uint8, N x 32 x 32 x 3) of CIFAR-10. torchvision's network is trained
on some images of four classes as anybody would, matched in all of its weights, and certified by that same training.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from stored import RESULTS, machine, write
from torch import Tensor, nn

import ddm_framework

RESULT = RESULTS / "plain_training.json"
CLASSES, TRAIN, TEST, EPOCHS, BATCH = 4, 60, 20, 6, 32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SETTINGS = [
    "matching.steps=60",
    "matching.step_length=1",
    "clusterer.clusters_per_class=3",
    "certificate.retrainings=5",
    "threads=1",
]
Split = tuple[Tensor, Tensor]


def training(data: Split, before: Callable[[nn.Module], object] = id) -> Callable[[Tensor], nn.Module]:
    """Plain training of a ResNet-18 on normalised images; `before` is called at the beginning of each epoch."""
    images = (data[0] / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)

    def train(weights: Tensor) -> nn.Module:
        torch.manual_seed(0)
        module = torchvision.models.resnet18(num_classes=CLASSES)
        optimizer = torch.optim.SGD(module.parameters(), 0.02, momentum=0.9)
        for epoch in range(EPOCHS):
            before(module)
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
            for batch in order.split(BATCH):
                optimizer.zero_grad()
                losses = F.cross_entropy(module(images[batch]), data[1][batch], reduction="none")
                (losses * weights[batch]).mean().backward()
                optimizer.step()
        return module.eval()

    return train


def main(file: Path) -> None:
    """Train, bring, and certify."""
    torch.set_num_threads(1)
    train, test, kept = split(file, "train", TRAIN), split(file, "test", TEST), list[dict[str, Tensor]]()

    def keep(module: nn.Module) -> None:
        kept.append({name: each.clone() for name, each in module.state_dict().items()})

    begun = time.monotonic()
    module = training(train, keep)(torch.ones(len(train[1])))
    trained = time.monotonic() - begun
    with tempfile.TemporaryDirectory() as folder:
        run = ddm_framework.from_module(
            module,
            train,
            test,
            checkpoints=kept,
            train_function=training(train),
            mean=MEAN,
            std=STD,
            settings=SETTINGS,
            out=Path(folder, "run"),
        )
        figures: dict[str, Any] = {
            "machine": machine("cpu, one thread"),
            "seconds_of_one_training": round(trained, 1),
            "seconds": run.metrics["seconds"],
            "weights": run.workspace.network.num_weights,
            "accuracy": run.metrics["target"],
            "mean_cosine": run.metrics["matching"]["mean_cosine"],
            "train_function": run.metrics["train_function"],
            "certificate": run.metrics["certificate"],
        }
    write(RESULT, figures)


def split(file: Path, name: str, count: int) -> Split:
    """The first images of each of the first classes, uint8 (N, 3, 32, 32)."""
    with np.load(file) as found:
        pixels, labels = found[f"x_{name}"], found[f"y_{name}"]
    index = np.concatenate([np.where(labels == label)[0][:count] for label in range(CLASSES)])
    return torch.tensor(pixels[index]).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels[index])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

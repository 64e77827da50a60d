"""Five networks that nobody adapted, brought as they are, and matched in their last block: seconds, memory, cosine.

python benchmarks/five_networks.py   (about five minutes; writes benchmarks/results/five_networks.json)

Each is built by the library that it comes from and trained for a moment by plain PyTorch, on scikit-learn's digits as
images of 32 x 32 pixels. Each runs in a process of its own, so that the largest memory is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_digits
from stored import RESULTS, machine, write
from torch import Tensor, nn

import ddm_framework

RESULT = RESULTS / "five_networks.json"
TRAIN, TEST, CLASSES = 16, 4, 10
SETTINGS = ["matching.steps=30", "clusterer.clusters_per_class=2", "threads=1"]


class Rows(nn.Module):
    """An encoder of PyTorch over the rows of a digit."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.start, self.encoder = nn.Linear(96, 64), nn.TransformerEncoder(layer, 2)
        self.last = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        found: Tensor = self.last(self.encoder(self.start(images.transpose(1, 2).flatten(2))).mean(1))
        return found


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=CLASSES), ["layer4.1.*", "fc.*"]),
    "timm mobilenetv3_small_100": (
        lambda: timm.create_model("mobilenetv3_small_100", num_classes=CLASSES),
        ["blocks.5.*", "conv_head.*", "classifier.*"],
    ),
    "timm vit_tiny_patch16_224": (
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, img_size=32, patch_size=8),
        ["blocks.11.*", "norm.*", "head.*"],
    ),
    "torchvision convnext_tiny": (
        lambda: torchvision.models.convnext_tiny(num_classes=CLASSES),
        ["features.7.2.*", "classifier.*"],
    ),
    "nn.TransformerEncoder over rows": (Rows, ["encoder.layers.1.*", "last.*"]),
}
"""What makes each network, and patterns of the weights of its last block."""


def main() -> None:
    """Bring each network in a process of its own."""
    found = {}
    for name in NETWORKS:
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)
    write(RESULT, {"machine": machine("cpu, one thread"), "networks": found})


def one(name: str) -> dict[str, Any]:
    """Figures of one network."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make, block = NETWORKS[name]
    module, train, test = make(), _images(0, TRAIN), _images(TRAIN, TRAIN + TEST)
    kept = _trained(module, train)
    before, begun, worked = _peak(), time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = ddm_framework.from_module(
            module, train, test, checkpoints=kept, parameters=block, settings=SETTINGS, out=Path(folder, "run")
        )
        seconds, worked = time.monotonic() - begun, time.process_time() - worked
        with torch.no_grad():
            apart = float((run.workspace.target_logits(test[0]) - module(test[0])).abs().max())
        effect = run.attribute(test[0], test[1]).effect
        return {
            "seconds": round(seconds, 1),
            "processor_seconds": round(worked, 1),
            "largest_memory_mb": round(_peak()),
            "memory_before_mb": round(before),
            "weights": sum(each.numel() for each in module.parameters()),
            "weights_matched": run.workspace.network.num_weights,
            "mean_cosine": round(run.metrics["matching"]["mean_cosine"], 3),
            "test_accuracy": run.metrics["target"]["test_accuracy"],
            "largest_difference_of_logits": apart,
            "effects": list(effect.shape),
        }


def _images(start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Digits as colour images of 32 x 32 pixels, and their classes."""
    digits = load_digits()
    index = np.concatenate([np.where(digits.target == label)[0][start:stop] for label in range(CLASSES)])
    small = torch.tensor(digits.images[index] / 16, dtype=torch.float32)[:, None]
    return F.interpolate(small, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous(), torch.tensor(
        digits.target[index]
    )


def _trained(module: nn.Module, data: tuple[Tensor, Tensor], epochs: int = 6) -> list[dict[str, Tensor]]:
    """Train it by plain PyTorch; two earlier checkpoints."""
    optimizer, kept = torch.optim.Adam(module.parameters(), 1e-3), []
    module.train()
    for epoch in range(epochs):
        if epoch % 3 == 0:
            kept.append({name: each.clone() for name, each in module.state_dict().items()})
        for batch in torch.randperm(len(data[1])).split(32):
            optimizer.zero_grad()
            F.cross_entropy(module(data[0][batch]), data[1][batch]).backward()
            optimizer.step()
    module.eval()
    return kept


def _peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1])))
    else:
        main()

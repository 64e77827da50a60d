"""Images as they are stored, uint8 in memory or on disk, read as normalised network inputs a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

RESIDENT_BYTES = 4 * 2**30
"""Pixels up to this size move to an accelerator as a whole; larger ones stay in memory or on disk."""
BLOCK = 1024
"""Number of images that are processed together in a pass over all of them."""

Index = Tensor | slice | int


@dataclass(frozen=True, slots=True)
class StoredImages:
    """Reads like the float32 tensor (N, C, H, W) of network inputs that it represents, in a quarter of the memory.

    Attributes:
        pixels: uint8 (M, C, H, W), 0 to 255; in memory, or over a memory-mapped file.
        mean, std: float32 (C, 1, 1), of pixels in [0, 1]; what is read is (pixels / 255 - mean) / std.
        rows: int64 (N,), which of the pixels these images are, and in which order.
        device: of the tensors that are read.
        ndim: 4, as (N, C, H, W) has.
        dtype: float32, the type of the tensors that are read.
    """

    pixels: Tensor
    mean: Tensor
    std: Tensor
    rows: Tensor
    device: torch.device
    ndim: ClassVar[int] = 4
    dtype: ClassVar[torch.dtype] = torch.float32

    @classmethod
    def of(cls, pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> StoredImages:
        """All of the pixels."""
        rows = torch.arange(len(pixels), device=pixels.device)
        return cls(pixels, _channels(mean), _channels(std), rows, pixels.device)

    def __reduce__(self) -> tuple[object, ...]:
        """Only these images go to another process, not the pixels that others share with them."""
        rows = torch.arange(len(self), device=self.rows.device)
        return type(self), (self.pixels[self.rows], self.mean, self.std, rows, self.device)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Index) -> Tensor:
        """Network inputs, float32: (C, H, W) of one image, (..., C, H, W) of an index of any shape."""
        chosen = index.to(self.rows.device) if isinstance(index, Tensor) else index
        read = _moved(self.pixels[self.rows[chosen]].contiguous(), self.device).float() / 255
        return (read - self.mean.to(self.device)) / self.std.to(self.device)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.rows), *self.pixels.shape[1:]))

    def take(self, index: Tensor) -> StoredImages:
        """The images at these positions, int64 (M,); nothing is read yet."""
        return replace(self, rows=self.rows[index.to(self.rows.device)])

    def split(self, size: int) -> Iterator[Tensor]:
        """Network inputs, `size` images at a time."""
        yield from (self[low : low + size] for low in range(0, len(self), size))

    def stored(self) -> Iterator[Tensor]:
        """The pixels themselves, uint8, a block at a time."""
        yield from (self.pixels[rows] for rows in self.rows.split(BLOCK))

    def to(self, device: torch.device) -> StoredImages:
        """The same images, read to another device."""
        scale = {"mean": self.mean.to(device), "std": self.std.to(device)}
        if self.pixels.numel() > RESIDENT_BYTES:
            return replace(self, device=device, **scale)
        return replace(self, pixels=self.pixels.to(device), rows=self.rows.to(device), device=device, **scale)

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> StoredImages:
        """The same pixels with another normalisation."""
        return replace(self, mean=_channels(mean), std=_channels(std))


def _moved(pixels: Tensor, device: torch.device) -> Tensor:
    """On the device; to a GPU from pinned memory, so that nobody waits for the copy."""
    if device.type == "cuda" and pixels.device.type == "cpu":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


Images = Tensor | StoredImages
"""Network inputs (N, C, H, W), float32: as they are, or as they are stored. Both can be indexed and split."""


def content_digest(told: str, parts: Iterable[Images]) -> str:
    """A digest of a text and of the shapes and values of some images or labels."""
    digest = hashlib.sha256(told.encode())
    for values in parts:
        digest.update(repr(tuple(values.shape)).encode())
        for block in values.stored() if isinstance(values, StoredImages) else [values]:
            digest.update(block.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def index_device(images: Images) -> torch.device:
    """Where an index of the images is looked up: pixels too large for an accelerator stay in memory."""
    return images.rows.device if isinstance(images, StoredImages) else images.device


def taken(images: Images, index: Tensor) -> Images:
    """The images at these positions, int64 (M,), stored as they were."""
    return images.take(index) if isinstance(images, StoredImages) else images[index]


def statistics(pixels: Tensor, rows: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of some of the pixels, in units of [0, 1].

    Args:
        pixels: uint8 0 to 255, or float32 in [0, 1], (N, C, H, W).
        rows: int64 (M,).
    """
    if pixels.is_floating_point():
        chosen = pixels[rows]
        mean, std = chosen.mean((0, 2, 3)), chosen.std((0, 2, 3))
    else:
        mean, std = _statistics_by_block(pixels, rows)
    return tuple(mean.tolist()), tuple(std.clamp_min(1e-6).tolist())


def _statistics_by_block(pixels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The same from sums over blocks; sums of uint8 values are exact in float64."""
    total = square = torch.zeros(pixels.shape[1], dtype=torch.float64)
    for block in rows.split(BLOCK):
        values = pixels[block].double()
        total, square = total + values.sum((0, 2, 3)), square + values.square().sum((0, 2, 3))
    count = len(rows) * pixels[0, 0].numel()
    mean = total / count
    return mean / 255, ((square - count * mean.square()) / max(count - 1, 1)).clamp_min(0).sqrt() / 255


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]

"""The options `train_size` and `test_size`: a stratified draw of a split, the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework import DataError
from ddm_framework.data import Origin, subset


def positions(labels: Tensor, size: int | None, option: str) -> Tensor:
    """Positions of the samples that a split keeps, sorted, int64 (size,).

    Args:
        labels: int64 (N,).
        size: how many samples to keep; None keeps all.
        option: the option of the recipe that sets it, for errors.
    Raises:
        DataError: if there are fewer samples than that.
    """
    if size is None:
        return torch.arange(len(labels))
    try:
        return subset(labels, size, seed=0)
    except DataError as error:
        raise DataError(f"`{option}: {size}`: {error}") from error


def drawn(pixels: Tensor, labels: Tensor, size: int | None, option: str) -> tuple[Tensor, Tensor, Origin]:
    """The samples that a split keeps, and their positions; the same tensors if it keeps all, as these may be larger
    than the memory.

    Args:
        pixels: (N, C, H, W), of any dtype.
        labels: int64 (N,).
        size: how many samples to keep; None keeps all.
        option: the option of the recipe that sets it, for errors.
    Raises:
        DataError: if there are fewer samples than that.
    """
    kept = positions(labels, size, option)
    origin = Origin(kept)
    return (pixels, labels, origin) if size is None else (pixels[kept], labels[kept], origin)

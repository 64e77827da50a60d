"""Corrupt part of the training data on purpose, by noise or wrong labels, to see whether it is found (Table 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddm_framework.data.images import BLOCK, Images, StoredImages
from ddm_framework.data.splits import DataInfo, DataSplits
from ddm_framework.randomness import generator
from ddm_framework.recipe import Corruption


@dataclass(frozen=True, slots=True)
class Corrupted:
    """Which training samples are corrupted.

    Attributes:
        noisy: bool (N,), those with noise on the image.
        relabelled: bool (N,), those with a wrong label; drawn independently of the noise.
    """

    noisy: Tensor
    relabelled: Tensor

    @property
    def samples(self) -> Tensor:
        """Corrupted in either way, bool (N,)."""
        return self.noisy | self.relabelled


def corrupted(settings: Corruption, count: int) -> Corrupted:
    """Which of `count` training samples a recipe corrupts; exact shares, rounded."""
    shares = {"noisy": settings.share, "labels": settings.labels}
    return Corrupted(*(_drawn(what, share, settings.seed, count) for what, share in shares.items()))


def corrupted_in(data: DataSplits, settings: Corruption) -> Corrupted:
    """Which samples of a loaded training split are corrupted; those that were dropped count no longer."""
    if data.kept is None:
        return corrupted(settings, len(data.train))
    found = corrupted(settings, data.kept.total)
    return Corrupted(found.noisy[data.kept.positions], found.relabelled[data.kept.positions])


def corrupt(data: DataSplits, settings: Corruption) -> DataSplits:
    """Corrupt the training split; validation, test and the normalisation stay those of the clean data.

    Noise has a Gaussian direction and a given norm, in units of pixels in [0, 1]; pixels are clipped to [0, 1]
    afterwards. Images stored as uint8 stay uint8: the training split is copied into memory, and noisy pixels are
    rounded to 1/255. A wrong label is any of the others with equal probability.

    Args:
        data: clean.
        settings: of the corruption; the default does nothing.
    Source: Table 6, Sec. 9.2.
    """
    found = corrupted(settings, len(data.train))
    images, labels = data.train.images, data.train.labels
    if found.noisy.any():
        images = _with_noise(images, found.noisy.nonzero()[:, 0], data.info, settings)
    if found.relabelled.any():
        labels = _with_wrong_labels(labels, found.relabelled, data.info.num_classes, settings)
    return replace(data, train=replace(data.train, images=images, labels=labels))


def _drawn(what: str, share: float, seed: int, count: int) -> Tensor:
    """An exact share of the samples, rounded, bool (N,)."""
    order = torch.randperm(count, generator=generator(seed, "corruption", what))
    return order < round(share * count)


def _with_noise(images: Images, rows: Tensor, info: DataInfo, settings: Corruption) -> Images:
    """A copy of the images in which those at the rows, int64 (M,), are noisy."""
    random = generator(settings.seed, "corruption", "noise")
    if isinstance(images, StoredImages):
        stored = torch.cat(list(images.stored()))
        for block in rows.split(BLOCK):
            pixels = stored[block].float() / 255
            stored[block] = (255 * _noisy(pixels, settings, random)).round().byte()
        return replace(images, pixels=stored, rows=torch.arange(len(stored)))
    images = images.clone()
    for block in rows.split(BLOCK):
        images[block] = info.normalise(_noisy(info.to_pixels(images[block]), settings, random))
    return images


def _noisy(pixels: Tensor, settings: Corruption, random: torch.Generator) -> Tensor:
    """Pixels (M, C, H, W) in [0, 1] plus noise, clipped."""
    noise = torch.randn(pixels.shape, generator=random)
    length = settings.noise * (math.sqrt(pixels[0].numel()) if settings.norm == "per_pixel" else 1)
    directions = noise / noise.square().sum((1, 2, 3), keepdim=True).sqrt()
    return (pixels + length * directions).clamp(0, 1)


def _with_wrong_labels(labels: Tensor, relabelled: Tensor, num_classes: int, settings: Corruption) -> Tensor:
    random = generator(settings.seed, "corruption", "wrong labels")
    shift = torch.randint(1, num_classes, labels.shape, generator=random)
    return torch.where(relabelled, (labels + shift) % num_classes, labels)

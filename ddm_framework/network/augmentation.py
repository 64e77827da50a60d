"""Standard augmentation, drawn per epoch and sample: deleting a sample does not change the others (Sec. 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Training

SIDE_SHARE = 8
"""An image is shifted by up to an eighth of its shorter side: 4 pixels of CIFAR's 32, 8 of TinyImageNet's 64."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What happens to each sample in one epoch.

    Attributes:
        shifts: int64 (N, 2), rows and columns by which the window of a crop is moved, from 0 to twice `padding`.
        flips: bool (N,), whether it is mirrored from left to right.
        padding: pixels added around the image before it is cropped, in the data set's mean colour.
    """

    shifts: Tensor
    flips: Tensor
    padding: int

    def __call__(self, images: Tensor, samples: Tensor) -> Tensor:
        """Network inputs (B, C, H, W) of these samples, int64 (B,), as they look in this epoch."""
        if self.padding:
            images = _cropped(images, self.shifts[samples], self.padding)
        return torch.where(self.flips[samples][:, None, None, None], images.flip(3), images)


def augmentations(
    settings: Training, shape: Sequence[int], seeds: Sequence[int], epoch: int, device: torch.device
) -> list[Augmentation]:
    """The augmentation of one epoch, for each seed; none if the recipe asks for none.

    Args:
        settings: `augmentation` lists `crop`, `flip`, both or neither.
        shape: (N, C, H, W) of the training images.
        seeds: of the batch order, one for all networks or one per network.
        epoch: from 0.
        device: of the images.
    """
    return [_drawn(settings, shape, seed, epoch, device) for seed in seeds] if settings.augmentation else []


def _drawn(settings: Training, shape: Sequence[int], seed: int, epoch: int, device: torch.device) -> Augmentation:
    random, count = generator(seed, "augmentation", epoch), shape[0]
    padding = max(1, min(shape[2:]) // SIDE_SHARE) if "crop" in settings.augmentation else 0
    shifts = torch.randint(2 * padding + 1, (count, 2), generator=random)
    flips = torch.rand(count, generator=random) < (0.5 if "flip" in settings.augmentation else 0.0)
    return Augmentation(shifts.to(device), flips.to(device), padding)


def augmented(images: Tensor, samples: Tensor, drawn: Sequence[Augmentation]) -> Tensor:
    """A batch as it looks in this epoch.

    Args:
        images: (B, C, H, W), the same for all networks, or (R, B, C, H, W).
        samples: their positions in the training split, int64 (B,) or (R, B).
        drawn: none, one for all networks, or one per network.
    """
    if not drawn:
        return images
    if images.ndim == 4:
        return drawn[0](images, samples)
    return torch.stack([each(*pair) for each, pair in zip(drawn, zip(images, samples, strict=True), strict=True)])


def _cropped(images: Tensor, shifts: Tensor, padding: int) -> Tensor:
    """Windows of the padded images, each at its own place."""
    height, width = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)  # images are normalised, so zero is the mean colour
    rows = shifts[:, :1] + torch.arange(height, device=images.device)
    columns = shifts[:, 1:] + torch.arange(width, device=images.device)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    # With a slice between index tensors, PyTorch puts the indexed dimensions first, so the channels are last.
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

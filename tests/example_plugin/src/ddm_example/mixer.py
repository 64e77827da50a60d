"""MLP-Mixer: perceptrons in turn over the patches of an image and over the channels of a patch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from ddm_framework import DataInfo, DDMError

Count = Annotated[int, Field(ge=1)]


def build(data: DataInfo, /, *, patch: Count = 2, width: Count = 32, hidden: Count = 64, depth: Count = 2) -> nn.Module:
    """Patches, `depth` mixing blocks, their mean, and one linear layer.

    Args:
        data: shape of an image and number of classes.
        patch: height and width of a patch; must divide those of an image.
        width: channels of a patch.
        hidden: width of the perceptrons within a block.
        depth: number of blocks.
    Returns:
        (B, C, H, W) -> logits (B, classes).
    Raises:
        DDMError: if patches do not fit the images.
    Source: Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, 2021.
    """
    channels, height, width_of_image = data.shape
    if height % patch or width_of_image % patch:
        raise DDMError(f"backbone mixer: `patch: {patch}` does not divide images of {height}x{width_of_image} pixels")
    num_patches = (height // patch) * (width_of_image // patch)
    return nn.Sequential(
        nn.Conv2d(channels, width, patch, stride=patch),
        nn.Flatten(2),
        *(Block(num_patches, width, hidden) for _ in range(depth)),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, data.num_classes),
    )


class Block(nn.Module):
    """Mixes patches, then channels: (B, width, patches) -> the same shape."""

    def __init__(self, num_patches: int, width: int, hidden: int) -> None:
        super().__init__()
        self.before_patches, self.before_channels = nn.LayerNorm(width), nn.LayerNorm(width)
        self.patches, self.channels = _perceptron(num_patches, hidden), _perceptron(width, hidden)

    def forward(self, values: Tensor) -> Tensor:
        """One step; layer norm looks at the channels of one patch."""
        values = values + self.patches(self.before_patches(values.mT).mT)
        return values + self.channels(self.before_channels(values.mT)).mT


def _perceptron(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

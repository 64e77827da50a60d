"""The AlexNet of dataset condensation: five convolutions with norms for small images, and one linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from ddm_backbones.initialisations import initialise
from ddm_backbones.norms import norm_maker
from ddm_framework import DDMError
from ddm_framework.data import DataInfo

SMALLEST = 8
"""Smallest side of an image, in pixels, for which the last norm still has a map of 2 x 2."""


def build(
    data: DataInfo,
    /,
    *,
    width: Annotated[int, Field(ge=2, multiple_of=2)] = 128,
    norm: Literal["instance", "group", "batch"] = "instance",
    groups: Annotated[int, Field(ge=1)] = 8,
    pooling: Literal["max", "average"] = "max",
    initialisation: Literal["default", "kaiming", "normal", "xavier"] = "default",
) -> nn.Module:
    """AlexNetIN: five blocks of convolution, norm and ReLU, three of them pooled by 2x2, then one linear layer.

    Images of 28 pixels are padded to 32 by the first convolution. Second derivatives take equally long with
    both kinds of pooling.

    Args:
        data: shape of an image and number of classes.
        width: channels of the first convolution; the others have 1.5, 2, 1.5 and 1.5 times as many.
        norm: `instance`, or `group`; `batch` is refused.
        groups: of group norm; must divide the channels of every layer.
        pooling: `max` as in the original, or `average`, whose gradients are matched more closely.
        initialisation: of the weights; `default` is PyTorch's.
    Returns:
        (B, C, H, W) -> logits (B, classes).
    Raises:
        DDMError: if the norm cannot work with one image, or the image is too small for the poolings.
    Source: Sec. 4.1, Table 5; Krizhevsky et al. 2012; Zhao et al., Dataset Condensation with Gradient Matching, 2021.
    """
    channels, *sides = data.shape
    if min(sides) < SMALLEST:
        raise DDMError(
            f"backbone alexnet: images of {sides[0]}x{sides[1]} pixels are too small for its three poolings; it takes"
            f" {SMALLEST}x{SMALLEST} and more; use `use: convnet` for smaller ones"
        )
    widths = (width, 3 * width // 2, 2 * width)
    make_norm = norm_maker("alexnet", norm, groups, widths)
    stem_padding = 4 if 28 <= min(sides) < 32 else 2
    pool = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
    bias = norm != "instance"
    num_features = widths[1] * math.prod((side + 2 * stem_padding - 4) // 8 for side in sides)
    network = nn.Sequential(
        *_block(channels, widths[0], make_norm, kernel=5, padding=stem_padding, bias=bias),
        pool(2),
        *_block(widths[0], widths[1], make_norm, kernel=5, padding=2, bias=bias),
        pool(2),
        *_block(widths[1], widths[2], make_norm, kernel=3, padding=1, bias=bias),
        *_block(widths[2], widths[1], make_norm, kernel=3, padding=1, bias=bias),
        *_block(widths[1], widths[1], make_norm, kernel=3, padding=1, bias=bias),
        pool(2),
        nn.Flatten(),
        nn.Linear(num_features, data.num_classes),
    )
    initialise(network, initialisation)
    return network


def _block(
    channels: int, width: int, make_norm: Callable[[int], nn.Module], *, kernel: int, padding: int, bias: bool
) -> tuple[nn.Module, ...]:
    # Instance norm removes a bias: its gradient would be rounding noise, which matching would try to reproduce.
    return nn.Conv2d(channels, width, kernel, padding=padding, bias=bias), make_norm(width), nn.ReLU()

"""The ConvNet of dataset condensation: equal blocks of convolution, norm, ReLU and pooling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from ddm_backbones.initialisations import initialise
from ddm_backbones.norms import norm_maker
from ddm_framework import DDMError
from ddm_framework.data import DataInfo


def build(
    data: DataInfo,
    /,
    *,
    width: Annotated[int, Field(ge=1)] = 128,
    depth: Annotated[int, Field(ge=1)] = 3,
    norm: Literal["instance", "group", "batch"] = "instance",
    groups: Annotated[int, Field(ge=1)] = 8,
    initialisation: Literal["default", "kaiming", "normal", "xavier"] = "default",
) -> nn.Module:
    """`depth` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then one linear layer.

    Args:
        data: shape of an image and number of classes.
        width: channels of each block.
        depth: number of blocks; each halves height and width.
        norm: `instance`, or `group`; `batch` is refused.
        groups: of group norm; must divide `width`.
        initialisation: of the weights; `default` is PyTorch's.
    Returns:
        (B, C, H, W) -> logits (B, classes).
    Raises:
        DDMError: if the norm cannot work with one image, or the image is too small for the depth.
    Source: Sec. 4.1, Table 5; Zhao et al., Dataset Condensation with Gradient Matching, 2021.
    """
    make_norm = norm_maker("convnet", norm, groups, [width])
    channels, *sides = data.shape
    deepest = min(sides).bit_length() - 1
    if depth > deepest:
        raise DDMError(
            f"backbone convnet: `depth: {depth}` halves images of {sides[0]}x{sides[1]} pixels until nothing is left to"
            f" normalise and pool; " + (f"take at most `depth: {deepest}`" if deepest else "they are too small for any")
        )
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            # Instance norm removes a bias: its gradient would be rounding noise, which matching would try to reproduce.
            nn.Conv2d(channels, width, 3, padding=1, bias=norm != "instance"),
            make_norm(width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        channels = width
    num_features = width * (sides[0] >> depth) * (sides[1] >> depth)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(num_features, data.num_classes))
    initialise(network, initialisation)
    return network

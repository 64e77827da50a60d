"""A small vision transformer of timm, with patches that fit small images."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from ddm_backbones.initialisations import initialise
from ddm_framework import DDMError
from ddm_framework.data import DataInfo

FEWEST_PATCHES = 7
"""Smallest number of patches along the shortest side if `build` chooses the patch size."""


def build(
    data: DataInfo,
    /,
    *,
    patch_size: Annotated[int, Field(ge=1)] | None = None,
    width: Annotated[int, Field(ge=1)] = 192,
    depth: Annotated[int, Field(ge=1, le=1000)] = 6,
    heads: Annotated[int, Field(ge=1)] = 3,
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0,
    pool: Literal["avg", "token"] = "avg",
    initialisation: Literal["default", "kaiming", "normal", "xavier"] = "default",
) -> nn.Module:
    """A pre-norm ViT with learned position embeddings, GELU and no dropout.

    Attention is not fused, since fused attention has no second derivative.

    Args:
        data: shape of an image and number of classes.
        patch_size: pixels along a side of a patch; must divide height and width. By default the largest that gives
            at least 7 patches per side: 4 for 28 and 32 pixels, 8 for 64.
        width: of a token's embedding.
        depth: number of transformer blocks.
        heads: of the attention; must divide `width`.
        mlp_ratio: width of the hidden layer of a block's perceptron, in multiples of `width`.
        pool: classify the mean of the patches (`avg`), or a class token (`token`).
        initialisation: of the weights; `default` is timm's.
    Returns:
        (B, C, H, W) -> logits (B, classes).
    Raises:
        DDMError: if the patches do not tile the image, or the heads do not divide the width.
    Source: Sec. 4.1, Table 5; Dosovitskiy et al. 2021.
    """
    # Imported here, so that checking a recipe does not wait for timm.
    from timm.models.vision_transformer import VisionTransformer

    from ddm_backbones.attention import unfuse_attention

    channels, rows, columns = data.shape
    if width % heads:
        raise DDMError(f"backbone vit: `width: {width}` cannot be divided into `heads: {heads}`")
    network: nn.Module = VisionTransformer(
        img_size=(rows, columns),
        patch_size=_patch_size(patch_size, [rows, columns]),
        in_chans=channels,
        num_classes=data.num_classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        global_pool=pool,
        class_token=pool == "token",
    )
    unfuse_attention(network)
    initialise(network, initialisation)
    return network


def _patch_size(wanted: int | None, sides: list[int]) -> int:
    """The side of a patch.

    Raises:
        DDMError: if it does not divide the image's sides.
    """
    common = math.gcd(*sides)
    fitting = [size for size in range(1, common + 1) if common % size == 0]
    if wanted is None:
        return max((size for size in fitting if size * FEWEST_PATCHES <= min(sides)), default=1)
    if wanted not in fitting:
        raise DDMError(
            f"backbone vit: patches of `patch_size: {wanted}` do not tile images of {sides[0]}x{sides[1]} pixels; take"
            f" one of {', '.join(map(str, fitting))}, or leave it out"
        )
    return wanted

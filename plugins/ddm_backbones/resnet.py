"""The ResNet of dataset condensation on timm: average pooling instead of strides, for small images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from ddm_backbones.initialisations import initialise
from ddm_backbones.norms import norm_maker
from ddm_framework import DDMError
from ddm_framework.data import DataInfo

MOST_STAGES = 4
RESNET18 = [2, 2, 2, 2]


def build(
    data: DataInfo,
    /,
    *,
    width: Annotated[int, Field(ge=2, multiple_of=2)] = 64,
    blocks: Annotated[
        list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1, max_length=MOST_STAGES)
    ] = RESNET18,
    norm: Literal["instance", "group", "batch"] = "instance",
    groups: Annotated[int, Field(ge=1)] = 8,
    initialisation: Literal["default", "kaiming", "normal", "xavier"] = "default",
) -> nn.Module:
    """ResNet18_AP: a 3x3 stem without pooling, then stages of basic blocks, each but the first halving the map.

    The linear layer takes the whole last map instead of its mean, because instance norm makes the mean uninformative.

    Args:
        data: shape of an image and number of classes.
        width: channels of the first stage; each further stage doubles them.
        blocks: number of basic blocks in each of at most four stages, at least two in total; [2, 2, 2, 2] is ResNet-18.
        norm: `instance`, or `group`; `batch` is refused.
        groups: of group norm; must divide `width`.
        initialisation: of the weights; `default` is timm's, Kaiming by fan out.
    Returns:
        (B, C, H, W) -> logits (B, classes).
    Raises:
        DDMError: if the norm cannot work with one image, the image is too small for the number of stages, or there is
            only one block.
    Source: Sec. 4.1, Table 5; He et al. 2016; Zhao et al., Dataset Condensation with Gradient Matching, 2021.
    """
    channels, *sides = data.shape
    widths = [width << stage for stage in range(len(blocks))]
    make_norm = norm_maker("resnet", norm, groups, widths)
    most = min(MOST_STAGES, min(sides).bit_length() - 1)
    if len(blocks) > most:
        raise DDMError(
            f"backbone resnet: the {len(blocks)} stages of `blocks: {blocks}` halve images of {sides[0]}x{sides[1]}"
            " pixels until nothing is left to normalise; "
            + (f"take at most {most}, as in `blocks: {[2] * most}`" if most else "they are too small for any")
        )
    if sum(blocks) < 2:
        raise DDMError(f"backbone resnet: `blocks: {blocks}` is only one block; take at least two, as in [2]")
    network: Any = _trunk(widths, blocks, make_norm)
    # The stem is replaced before timm initialises, so that it is drawn like the rest.
    network.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.init_weights(zero_init_last=False)
    rows, columns = (side >> len(blocks) - 1 for side in sides)
    network.global_pool = nn.Flatten()
    network.fc = nn.Linear(widths[-1] * rows * columns, data.num_classes)
    initialise(network, initialisation)
    finished: nn.Module = network
    return finished


def _trunk(widths: list[int], blocks: list[int], make_norm: Callable[..., nn.GroupNorm]) -> nn.Module:
    """timm's ResNet of these stages, before its stem and head are replaced."""
    # Imported here, so that checking a recipe does not wait for timm.
    from timm.models.resnet import BasicBlock, ResNet

    # Only with a deep stem does timm let the caller choose the stem's width.
    network: nn.Module = ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm's annotation says an instance, but it takes the class
        tuple(blocks),
        channels=tuple(widths),
        stem_type="deep",
        stem_width=widths[0] // 2,
        norm_layer=make_norm,
        aa_layer=nn.AvgPool2d,
        avg_down=True,
        # Blocks that are initialised to zero have no gradient to match at θ_0.
        zero_init_last=False,
    )
    for layer in network.modules():
        if isinstance(layer, nn.AvgPool2d):
            # timm rounds the size of the shortcut up and that of the block down, which differ if a side is odd.
            layer.ceil_mode = False
    for stage in range(len(widths), MOST_STAGES):
        setattr(network, f"layer{stage + 1}", nn.Identity())
    return network

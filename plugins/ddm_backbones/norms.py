"""The norms that work with one image: instance and group norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from ddm_framework import DDMError

Norm = Literal["instance", "group", "batch"]
"""`batch` is accepted only so that the error can say why it is refused."""


def norm_maker(backbone: str, norm: Norm, groups: int, widths: Sequence[int]) -> Callable[..., nn.GroupNorm]:
    """A function from a number of channels to a norm; further arguments are passed to `nn.GroupNorm`.

    Args:
        backbone: its name, for messages.
        norm: `instance` is one group per channel.
        groups: of group norm.
        widths: channels of the layers to normalise, that of the option `width` first.
    Raises:
        DDMError: if the norm cannot work with one image, or the groups do not divide a layer's channels.
    """
    if norm == "batch":
        raise DDMError(
            f"backbone {backbone}: `norm: batch` is refused, because a synset has one image per cluster and the"
            " statistics of a batch of one mean nothing; take `norm: instance` or `norm: group`"
        )
    uneven = [width for width in widths if width % groups]
    if norm == "group" and uneven:
        layer = f" makes layers of {uneven[0]} channels, which" if uneven[0] != widths[0] else ""
        raise DDMError(
            f"backbone {backbone}: `width: {widths[0]}`{layer} cannot be divided into `groups: {groups}`; take"
            f" another `width` or other `groups`"
        )

    def make(channels: int, **arguments: Any) -> nn.GroupNorm:
        return nn.GroupNorm(channels if norm == "instance" else groups, channels, **arguments)

    return make

"""One minus the cosine of two gradients, which compares their direction and ignores their length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ddm_framework import of_inner_products

_TINY = 1e-12


def from_products(
    inner: Tensor, synthetic: Tensor, target: Tensor, /, *, per: Literal["network", "tensor"] = "network"
) -> Tensor:
    """The distance as a function of inner products and squared lengths (T,), one of each parameter tensor."""
    if per == "network":
        inner, synthetic, target = (each.sum(0, keepdim=True) for each in (inner, synthetic, target))
    # Clamped before the root, whose derivative is infinite at zero.
    lengths = (synthetic * target).clamp_min(_TINY**2).sqrt()
    return (1 - inner / lengths).mean()


@of_inner_products(from_products)
def distance(
    synthetic: Mapping[str, Tensor], target: Mapping[str, Tensor], /, *, per: Literal["network", "tensor"] = "network"
) -> Tensor:
    """One minus the cosine of the angle between two gradients.

    Args:
        synthetic: gradient on synthetic images, one tensor per parameter.
        target: the (reversed) gradient on real images, of the same shapes.
        per: one cosine over the whole network, or the mean of the cosines of the parameter tensors.
    Returns:
        A scalar in [0, 2]; 1 where either gradient is zero.
    Source: Eq. 6.
    """
    pairs = [(synthetic[name], target[name]) for name in target]
    inner = torch.stack([(a * b).sum() for a, b in pairs])
    own, wanted = (torch.stack([each.square().sum() for each in side]) for side in zip(*pairs, strict=True))
    return from_products(inner, own, wanted, per=per)

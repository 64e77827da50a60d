"""One minus the cosine of two gradients, which compares their direction and ignores their length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

_TINY = 1e-12


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
    parts = [torch.stack([(a * b).sum(), a.square().sum(), b.square().sum()]) for a, b in _pairs(synthetic, target)]
    products = torch.stack(parts)
    if per == "network":
        products = products.sum(0, keepdim=True)
    # Clamped before the root, whose derivative is infinite at zero.
    lengths = (products[:, 1] * products[:, 2]).clamp_min(_TINY**2).sqrt()
    return (1 - products[:, 0] / lengths).mean()


def _pairs(synthetic: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(synthetic[name], target[name]) for name in target]

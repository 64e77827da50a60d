"""Mean squared difference of two gradients, which compares direction and length."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def distance(synthetic: Mapping[str, Tensor], target: Mapping[str, Tensor], /) -> Tensor:
    """Squared difference of two gradients, averaged over all weights of the network.

    Args:
        synthetic: gradient on synthetic images, one tensor per parameter.
        target: the (reversed) gradient on real images, of the same shapes.
    Returns:
        A scalar, at least 0.
    Source: Table 5 ("MSE", used with the ViT).
    """
    squared = torch.stack([(synthetic[name] - target[name]).square().sum() for name in target]).sum()
    return squared / sum(each.numel() for each in target.values())

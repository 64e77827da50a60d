"""Mean squared difference of two gradients, which compares direction and length."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def distance(synthetic: Mapping[str, Tensor], target: Mapping[str, Tensor], /, *, normalise: bool = True) -> Tensor:
    """Squared difference of two gradients, as a share of the target's squared length or as a mean over all weights.

    The mean over millions of weights has gradients below the 1e-8 that Adam adds to its denominator, and then the
    learning rate of the images loses its meaning.

    Args:
        synthetic: gradient on synthetic images, one tensor per parameter.
        target: the (reversed) gradient on real images, of the same shapes.
        normalise: divide by the squared length of the target, instead of by the number of weights.
    Returns:
        A scalar, at least 0; 1 for a synthetic gradient of zero if normalised.
    Source: Table 5 ("MSE", used with the ViT).
    """
    squared = torch.stack([(synthetic[name] - target[name]).square().sum() for name in target]).sum()
    if not normalise:
        return squared / sum(each.numel() for each in target.values())
    length = torch.stack([each.square().sum() for each in target.values()]).sum()
    return squared / length.clamp_min(torch.finfo(length.dtype).tiny)

"""Initial weights by name, the same for every backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Initialisation = Literal["default", "kaiming", "normal", "xavier"]
"""`default` is the initialisation of the architecture itself."""

NORMAL_STD = 0.02
"""Standard deviation of `normal`, whatever the size of a layer."""

_DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "kaiming": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "normal": lambda weight: nn.init.normal_(weight, std=NORMAL_STD),
    "xavier": nn.init.xavier_normal_,
}


def initialise(network: nn.Module, initialisation: Initialisation) -> None:
    """Draw new weights of convolutions and linear layers, in place, and set their biases to zero.

    All distributions are normal with mean zero. The standard deviation is √(2 / fan_in) for `kaiming`, 0.02 for
    `normal` and √(2 / (fan_in + fan_out)) for `xavier`. Norms, position embeddings and class tokens stay as they are.

    Args:
        network: its layers are drawn in their order, from the global generator.
        initialisation: `default` changes and draws nothing.
    Source: Sec. 8.4, Fig. 8; He et al. 2015, Glorot and Bengio 2010.
    """
    if initialisation == "default":
        return
    for layer in network.modules():
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            _DRAWS[initialisation](layer.weight)
            if layer.bias is not None:
                with torch.no_grad():
                    layer.bias.zero_()

"""Per-sample gradients with respect to all weights, in chunks that fit the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.func import grad, vmap

from ddm_framework.network import SAMPLE_GRADIENT, Budget, Network, Parameters, flat

Scalar = Callable[[Parameters, Tensor, Tensor], Tensor]
"""(parameters, one image (C, H, W), something about it) -> one number."""


def loss_of(network: Network) -> Scalar:
    """Cross entropy of one image and its class id."""

    def loss(parameters: Parameters, image: Tensor, label: Tensor) -> Tensor:
        return network.loss(parameters, image[None], label[None])[0]

    return loss


def behaviour_of(network: Network) -> Scalar:
    """Inner product of the logits of one image with its slope (classes,), whose gradient is that of the behaviour."""

    def behaviour(parameters: Parameters, image: Tensor, slope: Tensor) -> Tensor:
        return (network(parameters, image[None])[0] * slope).sum()

    return behaviour


def gradients(
    function: Scalar, network: Network, parameters: Parameters, images: Tensor, others: Tensor, budget: Budget
) -> Iterator[Tensor]:
    """Gradient of a function at each sample.

    Args:
        function: of the parameters and of one sample.
        network: that it calls, for sizing the chunks.
        parameters: at which it is differentiated.
        images: (N, C, H, W).
        others: the function's third argument of each sample, (N, ...).
        budget: bounds the memory of a chunk.
    Yields:
        (n, weights), in order, N rows in all.
    """
    size = budget.fitting(network, SAMPLE_GRADIENT)
    each = vmap(grad(function), in_dims=(None, 0, 0))
    for some_images, some_others in zip(images.split(size), others.split(size), strict=True):
        yield flat(each(parameters, some_images, some_others)).detach()

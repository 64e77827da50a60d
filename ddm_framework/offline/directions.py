"""The direction in which the synthetic gradient of each cluster should move: the derivative of a distance."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from ddm_framework.network.stacks import Gradient
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.declarations import formula_of

Distance = Callable[[Gradient, Gradient], Tensor]
"""Dist of Eq. 6: (synthetic gradient, target gradient) -> scalar."""


def distance_gradients(distance: Distance, synthetic: Gradient, target: Gradient) -> Gradient:
    """∂Dist(g_k, t_k) / ∂g_k of each of K clusters, stacked (K, ...).

    A distance that is a formula of inner products (`of_inner_products`) is not differentiated through the gradients.
    """
    formula = formula_of(distance.target if isinstance(distance, Choice) else distance)
    if formula is None:
        found: Gradient = vmap(grad(distance))(synthetic, target)
        return found
    options = distance.options if isinstance(distance, Choice) else {}
    names = list(target)
    products = [
        torch.stack([torch.linalg.vecdot(a[name].flatten(1), b[name].flatten(1)) for name in names], 1)
        for a, b in ((synthetic, target), (synthetic, synthetic), (target, target))
    ]
    slopes = grad(functools.partial(formula, **options), argnums=(0, 1))
    by_inner, by_square = vmap(slopes)(*products)
    found = {}
    for index, name in enumerate(names):
        shape = (-1, *[1] * (target[name].ndim - 1))
        along, own = by_inner[:, index].view(shape), 2 * by_square[:, index].view(shape)
        found[name] = (target[name] * along).addcmul_(synthetic[name], own)
    return found

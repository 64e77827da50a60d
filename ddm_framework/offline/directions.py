"""The direction in which the synthetic gradient of each cluster should move: the derivative of a distance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

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
        leaves = {name: each.detach().requires_grad_() for name, each in synthetic.items()}
        slopes = _slopes(distance, (leaves, target), tuple(leaves.values()))
        return dict(zip(leaves, slopes, strict=True))
    options = distance.options if isinstance(distance, Choice) else {}
    names = list(target)
    products = [
        torch.stack([torch.linalg.vecdot(_rows(a[name]), _rows(b[name])) for name in names], 1)
        for a, b in ((synthetic, target), (synthetic, synthetic), (target, target))
    ]
    by_inner, by_square, _ = _slopes(
        functools.partial(formula, **options), products, [each.requires_grad_() for each in products]
    )
    found = {}
    for index, name in enumerate(names):
        shape = (-1, *[1] * (target[name].ndim - 1))
        along, own = by_inner[:, index].view(shape), 2 * by_square[:, index].view(shape)
        found[name] = (target[name] * along).addcmul_(synthetic[name], own)
    return found


def _slopes(function: Callable[..., Tensor], arguments: Sequence[Any], leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Derivatives of a function of each of K arguments; `torch.func.grad` would import PyTorch's compiler."""
    with torch.enable_grad():
        return torch.autograd.grad(vmap(function)(*arguments).sum(), leaves, materialize_grads=True)


def _rows(each: Tensor) -> Tensor:
    """One row for each cluster, of a parameter of any shape."""
    return each.reshape(len(each), -1)

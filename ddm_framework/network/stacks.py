"""Stacks of parameters or gradients: one tensor per parameter, with a leading dimension R for R networks."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
"""One tensor per parameter, by name; in a stack of R networks, each has a leading dimension R."""


Gradient = Parameters
"""A gradient has the shapes of the parameters."""


def num_weights(parameters: Parameters) -> int:
    """Number of weights of one network."""
    return sum(each.numel() for each in parameters.values())


def broadcast(parameters: Parameters, count: int) -> Parameters:
    """A stack of `count` copies of one network."""
    return {name: each.expand(count, *each.shape).clone() for name, each in parameters.items()}


def take(stack: Parameters, index: int | Tensor | slice) -> Parameters:
    """One network of a stack, or several as a stack."""
    return {name: each[index] for name, each in stack.items()}


def joined(networks: Sequence[Parameters], constants: Mapping[str, Tensor]) -> Parameters:
    """Networks as a stack; where some have constants of their own, the others have the common ones."""
    names = list(dict.fromkeys(name for each in networks for name in each))
    return {name: torch.stack([each[name] if name in each else constants[name] for each in networks]) for name in names}


def concatenate(stacks: Iterable[Parameters]) -> Parameters:
    """Stacks joined into one."""
    listed = list(stacks)
    if len(listed) == 1:
        return listed[0]
    return {name: torch.cat([stack[name] for stack in listed]) for name in listed[0]}


def flat(stack: Parameters) -> Tensor:
    """(R, weights) of a stack of R networks or gradients."""
    return torch.cat([each.flatten(1) for each in stack.values()], 1)


def norms(stack: Parameters) -> Tensor:
    """Euclidean norm (R,) of each network or gradient of a stack."""
    # One after the other: a reduction over parameters would round by the number of networks.
    squares = [each.flatten(1).square().sum(1) for each in stack.values()]
    return functools.reduce(torch.add, squares).sqrt()


def scaled(stack: Parameters, factors: Tensor) -> Parameters:
    """Each network or gradient of a stack times its factor (R,)."""
    return {name: each * factors.view(-1, *[1] * (each.ndim - 1)) for name, each in stack.items()}


def unit(stack: Parameters) -> Parameters:
    """Each gradient of a stack at length one; zero stays zero."""
    return scaled(stack, 1 / norms(stack).clamp_min(torch.finfo(torch.float32).tiny))


def negative(gradient: Gradient) -> Gradient:
    """The reverse of a gradient."""
    return {name: -each for name, each in gradient.items()}


def is_finite(parameters: Parameters) -> bool:
    """Whether no weight is NaN or infinite."""
    # One question to the device, which would be waited for at each.
    return bool(torch.stack([torch.isfinite(each).all() for each in parameters.values()]).all())

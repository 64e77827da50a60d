"""Distances between the weights of networks, over all weights and by layer; they need no images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ddm_framework.network import Parameters
from ddm_framework.truth import displacement_cosine

WHOLE = "all weights"


def layers(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of parameters by module, `features.0` for `features.0.weight`; the first entry has all of them."""
    listed = list(names)
    found: dict[str, list[str]] = {WHOLE: listed}
    for name in listed:
        found.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return found


def distances(stack: Parameters, origin: Parameters) -> dict[str, Tensor]:
    """‖θ_r − θ‖, the Euclidean distance of each of R networks from one network.

    Args:
        stack: R networks.
        origin: one network, such as the target.
    Returns:
        float64 (R,), over all weights and by layer, on the CPU.
    Source: Sec. 9.4, "the distance function defined between networks".
    """
    moved = displacements(stack, origin)
    return {layer: _flat(moved, names).norm(dim=1) for layer, names in layers(moved).items()}


def cosines(
    stack: Parameters, other: Parameters, origin: Parameters, other_origin: Parameters | None = None
) -> dict[str, Tensor]:
    """Cosine between the displacements of two stacks of R networks, network by network.

    Args:
        stack: R networks.
        other: R networks.
        origin: the network from which displacements of `stack` are measured.
        other_origin: the same for `other`; by default `origin`.
    Returns:
        float64 (R,) in [-1, 1], over all weights and by layer; 0 where a network did not move.
    Source: Sec. 9.4; Eq. 1.
    """
    one, two = displacements(stack, origin), displacements(other, origin if other_origin is None else other_origin)
    return {layer: displacement_cosine(_flat(one, names), _flat(two, names)) for layer, names in layers(one).items()}


def displacements(stack: Parameters, origin: Parameters) -> Parameters:
    """Each network of a stack minus one network."""
    return {name: each - origin[name] for name, each in stack.items()}


def _flat(stack: Parameters, names: Iterable[str]) -> Tensor:
    """The named weights of a stack, float64 (R, weights), on the CPU."""
    return torch.cat([stack[name].flatten(1).double().cpu() for name in names], 1)

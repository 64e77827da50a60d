"""A network as a pure function of its parameters, and stacks of such parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ddm_framework.data import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.grouped import Stacked, grouped
from ddm_framework.images import Images
from ddm_framework.randomness import derive_seed

Parameters = dict[str, Tensor]
"""One tensor a parameter by name; of a stack of R networks, each with a leading dimension R."""

Gradient = Parameters
"""A gradient has the shapes of the parameters."""

QUERY_BATCH = 128
"""Queries that a chunk of networks is evaluated on at a time."""


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture: `network(parameters, images) -> logits`, without state of its own.

    Attributes:
        module: in evaluation mode; its own parameters are never used.
        info: the data it takes.
        activation_values: numbers that one forward pass of one image leaves behind, for sizing chunks.
        buffers: constants of the module.
        grouped: the module for a stack of parameters, where it is of a form that needs no vmap for it.
    """

    module: nn.Module
    info: DataInfo
    activation_values: int
    buffers: dict[str, Tensor] = field(default_factory=dict)
    grouped: Stacked | None = None

    def __call__(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        logits: Tensor = functional_call(self.module, (parameters, self.buffers), (images,))
        return logits

    def loss(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy (B,) of each image; labels are class ids (B,) or probabilities (B, classes)."""
        return F.cross_entropy(self(parameters, images), labels, reduction="none")

    def stacked(self, stack: Parameters, images: Tensor) -> Tensor:
        """Logits (R, B, classes) of a stack of R networks.

        Args:
            stack: R networks.
            images: (B, C, H, W) that all are given, or (R, B, C, H, W), to each its own.
        """
        if self.grouped is not None:
            return self.grouped(stack, images)
        logits: Tensor = vmap(self, in_dims=(0, None if images.ndim == 4 else 0))(stack, images)
        return logits

    def logits(self, stack: Parameters, images: Images, batch_size: int = QUERY_BATCH) -> Tensor:
        """Logits (R, N, classes) of a stack of R networks on the same images (N, C, H, W)."""
        with torch.no_grad():
            return torch.cat([self.stacked(stack, batch) for batch in images.split(batch_size)], 1)

    def logits_of(self, parameters: Parameters, images: Images) -> Tensor:
        """Logits (N, classes) of one network, with the roundings that it has in a stack."""
        return self.logits(broadcast(parameters, 2), images)[0]

    def gradients(self, stack: Parameters, images: Tensor, labels: Tensor, weights: Tensor) -> Gradient:
        """∇ Σ_b w_rb ℓ(θ_r, x_b) of each of R networks, stacked; ℓ is the cross entropy.

        Args:
            stack: R networks.
            images: (B, C, H, W) that all are given, or (R, B, C, H, W).
            labels: class ids (B,) or (R, B), or probabilities (B, classes) or (R, B, classes).
            weights: (R, B).
        """
        # The networks do not meet, so the gradient of the sum of their losses holds the gradient of each. Autograd
        # around the batch, and not within it, takes the kernels that need not be differentiated once more.
        leaves = {name: each.detach().requires_grad_() for name, each in stack.items()}
        logits = self.stacked(leaves, images).flatten(0, 1)
        own = labels.ndim == (3 if labels.is_floating_point() else 2)
        labels = labels.flatten(0, 1) if own else labels.repeat(len(weights), *[1] * (labels.ndim - 1))
        losses = F.cross_entropy(logits, labels, reduction="none")
        total = (losses * weights.flatten()).sum()
        found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True))


def build_network(
    build: Callable[[DataInfo], nn.Module], info: DataInfo, seed: int, device: torch.device
) -> tuple[Network, Parameters]:
    """Build a backbone and its initial parameters θ_0 without touching the global random state.

    Raises:
        DDMError: if the module mixes samples in batch statistics, or its logits do not fit the data.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        module = build(info).eval().to(device)
    _refuse_batch_norm(module)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    sample = torch.zeros(1, *info.shape, device=device)
    values, logits = _count_activations(module, sample)
    if logits.shape != (1, info.num_classes):
        raise DDMError(
            f"the backbone returns shape {tuple(logits.shape)} for one image; "
            f"it must return logits (1, {info.num_classes})"
        )
    buffers = {name: buffer.detach() for name, buffer in module.named_buffers()}
    initial = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    return Network(module, info, values, buffers, None if buffers else grouped(module)), initial


def _refuse_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise DDMError(
                f"the backbone has batch norm at {name!r}: it mixes the samples of a batch, and the statistics of one "
                "synthetic image mean nothing; use instance, group or layer norm"
            )


def _count_activations(module: nn.Module, sample: Tensor) -> tuple[int, Tensor]:
    """Number of values that the modules without children output for one sample, and the module's own output."""
    counts = [sample.numel()]

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            counts.append(output.numel())

    hooks = [child.register_forward_hook(count) for child in module.modules() if not list(child.children())]
    try:
        with torch.no_grad():
            output = module(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts), output


def num_weights(parameters: Parameters) -> int:
    """Number of weights of one network."""
    return sum(each.numel() for each in parameters.values())


def broadcast(parameters: Parameters, count: int) -> Parameters:
    """A stack of `count` copies of one network."""
    return {name: each.expand(count, *each.shape).clone() for name, each in parameters.items()}


def take(stack: Parameters, index: int | Tensor | slice) -> Parameters:
    """One network of a stack, or several as a stack."""
    return {name: each[index] for name, each in stack.items()}


def concatenate(stacks: Iterable[Parameters]) -> Parameters:
    """Stacks joined into one."""
    listed = list(stacks)
    return {name: torch.cat([stack[name] for stack in listed]) for name in listed[0]}


def flat(stack: Parameters) -> Tensor:
    """(R, weights) of a stack of R networks or gradients."""
    return torch.cat([each.flatten(1) for each in stack.values()], 1)


def norms(stack: Parameters) -> Tensor:
    """Euclidean norm (R,) of each network or gradient of a stack."""
    return torch.stack([each.flatten(1).square().sum(1) for each in stack.values()]).sum(0).sqrt()


def scaled(stack: Parameters, factors: Tensor) -> Parameters:
    """Each network or gradient of a stack times its factor (R,)."""
    return {name: each * factors.view(-1, *[1] * (each.ndim - 1)) for name, each in stack.items()}


def negative(gradient: Gradient) -> Gradient:
    """The reverse of a gradient."""
    return {name: -each for name, each in gradient.items()}


def is_finite(parameters: Parameters) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(torch.isfinite(each).all()) for each in parameters.values())


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices of nearly equal length, never of one where there are two, and else at most `size` (an odd total in twos
    has one slice of three).

    A chunk of one network runs other kernels than a chunk of many and rounds differently; that alone would show as
    an effect of the deletion.
    """
    count = math.ceil(total / max(size, 2))
    if total >= 2:
        count = min(count, total // 2)
    edges = [round(index * total / count) for index in range(count + 1)] if count else []
    yield from (slice(low, high) for low, high in itertools.pairwise(edges))


def chunk_size(memory_mb: int, values_each: int, most: int = 64) -> int:
    """How many items of so many float32 values fit the memory, between 1 and `most` (beyond it nothing is gained)."""
    return max(1, min(most, memory_mb * 2**20 // (4 * max(values_each, 1))))


def network_chunks(network: Network, total: int, memory_mb: int) -> list[slice]:
    """Networks that are fine-tuned and evaluated at a time."""
    weights = num_weights(dict(network.module.named_parameters()))
    return list(chunks(total, chunk_size(memory_mb, 6 * weights + 4 * QUERY_BATCH * network.activation_values)))

"""A network as a pure function of its parameters, and stacks of such parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ddm_framework.data.images import Images
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.allocating import Watched, check_stateless, named, naming
from ddm_framework.network.constants import (
    Constants,
    aliases,
    batch_norms,
    refuse_mixing_norms,
    some,
    trained_names,
)
from ddm_framework.network.grouped import LEAST_WITH_OWN_IMAGES, Stacked, grouped
from ddm_framework.network.kernels import DEFAULT, Kernels
from ddm_framework.network.outputs import PLAIN, Output
from ddm_framework.network.stacks import Gradient, Parameters, broadcast, concatenate, num_weights, take
from ddm_framework.network.trying import tried
from ddm_framework.randomness import derive_seed

LARGE = 2**20
"""Activations of one image, a few megabytes, from which a network fills a processor alone."""
QUERY_BATCH = 128
"""Number of queries that a chunk of networks is evaluated on at a time, of a network that is not very large."""
QUERY_VALUES = 2**28
"""Activations, 1 GiB of them, that all queries of a time have at most; a photograph has some tens of millions."""


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture: `network(parameters, images) -> logits`, without state of its own.

    Attributes:
        module: in evaluation mode; its own parameters are never used.
        info: the data it takes.
        activation_values: number of activations of one forward pass of one image, for sizing chunks.
        buffers: constants of the module: its buffers, and the weights that are not trained. Networks that were trained
            in a way of their own bring theirs among their parameters, which go before these.
        grouped: a function of a stack of parameters without vmap; None if the module's layers do not allow it.
        output: how logits are read from what the module returns.
        kernels: what the module is computed by.
        alone: why PyTorch cannot compute a stack of such networks at once, so that they are computed one at a time;
            empty if it can.
        notes: what is to be told of how the module was understood, a sentence or two each.
        smoothing: share of a label that the loss spreads over all classes, where labels are class ids.
        still_values: how many of the activations come before the first weights that are trained.
    """

    module: nn.Module
    info: DataInfo
    activation_values: int
    buffers: dict[str, Tensor] = field(default_factory=dict)
    grouped: Stacked | None = None
    output: Output = PLAIN
    kernels: Kernels = DEFAULT
    alone: str = ""
    notes: tuple[str, ...] = ()
    still_values: int = 0
    smoothing: float = 0.0

    @property
    def trained(self) -> list[str]:
        """Names of the parameters that are trained; the others are constants."""
        return [name for name, _ in self.module.named_parameters() if name not in self.buffers]

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return next((each.device for each in self.module.parameters()), torch.device("cpu"))

    @property
    def is_plain(self) -> bool:
        """Whether the module itself returns logits, by the kernels that PyTorch chooses."""
        return self.output == PLAIN and self.kernels == DEFAULT

    @property
    def is_large(self) -> bool:
        """Whether one image is work enough, so that networks side by side under a vmap cost more than they gain."""
        return self.grouped is None and self.activation_values > LARGE

    @property
    def num_weights(self) -> int:
        """Number of weights that are trained."""
        return num_weights({name: each for name, each in self.module.named_parameters() if name not in self.buffers})

    def with_constants(self, own: Constants) -> Network:
        """The same architecture with some other constants, as another checkpoint has them."""
        return replace(self, buffers={**self.buffers, **own}) if own else self

    def __call__(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        return self.output(self.run(parameters, images))

    def run(self, parameters: Parameters, images: Tensor, module: nn.Module | None = None) -> Any:
        """What the module itself returns.

        Args:
            parameters: that are trained, or stand-ins of theirs.
            images: (B, C, H, W).
            module: a copy of the module with other layers.
        """
        with self.kernels.chosen():
            return functional_call(module or self.module, {**self.buffers, **parameters}, (images,))

    def loss(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy (B,) of each image; labels are class ids (B,) or probabilities (B, classes)."""
        return self._entropy(self(parameters, images), labels)

    def _entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        share = 0.0 if labels.is_floating_point() else self.smoothing
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=share)

    def stacked(self, stack: Parameters, images: Tensor) -> Tensor:
        """Logits (R, B, classes) of a stack of R networks.

        Args:
            stack: R networks.
            images: (B, C, H, W), the same for all, or (R, B, C, H, W), one batch per network.
        """
        count = len(next(iter(stack.values())))
        if self.alone:
            seen = [images] * count if images.ndim == 4 else images
            return torch.stack([self(take(stack, row), each) for row, each in enumerate(seen)])
        if more := self.padded_size(count, shared=images.ndim == 4) - count:
            stack = {name: _padded(each, more) for name, each in stack.items()}
            images = images if images.ndim == 4 else _padded(images, more)
        if self.grouped is not None:
            return self.grouped(stack, images, self.buffers)[:count]
        logits: Tensor = vmap(self, in_dims=(0, None if images.ndim == 4 else 0))(stack, images)
        return logits[:count]

    def padded_size(self, count: int, *, shared: bool) -> int:
        """Number of networks that are computed in the place of `count`, so that every stack has the same rounding.

        A small stack runs other kernels than a large one, and with images of their own an odd stack others than an
        even one. Both would look like effects of a deletion. With the sizes that are left, one thread of a processor
        gives the same bits whatever the stack; elsewhere a stack needs a control (`controlled_logits`).

        Args:
            count: R.
            shared: whether all networks see the same images.
        """
        if shared:
            return max(count, 2)
        return max(count + count % 2, LEAST_WITH_OWN_IMAGES) if self.grouped is not None else max(count, 4)

    @property
    def query_batch(self) -> int:
        """Number of queries that a chunk of these networks is evaluated on at a time."""
        return max(1, min(QUERY_BATCH, QUERY_VALUES // max(self.activation_values, 1)))

    def logits(self, stack: Parameters, images: Images, batch_size: int | None = None) -> Tensor:
        """Logits (R, N, classes) of a stack of R networks on the same images (N, C, H, W)."""
        with torch.no_grad():
            return torch.cat([self.stacked(stack, batch) for batch in images.split(batch_size or self.query_batch)], 1)

    def logits_of(self, parameters: Parameters, images: Images) -> Tensor:
        """Logits (N, classes) of one network, with the same rounding as in a stack."""
        return self.logits(broadcast(parameters, 1), images)[0]

    def controlled_logits(self, stack: Parameters, target: Parameters, images: Images) -> Tensor:
        """Logits (R, N, classes) of R networks, less what the rounding of their stack does to θ_τ.

        On a GPU, or with several threads, rounding depends on the size of a stack. θ_τ in the same stack shows by how
        much, so that a network that is equal to θ_τ has exactly its logits, and effects are differences from it.
        """
        own = {name: self.buffers[name] for name in stack if name not in target}
        found = self.logits(concatenate([stack, broadcast({**target, **own}, 1)]), images)
        return found[:-1] - found[-1:] + self.logits_of(target, images)

    def gradients(self, stack: Parameters, images: Tensor, labels: Tensor, weights: Tensor) -> Gradient:
        """∇ Σ_b w_rb ℓ(θ_r, x_b) of each of R networks, stacked; ℓ is the cross entropy.

        Args:
            stack: R networks.
            images: (B, C, H, W), the same for all, or (R, B, C, H, W).
            labels: class ids (B,) or (R, B), or probabilities (B, classes) or (R, B, classes).
            weights: (R, B).
        """
        # The networks are independent, so the gradient of the sum of their losses contains the gradient of each. This
        # one call of autograd may use kernels that have no second derivative, which a derivative inside vmap cannot.
        leaves = {name: each.detach().requires_grad_() for name, each in stack.items()}
        logits = self.stacked(leaves, images).flatten(0, 1)
        own = labels.ndim == (3 if labels.is_floating_point() else 2)
        labels = labels.flatten(0, 1) if own else labels.repeat(len(weights), *[1] * (labels.ndim - 1))
        losses = self._entropy(logits, labels)
        total = (losses * weights.flatten()).sum()
        found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    def gradient(self, parameters: Parameters, images: Tensor, labels: Tensor, weights: Tensor) -> Gradient:
        """∇ Σ_b w_b ℓ(θ, x_b) of one network, as it is computed alone; shapes as `gradients` without R."""
        leaves = {name: each.detach().requires_grad_() for name, each in parameters.items()}
        total = (self.loss(leaves, images, labels) * weights).sum()
        found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True))


class LogitsModule(nn.Module):
    """A module with its output read as logits."""

    def __init__(self, network: nn.Module, output: Output, kernels: Kernels) -> None:
        super().__init__()
        self.network, self.output, self.kernels = network, output, kernels

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        with self.kernels.chosen():
            return self.output(self.network(images))


def _padded(values: Tensor, more: int) -> Tensor:
    """A stack with its last entry repeated."""
    return torch.cat([values, values[-1:].expand(more, *values.shape[1:])])


def build_network(
    build: Callable[[DataInfo], nn.Module],
    info: DataInfo,
    seed: int,
    device: torch.device,
    *,
    parameters: Sequence[str] | None = None,
    brought: bool = False,
) -> tuple[Network, Parameters]:
    """Build a backbone and its initial parameters θ_0; the global random state stays as it was.

    Args:
        build: of the backbone.
        info: the data that it takes.
        seed: of its initial weights.
        device: where it is computed.
        parameters: patterns of the names that are trained; by default `requires_grad` decides.
        brought: whether it was trained elsewhere, so that statistics of batch norm come with its checkpoint.
    Returns:
        The network, and θ_0 of the parameters that are trained.
    Raises:
        DDMError: if the module mixes samples, draws random numbers, fails on an image, or its output does not fit the
            data.
    """
    module = _built(build, info, seed, device)
    notes = _in_float32(module)
    refuse_mixing_norms(module, brought=brought)
    trained = trained_names(module, parameters)
    notes += _constant_notes(module, trained)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with naming(build):
        found = tried(module, info, device, trained=trained, mixing=brought)
        check_stateless(module, found.images, found.output, named(build))
    buffers = {name: buffer.detach() for name, buffer in module.named_buffers()}
    weights = {name: each.detach() for name, each in module.named_parameters()}
    buffers |= {name: each for name, each in weights.items() if name not in trained}
    initial = {name: weights[name].clone() for name in trained}
    network = Network(
        module, info, found.activation_values, buffers, grouped(module, trained), found.output, found.kernels
    )
    if brought and trained:
        _refuse_cut_off(network, initial, found.images[:1])
    alone = "" if network.grouped is not None or not trained else _refused_by_vmap(network, initial, found.images)
    if alone:
        notes.append(
            "PyTorch cannot compute several networks of this kind at once, so they are computed one at a time, which"
            f" takes longer ({alone})."
        )
    told = (*notes, *found.notes)
    return replace(network, alone=alone, notes=told, still_values=found.still_values), initial


def _built(build: Callable[[DataInfo], nn.Module], info: DataInfo, seed: int, device: torch.device) -> nn.Module:
    """The module that a backbone builds from a seed, in evaluation mode."""
    with torch.random.fork_rng(devices=[]), naming(build):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        with Watched():
            module = build(info).eval()
        return module.to(device)


def initial_weights(
    network: Network, build: Callable[[DataInfo], nn.Module], seed: int, device: torch.device
) -> Parameters:
    """θ_0 from another seed, of a backbone that was built and tried before.

    Args:
        network: what it was built to.
        build: of the backbone.
        seed: of the initial weights.
        device: where they are.
    """
    module = _built(build, network.info, seed, device)
    _in_float32(module)
    weights = dict(module.named_parameters())
    return {name: weights[name].detach() for name in network.trained}


def _in_float32(module: nn.Module) -> list[str]:
    """Turn the weights of another precision into float32, and say so."""
    tensors = [*module.parameters(), *module.buffers()]
    others = {each.dtype for each in tensors if each.is_floating_point() and each.dtype != torch.float32}
    if not others:
        return []
    module.float()
    named = ", ".join(sorted(str(each).removeprefix("torch.") for each in others))
    return [f"The module holds {named}; it is computed in float32."]


def _constant_notes(module: nn.Module, trained: Sequence[str]) -> list[str]:
    """What to tell of batch norm, of frozen and of shared weights."""
    notes = []
    if norms := batch_norms(module):
        notes.append(
            f"Batch norm ({some(norms, 1)}) is taken as in evaluation mode, a constant scale and shift by the"
            " statistics that it holds; each checkpoint keeps its own."
        )
    sizes = {name: each.numel() for name, each in module.named_parameters()}
    if frozen := [name for name in sizes if name not in trained]:
        share = sum(sizes[name] for name in trained) / sum(sizes.values())
        notes.append(
            f"{len(trained)} of {len(sizes)} parameters ({share:.1%} of the weights) are trained, matched, attributed"
            f" and moved: {some(trained)}. The others are constants ({some(frozen, 1)})."
        )
    if shared := [f"{other} is {first}" for other, first in aliases(module).items() if first in sizes]:
        notes.append(f"Shared weights count once, with the sum of their gradients: {some(shared)}.")
    return notes


def _refuse_cut_off(network: Network, initial: Parameters, images: Tensor) -> None:
    leaves = {name: each.detach().requires_grad_() for name, each in initial.items()}
    if not network(leaves, images).requires_grad:
        raise DDMError(
            "the backbone's forward passes no gradients on to the weights that are trained (torch.no_grad,"
            " inference_mode, .detach() or numpy on the way to the logits), so there is nothing to match; take it away"
        )


def _refused_by_vmap(network: Network, initial: Parameters, images: Tensor) -> str:
    """Why a stack of two networks, each with images of its own, cannot be computed at once; empty if it can."""
    stack = {name: each.expand(2, *each.shape) for name, each in initial.items()}
    try:
        with torch.no_grad():
            vmap(network)(stack, torch.stack([images, images.flip(0)]))
    except Exception as error:  # its layers can raise anything
        return " ".join(str(error).split())[:120] or type(error).__name__
    return ""

"""A network as a pure function of its parameters, and stacks of such parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ddm_framework.data.images import Images
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.allocating import Watched, check_stateless, named, naming
from ddm_framework.network.grouped import LEAST_WITH_OWN_IMAGES, Stacked, grouped
from ddm_framework.network.stacks import Gradient, Parameters, broadcast, concatenate, num_weights
from ddm_framework.randomness import derive_seed

QUERY_BATCH = 128
"""Number of queries that a chunk of networks is evaluated on at a time."""


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture: `network(parameters, images) -> logits`, without state of its own.

    Attributes:
        module: in evaluation mode; its own parameters are never used.
        info: the data it takes.
        activation_values: number of activations of one forward pass of one image, for sizing chunks.
        buffers: constants of the module.
        grouped: a function of a stack of parameters without vmap; None if the module's layers do not allow it.
    """

    module: nn.Module
    info: DataInfo
    activation_values: int
    buffers: dict[str, Tensor] = field(default_factory=dict)
    grouped: Stacked | None = None

    @property
    def num_weights(self) -> int:
        """Number of weights."""
        return num_weights(dict(self.module.named_parameters()))

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
            images: (B, C, H, W), the same for all, or (R, B, C, H, W), one batch per network.
        """
        count = len(next(iter(stack.values())))
        if more := self.padded_size(count, shared=images.ndim == 4) - count:
            stack = {name: _padded(each, more) for name, each in stack.items()}
            images = images if images.ndim == 4 else _padded(images, more)
        if self.grouped is not None:
            return self.grouped(stack, images)[:count]
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

    def logits(self, stack: Parameters, images: Images, batch_size: int = QUERY_BATCH) -> Tensor:
        """Logits (R, N, classes) of a stack of R networks on the same images (N, C, H, W)."""
        with torch.no_grad():
            return torch.cat([self.stacked(stack, batch) for batch in images.split(batch_size)], 1)

    def logits_of(self, parameters: Parameters, images: Images) -> Tensor:
        """Logits (N, classes) of one network, with the same rounding as in a stack."""
        return self.logits(broadcast(parameters, 1), images)[0]

    def controlled_logits(self, stack: Parameters, target: Parameters, images: Images) -> Tensor:
        """Logits (R, N, classes) of R networks, less what the rounding of their stack does to θ_τ.

        On a GPU, or with several threads, rounding depends on the size of a stack. θ_τ in the same stack shows by how
        much, so that a network that is equal to θ_τ has exactly its logits, and effects are differences from it.
        """
        found = self.logits(concatenate([stack, broadcast(target, 1)]), images)
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
        losses = F.cross_entropy(logits, labels, reduction="none")
        total = (losses * weights.flatten()).sum()
        found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True))


def _padded(values: Tensor, more: int) -> Tensor:
    """A stack with its last entry repeated."""
    return torch.cat([values, values[-1:].expand(more, *values.shape[1:])])


def build_network(
    build: Callable[[DataInfo], nn.Module], info: DataInfo, seed: int, device: torch.device
) -> tuple[Network, Parameters]:
    """Build a backbone and its initial parameters θ_0; the global random state stays as it was.

    Raises:
        DDMError: if the module mixes samples in batch statistics, or its logits do not fit the data.
    """
    with torch.random.fork_rng(devices=[]), naming(build):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        with Watched():
            module = build(info).eval()
        module = module.to(device)
    _refuse_batch_norm(module)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    sample = torch.zeros(1, *info.shape, device=device)
    with naming(build):
        values, logits = _count_activations(module, sample)
        if logits.shape != (1, info.num_classes):
            raise DDMError(
                f"the backbone returns shape {tuple(logits.shape)} for one image; "
                f"it must return logits (1, {info.num_classes})"
            )
        check_stateless(module, sample, named(build))
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

"""Try a module on random images before it is used: what it returns, what it needs, and what nobody could match."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.kernels import Kernels, Watch, kernels_of
from ddm_framework.network.outputs import Output, understood

_NUM_IMAGES = 2
APART = 1e-2
"""How much logits of an image may differ alone and in a batch, as a share of the largest; rounding gives 1e-5."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a module did with random images.

    Attributes:
        images: (2, C, H, W).
        activation_values: number of values that the modules without children output for one image, and its own.
        still_values: those of them that come before the first module with weights that are trained.
        output: how logits are read.
        kernels: that the module needs.
        notes: what is to be told.
    """

    images: Tensor
    activation_values: int
    still_values: int
    output: Output
    kernels: Kernels
    notes: list[str]


def tried(module: nn.Module, info: DataInfo, device: torch.device, *, trained: Collection[str], mixing: bool) -> Tried:
    """Try a module in evaluation mode.

    Args:
        module: (B, C, H, W) -> logits (B, classes), perhaps as an entry of something.
        info: the data that it must take.
        device: of the module.
        trained: names of the parameters that are trained.
        mixing: whether to refuse one that lets the samples of a batch influence one another.
    Raises:
        DDMError: if it fails, draws random numbers, mixes samples, or returns no logits.
    """
    noise = torch.randn(_NUM_IMAGES, *info.shape, generator=torch.Generator().manual_seed(0)).to(device)
    watch = Watch()
    with torch.no_grad(), Kernels(attention=True).chosen(), _unchanged_randomness() as drawn:
        values, still, one = _counted(module, noise[:1], trained)
        with watch:
            both = _run(module, noise)
    if drawn:
        raise DDMError(
            f"the backbone draws random numbers in evaluation mode ({drawn[0]}), so one image has other logits each"
            " time and there is nothing to match; switch off what is random where `self.training` is False"
        )
    output, notes = understood(both, _NUM_IMAGES, info.num_classes)
    if mixing:
        _refuse_mixing(output(both)[:1], output(one))
    return Tried(noise, values, still, output, kernels_of(module, watch), notes)


def _refuse_mixing(together: Tensor, alone: Tensor) -> None:
    apart = float((together - alone).abs().max())
    if apart > APART * max(float(alone.abs().max()), 1e-6):
        raise DDMError(
            "the backbone mixes the samples of a batch: an image alone has other logits than beside another one (by"
            f" {apart:.2g}), and synthetic images stand alone; normalise and attend within each image"
        )


def _counted(module: nn.Module, sample: Tensor, trained: Collection[str]) -> tuple[int, int, Any]:
    """Number of values that the modules without children output for one sample, those before weights that are trained,
    and the module's own output."""
    counts, still = [sample.numel()], list[int]()

    def begin(_module: nn.Module, _inputs: object) -> None:
        still.append(sum(counts))

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            counts.append(output.numel())

    own = {name.rpartition(".")[0] for name in trained}
    hooks = [child.register_forward_hook(count) for child in module.modules() if not list(child.children())]
    hooks += [child.register_forward_pre_hook(begin) for name, child in module.named_modules() if name in own]
    try:
        output = _run(module, sample)
        return sum(counts), (still[0] if still and len(trained) < len(list(module.parameters())) else 0), output
    finally:
        for hook in hooks:
            hook.remove()


def _run(module: nn.Module, images: Tensor) -> Any:
    try:
        return module(images)
    except DDMError:
        raise
    except Exception as error:  # its layers can raise anything
        shape, told = tuple(images.shape), " ".join(str(error).split())[:300]
        raise DDMError(
            f"the backbone fails on {len(images)} image{'s' * (len(images) > 1)} {shape}, float32:"
            f" {type(error).__name__}: {told}; it must take images (B, C, H, W), any number at a time, and nothing else"
        ) from error


@contextmanager
def _unchanged_randomness() -> Iterator[list[str]]:
    """Say which of the global random states changed, and bring them all back."""
    drawn: list[str] = []
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []

    def states() -> dict[str, Any]:
        on_devices = b"".join(bytes(torch.cuda.get_rng_state(each).numpy()) for each in devices)
        return {
            "torch": bytes(torch.get_rng_state().numpy()) + on_devices,
            "random": random.getstate(),
            "numpy": repr(np.random.get_state()),
        }

    own, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        before = states()
        try:
            yield drawn
        finally:
            drawn += [name for name, state in states().items() if state != before[name]]
            random.setstate(own)
            np.random.set_state(arrays)

"""Kernels that can be differentiated twice, for modules that would use others of PyTorch's own accord."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_HARD = ("hardsigmoid", "hardsigmoid_")
_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a module is computed by.

    Attributes:
        attention: by plain products, since fused attention has no second derivative and no rule for vmap.
        recurrent: without cuDNN, whose recurrent layers have no derivative in evaluation mode.
        hard: with the hard sigmoid written out, since PyTorch's own has no second derivative.
    """

    attention: bool = False
    recurrent: bool = False
    hard: bool = False

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Choose them, and bring back what was chosen before."""
        with ExitStack() as stack:
            if self.attention:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                fast = torch.backends.mha.get_fastpath_enabled()
                stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
                torch.backends.mha.set_fastpath_enabled(False)
            if self.recurrent:
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if self.hard:
                stack.enter_context(_WrittenOut())
            yield


DEFAULT = Kernels()
"""Those that PyTorch chooses."""


class _WrittenOut(TorchFunctionMode):
    """The hard sigmoid as a ReLU6, which is the same function."""

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute what is called."""
        if getattr(function, "__name__", "") in _HARD:
            return F.relu6(args[0] + 3) / 6
        return function(*args, **(kwargs or {}))


class Watch(TorchFunctionMode):
    """Sees what a module calls that has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = self.hard = False

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note a call of fused attention or a hard sigmoid, and do what is called."""
        name = getattr(function, "__name__", "")
        self.attention |= name == "scaled_dot_product_attention"
        self.hard |= name in _HARD
        return function(*args, **(kwargs or {}))


def kernels_of(module: nn.Module, watched: Watch) -> Kernels:
    """The kernels that a module needs, after one pass that was watched."""
    layers = list(module.modules())
    return Kernels(
        watched.attention or any(isinstance(each, _FAST_PATHS) for each in layers),
        any(isinstance(each, nn.RNNBase) for each in layers),
        watched.hard,
    )

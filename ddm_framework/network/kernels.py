"""Kernels that can be differentiated twice, for modules that would use others of PyTorch's own accord."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a module is computed by.

    Attributes:
        attention: by plain products, since fused attention has no second derivative and no rule for vmap.
        recurrent: without cuDNN, whose recurrent layers have no derivative in evaluation mode.
    """

    attention: bool = False
    recurrent: bool = False

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
            yield


DEFAULT = Kernels()
"""Those that PyTorch chooses."""


class Watch(TorchFunctionMode):
    """Sees whether anything calls fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = False

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note a call of fused attention, and do what is called."""
        self.attention |= getattr(function, "__name__", "") == "scaled_dot_product_attention"
        return function(*args, **(kwargs or {}))


def kernels_of(module: nn.Module, watched: Watch) -> Kernels:
    """The kernels that a module needs, after one pass that was watched."""
    layers = list(module.modules())
    return Kernels(
        watched.attention or any(isinstance(each, _FAST_PATHS) for each in layers),
        any(isinstance(each, nn.RNNBase) for each in layers),
    )

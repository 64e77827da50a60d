"""What an objective may return, checked at every call, so that a broken one is named and not believed."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.errors import PluginError


def checked_behaviours(who: str, behaviours: object, rows: int, logits: Tensor) -> Tensor:
    """The behaviours that an objective returned, on the device of the logits.

    Args:
        who: the objective and its plugin, for messages.
        behaviours: what it returned.
        rows: that it must have.
        logits: (N, classes) that it was given.
    Raises:
        PluginError: for another shape, other things than real numbers in floating point, NaN where the logits hold
            none, or a gradient that nobody asked for.
    """
    if not isinstance(behaviours, Tensor) or behaviours.ndim != 2 or len(behaviours) != rows:
        shape = tuple(behaviours.shape) if isinstance(behaviours, Tensor) else type(behaviours).__name__
        raise PluginError(f"{who} must return a tensor of shape ({rows}, m), returned {shape}")
    if not behaviours.is_floating_point() or behaviours.dtype.itemsize < torch.float32.itemsize:
        raise PluginError(f"{who} must return float32 or float64, returned {behaviours.dtype}; add .float()")
    if behaviours.device != logits.device and behaviours.device.type != "cpu":
        raise PluginError(f"{who} must return a tensor on {logits.device}, returned one on {behaviours.device}")
    if behaviours.requires_grad and not logits.requires_grad:
        raise PluginError(f"{who} returned a tensor that requires a gradient, though the logits do not; add .detach()")
    if bool(behaviours.isnan().any()) and not bool(logits.isnan().any()):
        raise PluginError(f"{who} returned NaN for logits that hold none")
    return behaviours.to(logits.device)

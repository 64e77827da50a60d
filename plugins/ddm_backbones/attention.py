"""Attention that can be differentiated twice."""

from __future__ import annotations

from typing import Any

from torch import nn


def unfuse_attention(network: nn.Module) -> None:
    """Switch off fused attention in timm's layers, in place, because it has no second derivative.

    It is switched off layer by layer, so that other networks in the process keep theirs.
    """
    layers: list[Any] = [layer for layer in network.modules() if hasattr(layer, "fused_attn")]
    for layer in layers:
        layer.fused_attn = False

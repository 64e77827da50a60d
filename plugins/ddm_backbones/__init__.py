"""Networks: the ConvNet of dataset condensation, and every classifier of timm."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_backbones() -> Iterator[Component]:
    """ConvNet and timm."""
    yield Component(
        "convnet",
        "ddm_backbones.convnet:build",
        "The small ConvNet of dataset condensation",
        "Sec. 4.1, Table 5; Zhao et al. 2021",
    )
    yield Component(
        "timm",
        "ddm_backbones.timm:build",
        "Any classifier of timm by name: ResNets, ViTs and hundreds more",
        "Sec. 4.1, Table 5; Wightman 2019",
    )

"""Networks: those of dataset condensation, a small ViT, and every classifier of timm."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_backbones() -> Iterator[Component]:
    """ConvNet, AlexNet, ResNet, ViT and timm."""
    yield Component(
        "convnet",
        "ddm_backbones.convnet:build",
        "The small ConvNet of dataset condensation",
        "Sec. 4.1, Table 5; Zhao et al. 2021",
    )
    yield Component(
        "alexnet",
        "ddm_backbones.alexnet:build",
        "AlexNetIN of dataset condensation, with instance norm",
        "Sec. 4.1, Table 5; Krizhevsky et al. 2012",
    )
    yield Component(
        "resnet",
        "ddm_backbones.resnet:build",
        "ResNet18_AP of dataset condensation: pooling, no strides",
        "Sec. 4.1, Table 5; He et al. 2016",
    )
    yield Component(
        "vit",
        "ddm_backbones.vit:build",
        "A small vision transformer for images of 28 to 64 pixels",
        "Sec. 4.1, Table 5; Dosovitskiy et al. 2021",
    )
    yield Component(
        "timm",
        "ddm_backbones.timm:build",
        "Any classifier of timm by name: ResNets, ViTs and hundreds more",
        "Sec. 4.1, Table 5; Wightman 2019",
    )

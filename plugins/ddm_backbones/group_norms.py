"""Replace batch norm by group norm, so that samples of a batch do not influence one another."""

from __future__ import annotations

import torch
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct
from torch import nn


def replace_batch_norms(module: nn.Module, groups: int) -> None:
    """Replace each BatchNorm2d by a group norm, in place.

    Scale, shift and epsilon are kept, and for timm's BatchNormAct2d also the activation and the drop layer.

    Args:
        module: its submodules are searched; the module itself is not replaced.
        groups: number of groups; if it does not divide the channels, the next lower number that does.
    Source: Sec. 4.1; Wu and He, Group Normalization, 2018.
    """
    for name, child in module.named_children():
        # Exact types only: replacing a subclass would lose a forward of its own, so the caller refuses it instead.
        if isinstance(child, nn.BatchNorm2d) and type(child) in (nn.BatchNorm2d, BatchNormAct2d):
            setattr(module, name, _group_norm(child, groups))
        else:
            replace_batch_norms(child, groups)


def mixing_layers(module: nn.Module) -> list[str]:
    """Names of the submodules that keep statistics of a batch, whatever their class."""
    return [
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.modules.batchnorm._BatchNorm)
        or "running_var" in dict(child.named_buffers(recurse=False))
    ]


def _group_norm(old: nn.BatchNorm2d, groups: int) -> nn.GroupNorm:
    channels = old.num_features
    groups = next(number for number in range(min(groups, channels), 0, -1) if channels % number == 0)
    new: nn.GroupNorm
    if isinstance(old, BatchNormAct2d):
        new = GroupNormAct(channels, num_groups=groups, eps=old.eps, affine=old.affine, apply_act=False)
        new.drop, new.act = old.drop, old.act
    else:
        new = nn.GroupNorm(groups, channels, eps=old.eps, affine=old.affine)
    if old.affine:
        with torch.no_grad():
            new.weight.copy_(old.weight)
            new.bias.copy_(old.bias)
    return new

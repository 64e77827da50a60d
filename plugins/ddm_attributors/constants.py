"""Weights that are not trained, for libraries that take every parameter of a module for one that is."""

from __future__ import annotations

from torch import nn

from ddm_framework.network import LogitsModule, Parameters


def as_buffers(module: nn.Module, trained: Parameters) -> nn.Module:
    """The module with buffers in the place of parameters that are not trained; the others require gradients.

    Args:
        module: changed in place.
        trained: by the names that the backbone gives them.
    """
    inner = module.network if isinstance(module, LogitsModule) else module
    kept = {id(each) for name, each in inner.named_parameters() if name in trained}
    for layer in module.modules():
        for name, each in list(layer.named_parameters(recurse=False)):
            if id(each) not in kept:
                delattr(layer, name)
                layer.register_buffer(name, each.detach())
    return module.requires_grad_()

"""A stack of networks as one network with groups: the same numbers as a vmap, in fewer passes over memory.

A vmap over weights splits a normalisation into its parts and copies between layouts; on small images that takes longer
than the convolutions. Networks that are plain sequences of common layers can be laid side by side as channels instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stacked = Callable[..., Tensor]
"""(a stack of R networks, images (B, C, H, W) common to all or (R, B, C, H, W), constants) -> logits (R, B, classes).

Constants are what the networks share: buffers and weights that are not trained; by default those of the module.
"""

SMALL_MAP = 100
"""Largest number of pixels of a map that is pooled by a matrix product; measured to be faster at 8 x 8 only."""

CACHED_VALUES = 2**21
"""Largest number of values of a map, for all networks together, that still fits a processor's cache. With larger maps,
networks of 16 channels on 28 x 28 pixels took nearly twice as long."""

LEAST_WITH_OWN_IMAGES = 8
"""Smallest stack whose networks see images of their own: smaller ones, and odd ones, run other kernels."""

_CHANNEL_WISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.AvgPool2d, nn.MaxPool2d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_KNOWN = (nn.Conv2d, nn.GroupNorm, *_BATCH_NORMS, nn.Flatten, nn.Linear, *_CHANNEL_WISE)


def grouped(module: nn.Module, trained: Iterable[str] | None = None) -> Stacked | None:
    """The module as a function of a stack of its parameters, or None if it is more than a sequence of known layers.

    Args:
        module: in evaluation mode.
        trained: names of the parameters that a stack holds; by default all. The others are the same for all networks.
    """
    layers = list(_layers(module, ""))
    with_weights = [layer for _, layer in layers if list(layer.parameters())]
    weights = [each for layer in with_weights for each in layer.parameters()]
    if len(set(map(id, weights))) < len(weights):
        return None  # tied weights have only one name, but each layer's weights are looked up by its own
    if not layers or not all(_is_known(layer) for _, layer in layers) or not isinstance(layers[-1][1], nn.Linear):
        return None
    moving = {name for name, _ in module.named_parameters()} if trained is None else set(trained)
    still = {name for name, layer in layers if not any(f"{name}{key}" in moving for key, _ in layer.named_parameters())}
    held = {name: {f"{name}{key}" for key in layer.state_dict()} for name, layer in layers}

    def together(stack: Mapping[str, Tensor], images: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        count = len(next(iter(stack.values())))
        values = images if images.ndim == 4 else images.transpose(0, 1).flatten(1, 2)
        shared = images.ndim == 4
        one = {name: each[None] for name, each in constants.items()}
        each_own = {**{name: each.expand(count, *each.shape[1:]) for name, each in one.items()}, **stack}
        for name, layer in layers:
            common = name in still and not any(key in stack for key in held[name])  # networks may bring constants
            if shared and common and not isinstance(layer, nn.Flatten):
                values = _apply(layer, one, name, values, 1, shared)  # once for all networks
                continue
            values = _apply(layer, each_own, name, values, count, shared)
            shared = False
        return values

    def forward(stack: Mapping[str, Tensor], images: Tensor, constants: Mapping[str, Tensor] | None = None) -> Tensor:
        if constants is None:
            constants = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        sizes = _part_sizes(len(next(iter(stack.values()))), with_weights, images)
        if len(sizes) == 1:
            return together(stack, images, constants)
        parts = {name: each.split(sizes) for name, each in stack.items()}
        seen = [images] * len(sizes) if images.ndim == 4 else images.split(sizes)
        return torch.cat(
            [
                together({name: parts[name][index] for name in parts}, seen[index], constants)
                for index in range(len(sizes))
            ]
        )

    return forward


def _part_sizes(count: int, layers: Sequence[nn.Module], images: Tensor) -> list[int]:
    """Sizes of the parts that a stack is split into; the networks of a part are computed side by side.

    Sizes are nearly equal, and neither small nor odd where that would run other kernels, which round differently.
    A stack whose networks see images of their own is even (`Network.padded_size`).
    """
    if images.device.type != "cpu":
        return [count]
    channels = max((layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)), default=0)
    values = count * channels * images.shape[-4] * images.shape[-2] * images.shape[-1]
    least, unit = (2, 1) if images.ndim == 4 else (LEAST_WITH_OWN_IMAGES, 2)
    wanted = max(1, min(math.ceil(values / CACHED_VALUES), count // least))
    return [unit * len(part) for part in torch.arange(count // unit).tensor_split(wanted)]


def _layers(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested sequences in order, each with the prefix of its parameters' names."""
    if type(module) is not nn.Sequential:
        yield prefix, module
        return
    for name, child in module._modules.items():  # `named_children` skips a layer that occurs twice
        yield from _layers(child, f"{prefix}{name}.") if child is not None else ()


def _is_known(layer: nn.Module) -> bool:
    """Whether a layer is of exactly a known type; a subclass, or a layer with hooks, may compute something else."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros"
    if type(layer) in _BATCH_NORMS:
        return not layer.training and layer.running_mean is not None
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in _KNOWN


def _apply(
    layer: nn.Module, stack: Mapping[str, Tensor], name: str, values: Tensor, count: int, shared: bool
) -> Tensor:
    """One layer of all networks. Maps are (B, R·C, H, W), or (B, C, H, W) if common to all; vectors (R, B, F)."""
    if isinstance(layer, nn.Conv2d):
        weight, bias = stack[f"{name}weight"].flatten(0, 1), _flat(stack.get(f"{name}bias"))
        if shared and layer.groups > 1:
            values, shared = values.repeat(1, count, 1, 1), False
        groups = 1 if shared else count * layer.groups
        return F.conv2d(values, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
    if isinstance(layer, nn.GroupNorm):
        values = values.repeat(1, count, 1, 1) if shared else values
        scale, shift = _flat(stack.get(f"{name}weight")), _flat(stack.get(f"{name}bias"))
        return F.group_norm(values, count * layer.num_groups, scale, shift, layer.eps)
    if isinstance(layer, _BATCH_NORMS):
        return _fixed_norm(layer, stack, name, values, count, shared)
    if isinstance(layer, nn.Flatten):
        values = values.repeat(1, count, 1, 1) if shared else values
        vectors: Tensor = values.unflatten(1, (count, -1)).flatten(2).transpose(0, 1)
        return vectors
    if isinstance(layer, nn.Linear):
        values = values @ stack[f"{name}weight"].transpose(1, 2)
        bias = stack.get(f"{name}bias")
        return values if bias is None else values + bias[:, None]
    if isinstance(layer, nn.AvgPool2d) and values.shape[-2] * values.shape[-1] <= SMALL_MAP:
        return _pooled(layer, values)
    result: Tensor = layer(values)
    return result


def _fixed_norm(
    layer: nn.BatchNorm1d | nn.BatchNorm2d,
    stack: Mapping[str, Tensor],
    name: str,
    values: Tensor,
    count: int,
    shared: bool,
) -> Tensor:
    """Batch norm by the statistics that it holds: a constant scale and shift of each channel or feature."""
    mean, variance = stack[f"{name}running_mean"], stack[f"{name}running_var"]
    scale, shift = stack.get(f"{name}weight"), stack.get(f"{name}bias")
    if values.ndim == 3:
        found = (values - mean[:, None]) * (variance[:, None] + layer.eps).rsqrt()
        return found if scale is None or shift is None else found * scale[:, None] + shift[:, None]
    values = values.repeat(1, count, 1, 1) if shared else values
    mean, variance = mean.flatten(0, 1), variance.flatten(0, 1)
    return F.batch_norm(values, mean, variance, _flat(scale), _flat(shift), False, 0.0, layer.eps)


def _pooled(layer: nn.AvgPool2d, values: Tensor) -> Tensor:
    """Average pooling as a product with its matrix: on small maps the kernel takes longer than the convolutions."""
    height, width = values.shape[-2:]
    # Pooling is linear, so the pooled unit images are the rows of its matrix.
    points = torch.eye(height * width, dtype=values.dtype, device=values.device).view(-1, 1, height, width)
    matrix = layer(points)
    product: Tensor = (values.flatten(2) @ matrix.flatten(1)).unflatten(2, matrix.shape[-2:])
    return product


def _flat(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.flatten(0, 1)

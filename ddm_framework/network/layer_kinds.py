"""The layers whose weights' gradients `LayerGradients` knows: by their inputs and the derivatives of their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm

from ddm_framework.network.second_derivatives import ChannelSums, convolution, gelu, group_norm, pooled_in_pairs, relu

FEW_INPUTS = 27
"""Number of weights of a filter up to which a convolution is a matrix product of its unfolded input, as one whose
patches do not overlap always is: a tenth faster at 9 weights (one colour), as fast at 27 (three), far slower at 36."""

SMALL_MAP = 100
"""Number of pixels of a map up to which the gradient of a convolution is a matrix product of its unfolded input.
A convolution in groups takes seven times as long on 4 x 4 pixels, and as long on 14 x 14."""


@dataclass(slots=True)
class Call:
    """What one call of a layer leaves behind: its inputs, in the form that the layer wants, constants and outputs."""

    inputs: Tensor | None = None
    constants: tuple[Tensor, ...] = ()
    sums: ChannelSums = field(default_factory=ChannelSums)
    outputs: GradientEdge | None = None

    def record(self, outputs: Tensor) -> None:
        """Outputs are kept as an edge of the graph, since a layer may change them in place, as `nn.ReLU(True)` does.

        Of a view, the edge is no longer part of the graph then, so a layer that returns one records what it views.
        """
        if self.outputs is None and outputs.requires_grad:
            self.outputs = get_gradient_edge(outputs)


class _Convolution:
    """Convolutions with zero padding."""

    @staticmethod
    def outputs(layer: nn.Conv2d, values: Tensor, call: Call) -> Tensor:
        """Of the layer itself."""
        overlapping = any(stride < side for stride, side in zip(layer.stride, layer.kernel_size, strict=True))
        if layer.groups > 1 or (overlapping and layer.weight[0].numel() > FEW_INPUTS):
            call.inputs = values
            return convolution(values, layer)
        call.inputs = _unfolded(layer, values)
        found = layer.weight.flatten(1) @ call.inputs
        found = found if layer.bias is None else found + layer.bias[:, None]
        call.record(found)
        maps: Tensor = found.unflatten(2, (_height(layer, values), -1))
        return maps

    @staticmethod
    def gradients(layer: nn.Conv2d, call: Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
        """Of each loss by each parameter (K, ...), from the derivatives of the outputs."""
        inputs = call.inputs
        assert inputs is not None
        if inputs.ndim == 3 or (layer.groups == 1 and derivatives[0, 0].numel() <= SMALL_MAP):
            columns = inputs if inputs.ndim == 3 else _unfolded(layer, inputs)
            each = torch.bmm(derivatives.flatten(2), columns.transpose(1, 2))
        else:
            samples = len(derivatives)
            # All samples as groups of one convolution.
            _, each, _ = torch.ops.aten.convolution_backward(
                derivatives.reshape(1, -1, *derivatives.shape[2:]),
                inputs.reshape(1, -1, *inputs.shape[2:]),
                layer.weight.repeat(samples, 1, 1, 1),
                None,
                layer.stride,
                layer.padding,
                layer.dilation,
                False,
                [0, 0],
                samples * layer.groups,
                [False, True, False],
            )
        found = {"weight": _summed(each.view(len(derivatives), *layer.weight.shape), count)}
        if layer.bias is not None:
            found["bias"] = _summed(derivatives.flatten(2).sum(2), count)
        return found

    @staticmethod
    def along(layer: nn.Conv2d, call: Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        """The outputs for the same inputs with the weights of each loss's direction."""
        inputs, weight, bias = call.inputs, directions["weight"], directions.get("bias")
        assert inputs is not None
        images = len(inputs) // count
        if inputs.ndim == 3:
            found = torch.bmm(weight.flatten(2).repeat_interleave(images, 0), inputs)
            return found if bias is None else found + bias.repeat_interleave(images, 0)[:, :, None]
        side_by_side = inputs.unflatten(0, (count, images)).transpose(0, 1).flatten(1, 2)
        found = F.conv2d(
            side_by_side,
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            layer.stride,
            layer.padding,
            layer.dilation,
            count * layer.groups,
        )
        maps: Tensor = found.unflatten(1, (count, -1)).transpose(0, 1).flatten(0, 1)
        return maps


class _Linear:
    """Linear layers, of vectors or of tokens."""

    @staticmethod
    def outputs(layer: nn.Linear, values: Tensor, call: Call) -> Tensor:
        call.inputs = values
        return F.linear(values, layer.weight, layer.bias)

    @staticmethod
    def gradients(layer: nn.Linear, call: Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
        assert call.inputs is not None
        derivatives = derivatives.reshape(count, -1, layer.out_features)
        found = {"weight": torch.bmm(derivatives.transpose(1, 2), call.inputs.reshape(count, -1, layer.in_features))}
        return found if layer.bias is None else {**found, "bias": derivatives.sum(1)}

    @staticmethod
    def along(layer: nn.Linear, call: Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        inputs = call.inputs
        assert inputs is not None
        rows, weight = inputs.reshape(count, -1, layer.in_features), directions["weight"].transpose(1, 2)
        bias = directions.get("bias")
        found = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
        return found.view(*inputs.shape[:-1], layer.out_features)


class _GroupNorm:
    """Group norm, and with as many groups as channels instance norm."""

    @staticmethod
    def outputs(layer: nn.GroupNorm, values: Tensor, call: Call) -> Tensor:
        call.inputs = values
        return group_norm(values, layer.num_groups, layer.weight, layer.bias, layer.eps, call.sums)

    @staticmethod
    def gradients(_layer: nn.GroupNorm, call: Call, _derivatives: Tensor, count: int) -> dict[str, Tensor]:
        return {"weight": _summed(call.sums.weight, count), "bias": _summed(call.sums.bias, count)}

    @staticmethod
    def along(layer: nn.GroupNorm, call: Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        inputs = call.inputs
        assert inputs is not None
        samples, channels = inputs.shape[:2]
        weight, bias = (
            directions[name].repeat_interleave(samples // count, 0).flatten() for name in ("weight", "bias")
        )
        as_one = inputs.reshape(1, samples * channels, *inputs.shape[2:])
        return F.group_norm(as_one, samples * layer.num_groups, weight, bias, layer.eps).view_as(inputs)


class _LayerNorm:
    """Layer norm over the last dimensions."""

    @staticmethod
    def outputs(layer: nn.LayerNorm, values: Tensor, call: Call) -> Tensor:
        call.inputs = F.layer_norm(values, layer.normalized_shape, None, None, layer.eps)
        found = call.inputs if layer.weight is None else call.inputs * layer.weight
        return found if layer.bias is None else found + layer.bias

    @staticmethod
    def gradients(layer: nn.LayerNorm, call: Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
        rows = (count, -1, *layer.normalized_shape)
        assert call.inputs is not None
        found = {"weight": (derivatives * call.inputs).reshape(rows).sum(1)}
        return found if layer.bias is None else {**found, "bias": derivatives.reshape(rows).sum(1)}

    @staticmethod
    def along(layer: nn.LayerNorm, call: Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        inputs = call.inputs
        assert inputs is not None
        found = inputs.reshape(count, -1, *layer.normalized_shape) * directions["weight"][:, None]
        return (found if layer.bias is None else found + directions["bias"][:, None]).view_as(inputs)


class _FixedNorm:
    """Batch norm in evaluation mode: y = w r (x - m) + b with the constants m and r = 1 / sqrt(variance + eps)."""

    @staticmethod
    def outputs(layer: _BatchNorm, values: Tensor, call: Call) -> Tensor:
        assert layer.running_mean is not None and layer.running_var is not None  # refused by `kind_of`
        call.inputs = values
        call.constants = mean, r = layer.running_mean, (layer.running_var + layer.eps).rsqrt()
        scale = r if layer.weight is None else layer.weight * r
        shift = -mean * scale if layer.bias is None else layer.bias - mean * scale
        return torch.addcmul(_by_channel(shift, values), values, _by_channel(scale, values))

    @staticmethod
    def gradients(_layer: _BatchNorm, call: Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
        assert call.inputs is not None
        mean, r = (_by_channel(each, call.inputs) for each in call.constants)
        each = {"weight": derivatives * ((call.inputs - mean) * r), "bias": derivatives}
        return {name: _summed(maps.flatten(2).sum(2) if maps.ndim > 2 else maps, count) for name, maps in each.items()}

    @staticmethod
    def along(_layer: _BatchNorm, call: Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        inputs = call.inputs
        assert inputs is not None
        mean, r = call.constants
        scale = directions["weight"] * r
        shift = directions["bias"] - mean * scale
        images = len(inputs) // count
        sides = [1] * (inputs.ndim - 2)
        scale, shift = (each.repeat_interleave(images, 0).view(len(inputs), -1, *sides) for each in (scale, shift))
        return torch.addcmul(shift, inputs, scale)


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    """One value a channel as (1, C, 1, ...)."""
    return values.view(1, -1, *[1] * (like.ndim - 2))


class _AveragePooling:
    """Average pooling, which has no weights but a slow kernel."""

    @staticmethod
    def outputs(layer: nn.AvgPool2d, values: Tensor, _call: Call) -> Tensor:
        plain = (layer.kernel_size, layer.stride, layer.padding, layer.divisor_override) == (2, 2, 0, None)
        if plain and values.ndim == 4 and values.shape[2] % 2 == values.shape[3] % 2 == 0:
            return pooled_in_pairs(values)
        found: Tensor = type(layer).forward(layer, values)
        return found


class _ReLU:
    """ReLU, which has no weights, unless it changes its input in place: that may be used again."""

    @staticmethod
    def outputs(layer: nn.ReLU, values: Tensor, _call: Call) -> Tensor:
        return F.relu(values, inplace=True) if layer.inplace else relu(values)


class _GELU:
    """GELU, which has no weights."""

    @staticmethod
    def outputs(layer: nn.GELU, values: Tensor, _call: Call) -> Tensor:
        return gelu(values) if layer.approximate == "none" else F.gelu(values, approximate=layer.approximate)


_KINDS: tuple[tuple[type[nn.Module], Any], ...] = (
    (nn.Conv2d, _Convolution),
    (nn.Linear, _Linear),
    (nn.GroupNorm, _GroupNorm),
    (nn.LayerNorm, _LayerNorm),
    (_BatchNorm, _FixedNorm),
    (nn.AvgPool2d, _AveragePooling),
    (nn.ReLU, _ReLU),
    (nn.GELU, _GELU),
)


_FIXED_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def kind_of(layer: nn.Module) -> Any:
    """How a layer's gradients are had, or None. Whether a subclass does as its base is found out by `of`."""
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return None
    if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
        return None
    return next((kind for base, kind in _KINDS if isinstance(layer, base)), None)


def is_exact(layer: nn.Module) -> bool:
    """Whether a layer is of exactly a known type, and no subclass."""
    return type(layer) in {base for base, _ in _KINDS} or type(layer) in _FIXED_NORMS


def finished(layer: nn.Module, found: Tensor) -> Tensor:
    """What a norm of timm that holds its activation does with the norm's output."""
    own, drop, active = vars(layer)["_modules"], getattr(layer, "drop", None), getattr(layer, "act", None)
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm | _BatchNorm) and "drop" in own and "act" in own:
        assert callable(drop) and callable(active)
        return active(drop(found))  # type: ignore[no-any-return]
    return found


def _unfolded(layer: nn.Conv2d, values: Tensor) -> Tensor:
    """The pixels (B, inputs of a filter, pixels of the output) that each filter sees."""
    padding = rows, columns = _padding(layer)
    if torch.is_grad_enabled() or (layer.stride, layer.dilation) != ((1, 1), (1, 1)):
        return F.unfold(values, layer.kernel_size, layer.dilation, padding, layer.stride)
    height, width = layer.kernel_size  # one copy, which has no derivative
    padded = F.pad(values, (columns, columns, rows, rows))
    size = padded.shape[2] - height + 1, padded.shape[3] - width + 1
    return padded.unfold(2, size[0], 1).unfold(3, size[1], 1).reshape(len(values), -1, size[0] * size[1])


def _height(layer: nn.Conv2d, values: Tensor) -> int:
    reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
    return (values.shape[2] + 2 * _padding(layer)[0] - reach - 1) // layer.stride[0] + 1


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(layer.padding, str)  # refused by `_kind`
    rows, columns = layer.padding
    return rows, columns


def _summed(each: Tensor, count: int) -> Tensor:
    """Sum over the samples of each of K losses."""
    if len(each) == count:
        return each
    found: Tensor = each.unflatten(0, (count, -1)).sum(1)
    return found

"""Layers with constant weights whose second derivatives take fewer passes over memory than PyTorch's own.

- Convolution, average pooling and ReLU are linear, or linear where the input is: their second derivative is the layer
  itself. PyTorch also computes a derivative by the weights, or adds zeros.
- GELU's second derivative is (2 - x²) φ(x).
- Group norm has a closed form. With n = (x - mean) / σ over a group, r = 1 / σ and D = weight · d for a derivative d of
  the output, the derivative of the input is N(D), where N(v) = r (v - mean(v) - n mean(n v)). N is linear in v and
  symmetric, so the second derivative by d is weight · N(u). By x, with A = mean(n u) and B = mean(n D), it is

    r² [(3AB - mean(uD) + mean(u) mean(D)) n - B (u - mean(u)) - A (D - mean(D))].
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.grad import conv2d_input


def convolution(values: Tensor, layer: nn.Conv2d) -> Tensor:
    """A convolution with zero padding, of constant weights."""
    found: Tensor = _Convolution.apply(values, layer.weight, layer.bias, _geometry(layer))
    return found


def relu(values: Tensor) -> Tensor:
    """max(x, 0)."""
    found: Tensor = _ReLU.apply(values)
    return found


def gelu(values: Tensor) -> Tensor:
    """x Φ(x), with Φ the distribution function of the normal distribution; not its approximation by tanh."""
    found: Tensor = _GELU.apply(values)
    return found


def pooled_in_pairs(values: Tensor) -> Tensor:
    """Average pooling by two: means (B, C, H/2, W/2) of 2 x 2 pixels of maps (B, C, H, W) of even sides.

    Sums of rows, then of columns: PyTorch's kernel takes five times as long on a processor.
    """
    found: Tensor = _Pooled.apply(values)
    return found


class ChannelSums:
    """What the derivative of a group norm leaves behind, for each sample and channel.

    Attributes:
        weight: Σ d · n over the pixels, (B, C): the derivative by the weight, sample by sample.
        bias: Σ d over the pixels, (B, C): the derivative by the bias.
    """

    weight: Tensor
    bias: Tensor


def group_norm(
    values: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, sums: ChannelSums
) -> Tensor:
    """Group norm of values (B, C, ...); its derivative fills `sums`. Weight and bias are constants."""
    found: Tensor = _GroupNorm.apply(values, weight, bias, groups, eps, sums)
    return found


class _GroupNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, sums: ChannelSums
    ) -> Tensor:
        values = values.contiguous()
        batch, channels, pixels = _sizes(values)
        found, mean, r = torch.native_group_norm(values, weight, bias, batch, channels, pixels, groups, eps)
        ctx.save_for_backward(values, mean, r, weight)
        ctx.groups, ctx.sums = groups, sums
        return found

    @staticmethod
    def backward(ctx: Any, derivative: Tensor) -> tuple[Tensor | None, ...]:
        found = _Backward.apply(derivative, *ctx.saved_tensors, ctx.groups, ctx.sums)
        return found, None, None, None, None, None


class _Backward(Function):
    """N(weight · d), as a function of d and x."""

    @staticmethod
    def forward(
        ctx: Any,
        derivative: Tensor,
        values: Tensor,
        mean: Tensor,
        r: Tensor,
        weight: Tensor | None,
        groups: int,
        sums: ChannelSums,
    ) -> Tensor:
        derivative = derivative.contiguous()
        found, sums.weight, sums.bias = _centred(derivative, values, mean, r, weight)
        ctx.save_for_backward(derivative, values, mean, r, weight, sums.weight, sums.bias)
        ctx.groups = groups
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d, x, mean, r, weight, d_n, d_sum = ctx.saved_tensors
        groups: int = ctx.groups
        batch, channels, pixels = _sizes(x)
        each, size = channels // groups, channels // groups * pixels
        u = u.contiguous()
        centred, u_n, u_sum = _centred(u, x, mean, r, None)
        scale = x.new_ones(1, channels) if weight is None else weight[None]

        def mean_of(sums: Tensor) -> Tensor:
            return sums.view(batch, groups, each).sum(2) / size

        def maps(values: Tensor) -> Tensor:
            return values.repeat_interleave(each, 1).view(batch, channels, *[1] * (x.ndim - 2))

        a, b = mean_of(u_n), mean_of(d_n * scale)
        u_mean, d_mean = mean_of(u_sum), mean_of(d_sum * scale)
        product = mean_of((u * d).view(batch, channels, -1).sum(2) * scale)
        squared = r * r
        by_x = squared * (3 * a * b - product + u_mean * d_mean) * r
        constant = squared * (b * u_mean + a * d_mean) - by_x * mean
        second = torch.addcmul(maps(constant), x, maps(by_x))
        second.addcmul_(u, maps(-squared * b))
        second.addcmul_(d, maps(-squared * a) * scale.view(1, channels, *[1] * (x.ndim - 2)))
        first = centred if weight is None else centred.mul_(scale.view(1, channels, *[1] * (x.ndim - 2)))
        return first, second, None, None, None, None, None


def _centred(v: Tensor, x: Tensor, mean: Tensor, r: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """N(weight · v), and Σ v · n and Σ v over the pixels of each sample and channel."""
    batch, channels, pixels = _sizes(x)
    scale = x.new_ones(channels) if weight is None else weight
    # All samples as the channels of one, so that the sums are of each sample.
    found, products, sums = torch.ops.aten.native_group_norm_backward(
        v,
        x,
        mean.view(1, -1),
        r.view(1, -1),
        scale.repeat(batch),
        1,
        batch * channels,
        pixels,
        mean.numel(),
        [True] * 3,
    )
    return found.view_as(x), products.view(batch, channels), sums.view(batch, channels)


def _sizes(values: Tensor) -> tuple[int, int, int]:
    batch, channels, *sides = values.shape
    return batch, channels, torch.Size(sides).numel()


def _geometry(layer: nn.Conv2d) -> tuple[Any, ...]:
    return layer.stride, layer.padding, layer.dilation, layer.groups


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.geometry = values.shape, geometry
        return F.conv2d(values, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, derivative: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return _Transposed.apply(derivative, weight, ctx.shape, ctx.geometry), None, None, None


class _Transposed(Function):
    @staticmethod
    def forward(ctx: Any, derivative: Tensor, weight: Tensor, shape: torch.Size, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.geometry = geometry
        found: Tensor = conv2d_input(shape, weight, derivative, *geometry)
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return F.conv2d(u, weight, None, *ctx.geometry), None, None, None


class _ReLU(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        found = values.relu()
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, derivative: Tensor) -> Tensor:
        found: Tensor = _Masked.apply(derivative, *ctx.saved_tensors)
        return found


class _Masked(Function):
    @staticmethod
    def forward(ctx: Any, derivative: Tensor, outputs: Tensor) -> Tensor:
        ctx.save_for_backward(outputs)
        found: Tensor = torch.ops.aten.threshold_backward(derivative, outputs, 0)
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, None]:
        (outputs,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(u, outputs, 0), None


class _Pooled(Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        rows = values.unflatten(2, (-1, 2))
        halves = rows[:, :, :, 0] + rows[:, :, :, 1]
        found: Tensor = (halves[..., ::2] + halves[..., 1::2]).mul_(0.25)
        return found

    @staticmethod
    def backward(_ctx: Any, derivative: Tensor) -> Tensor:
        found: Tensor = _Spread.apply(derivative)
        return found


class _Spread(Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        columns = (values * 0.25).repeat_interleave(2, 3)
        found: Tensor = columns[:, :, :, None].expand(-1, -1, -1, 2, -1).flatten(2, 3)
        return found

    @staticmethod
    def backward(_ctx: Any, derivative: Tensor) -> Tensor:
        return pooled_in_pairs(derivative)


class _GELU(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return F.gelu(values)

    @staticmethod
    def backward(ctx: Any, derivative: Tensor) -> Tensor:
        found: Tensor = _GELUBackward.apply(derivative, *ctx.saved_tensors)
        return found


class _GELUBackward(Function):
    @staticmethod
    def forward(ctx: Any, derivative: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(derivative, values)
        found: Tensor = torch.ops.aten.gelu_backward(derivative, values)
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        derivative, values = ctx.saved_tensors
        squared = values.square()
        density = squared.mul(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
        second = squared.neg_().add_(2).mul_(density).mul_(u).mul_(derivative)  # (2 - x²) φ(x) is the second derivative
        return torch.ops.aten.gelu_backward(u, values), second

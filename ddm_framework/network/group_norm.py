"""Group norm whose second derivative is a closed form: PyTorch's own takes three times as many passes over memory.

With n = (x - mean) / σ over a group of m values, r = 1 / σ and D = weight · d for a derivative d of the output, the
derivative of the input is N(D), where N(v) = r (v - mean(v) - n mean(n v)). N is linear in v and symmetric, so the
second derivative by d is weight · N(u). By x, with A = mean(n u) and B = mean(n D), it is

    r² [(3AB - mean(uD) + mean(u) mean(D)) n - B (u - mean(u)) - A (D - mean(D))].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


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

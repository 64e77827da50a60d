"""Gradients of many losses at one θ, layer by layer, and derivatives of their products with given directions.

Losses that share θ pass through the network as one ordinary batch. The gradient g_k of loss k by the weights of a layer
is a product of the layer's inputs x and of the derivatives d of its outputs, and its inner product with a direction v_k
is that of d with the layer's outputs for x and the weights v_k (Goodfellow, Efficient per-example gradient
computations, 2015). So ⟨g_k, v_k⟩ is differentiated without a graph of the weights' gradients, and without a vmap.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

from ddm_framework.network.networks import Network
from ddm_framework.network.second_derivatives import ChannelSums, convolution, gelu, group_norm, pooled_in_pairs, relu
from ddm_framework.network.stacks import Gradient, Parameters, broadcast, flat

FEW_INPUTS = 27
"""Number of weights of a filter up to which a convolution is a matrix product of its unfolded input, as one whose
patches do not overlap always is: a tenth faster at 9 weights (one colour), as fast at 27 (three), far slower at 36."""

SMALL_MAP = 100
"""Number of pixels of a map up to which the gradient of a convolution is a matrix product of its unfolded input.
A convolution in groups takes seven times as long on 4 x 4 pixels, and as long on 14 x 14."""

LEAST_IMAGES = 16
"""Smallest batch of one network whose rounding is that of every larger one; smaller ones run other kernels."""

AGREEMENT = 1e-3
"""Largest relative difference of gradients from those by autograd; float32 gives about 1e-6, a layer that is used in
an unknown way 1e-2 and more."""
ROUNDER = 10
"""So many times more is allowed on a GPU, whose convolutions round to ten bits (TF32)."""


@dataclass(slots=True)
class _Call:
    """What one call of a layer leaves behind: its inputs, in the form that the layer wants, and its outputs."""

    inputs: Tensor | None = None
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
    def outputs(layer: nn.Conv2d, values: Tensor, call: _Call) -> Tensor:
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
    def gradients(layer: nn.Conv2d, call: _Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
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
    def along(layer: nn.Conv2d, call: _Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
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
    def outputs(layer: nn.Linear, values: Tensor, call: _Call) -> Tensor:
        call.inputs = values
        return F.linear(values, layer.weight, layer.bias)

    @staticmethod
    def gradients(layer: nn.Linear, call: _Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
        assert call.inputs is not None
        derivatives = derivatives.reshape(count, -1, layer.out_features)
        found = {"weight": torch.bmm(derivatives.transpose(1, 2), call.inputs.reshape(count, -1, layer.in_features))}
        return found if layer.bias is None else {**found, "bias": derivatives.sum(1)}

    @staticmethod
    def along(layer: nn.Linear, call: _Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        inputs = call.inputs
        assert inputs is not None
        rows, weight = inputs.reshape(count, -1, layer.in_features), directions["weight"].transpose(1, 2)
        bias = directions.get("bias")
        found = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
        return found.view(*inputs.shape[:-1], layer.out_features)


class _GroupNorm:
    """Group norm, and with as many groups as channels instance norm."""

    @staticmethod
    def outputs(layer: nn.GroupNorm, values: Tensor, call: _Call) -> Tensor:
        call.inputs = values
        return group_norm(values, layer.num_groups, layer.weight, layer.bias, layer.eps, call.sums)

    @staticmethod
    def gradients(_layer: nn.GroupNorm, call: _Call, _derivatives: Tensor, count: int) -> dict[str, Tensor]:
        return {"weight": _summed(call.sums.weight, count), "bias": _summed(call.sums.bias, count)}

    @staticmethod
    def along(layer: nn.GroupNorm, call: _Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
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
    def outputs(layer: nn.LayerNorm, values: Tensor, call: _Call) -> Tensor:
        call.inputs = F.layer_norm(values, layer.normalized_shape, None, None, layer.eps)
        found = call.inputs if layer.weight is None else call.inputs * layer.weight
        return found if layer.bias is None else found + layer.bias

    @staticmethod
    def gradients(layer: nn.LayerNorm, call: _Call, derivatives: Tensor, count: int) -> dict[str, Tensor]:
        rows = (count, -1, *layer.normalized_shape)
        assert call.inputs is not None
        found = {"weight": (derivatives * call.inputs).reshape(rows).sum(1)}
        return found if layer.bias is None else {**found, "bias": derivatives.reshape(rows).sum(1)}

    @staticmethod
    def along(layer: nn.LayerNorm, call: _Call, directions: Mapping[str, Tensor], count: int) -> Tensor:
        inputs = call.inputs
        assert inputs is not None
        found = inputs.reshape(count, -1, *layer.normalized_shape) * directions["weight"][:, None]
        return (found if layer.bias is None else found + directions["bias"][:, None]).view_as(inputs)


class _AveragePooling:
    """Average pooling, which has no weights but a slow kernel."""

    @staticmethod
    def outputs(layer: nn.AvgPool2d, values: Tensor, _call: _Call) -> Tensor:
        plain = (layer.kernel_size, layer.stride, layer.padding, layer.divisor_override) == (2, 2, 0, None)
        if plain and values.ndim == 4 and values.shape[2] % 2 == values.shape[3] % 2 == 0:
            return pooled_in_pairs(values)
        found: Tensor = type(layer).forward(layer, values)
        return found


class _ReLU:
    """ReLU, which has no weights, unless it changes its input in place: that may be used again."""

    @staticmethod
    def outputs(layer: nn.ReLU, values: Tensor, _call: _Call) -> Tensor:
        return F.relu(values, inplace=True) if layer.inplace else relu(values)


class _GELU:
    """GELU, which has no weights."""

    @staticmethod
    def outputs(layer: nn.GELU, values: Tensor, _call: _Call) -> Tensor:
        return gelu(values) if layer.approximate == "none" else F.gelu(values, approximate=layer.approximate)


_KINDS: tuple[tuple[type[nn.Module], Any], ...] = (
    (nn.Conv2d, _Convolution),
    (nn.Linear, _Linear),
    (nn.GroupNorm, _GroupNorm),
    (nn.LayerNorm, _LayerNorm),
    (nn.AvgPool2d, _AveragePooling),
    (nn.ReLU, _ReLU),
    (nn.GELU, _GELU),
)


def _kind(layer: nn.Module) -> Any:
    """How a layer's gradients are had, or None. Whether a subclass does as its base is found out by `of`."""
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return None
    return next((kind for base, kind in _KINDS if isinstance(layer, base)), None)


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


class _Products(Function):
    """A scalar whose derivative by each output is its factor; its value is not computed.

    `torch.autograd.grad(outputs, inputs, factors)` is the same, but imports a library for symbolic shapes first.
    """

    @staticmethod
    def forward(ctx: Any, factors: Sequence[Tensor], *outputs: Tensor) -> Tensor:
        ctx.save_for_backward(*factors)
        return outputs[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, _one: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.saved_tensors


@dataclass(frozen=True, slots=True)
class Derivatives:
    """What one pass of K losses at one θ gives.

    Attributes:
        gradients: ∇ of each loss by θ, stacked (K, ...), without a graph.
    """

    gradients: Gradient
    _calls: Sequence[tuple[str, nn.Module, _Call, Tensor]]
    _expanded: Mapping[str, Tensor]

    def of_products(self, directions: Gradient, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Derivatives of Σ_k ⟨g_k, v_k⟩ by the given tensors, which the losses were computed from.

        Args:
            directions: v_k, stacked (K, ...), by the name of every parameter; constants.
            inputs: such as the images and the logits of the labels; they must require gradients.
        """
        count, outputs, factors = len(next(iter(directions.values()))), list[Tensor](), list[Tensor]()
        for name, layer, call, derivatives in self._calls:
            own = {key: directions[f"{name}.{key}"] for key, _ in layer.named_parameters()}
            along = _kind(layer).along(layer, call, own, count).view_as(derivatives)
            for one, other in ((derivatives, along), (along, derivatives)):
                if one.requires_grad:
                    outputs.append(one)
                    factors.append(other.detach())
        for name, derivatives in self._expanded.items():
            direction = directions[name].expand(count, len(derivatives) // count, *derivatives.shape[1:])
            outputs.append(derivatives)
            factors.append(direction.flatten(0, 1))
        scalar: Tensor = _Products.apply(factors, *outputs)
        return torch.autograd.grad(scalar, inputs, materialize_grads=True)


class LayerGradients:
    """Gradients of K losses at one θ, for networks whose weights all belong to known layers.

    Known are convolutions, linear layers, group and layer norms, however the module combines them, and parameters
    whose first dimension is 1 and is broadcast over the batch, such as embeddings of positions.
    """

    def __init__(self, network: Network) -> None:
        own = {id(each): each for each in network.module.parameters()}
        self._network, self._calls = network, list[tuple[str, nn.Module, _Call]]()
        self._module = copy.deepcopy(network.module, dict[int, object](own))  # the weights themselves are not copied
        layers = {name: layer for name, layer in self._module.named_modules() if _kind(layer) is not None}
        self._owned = {f"{name}.{key}" for name, layer in layers.items() for key, _ in layer.named_parameters()}
        for name, layer in layers.items():
            layer.forward = functools.partial(self._called, name, layer)

    def _called(self, name: str, layer: nn.Module, values: Tensor) -> Tensor:
        call = _Call()
        found: Tensor = _kind(layer).outputs(layer, values, call)
        call.record(found)
        if call.outputs is not None and any(True for _ in layer.parameters()):
            self._calls.append((name, layer, call))
        return found

    @classmethod
    def of(cls, network: Network, parameters: Parameters) -> LayerGradients | None:
        """For a network, or None if its gradients cannot be had in this way.

        A module may use its layers in any way, so gradients of four random images are compared with those by autograd.
        """
        broadcast_ones = all(len(each.shape) > 1 and each.shape[0] == 1 for each in cls._others(network, parameters))
        if not broadcast_ones:
            return None
        like = next(iter(parameters.values()))
        random = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random).to(like)

        # Away from weights of zero, behind which all gradients agree.
        near = {
            name: each + 0.1 * each.abs().mean().clamp_min(0.1) * noise(*each.shape)
            for name, each in parameters.items()
        }
        images, labels = noise(2, 2, *network.info.shape), noise(2, 2, network.info.num_classes).softmax(-1)
        try:
            found = cls(network)
            gradients = found(near, images.requires_grad_(), labels).gradients
        except Exception:  # a module may call its layers in any way; what is truly wrong with it shows without them too
            return None
        wanted = network.gradients(broadcast(near, 2), images.detach(), labels, labels.new_full((2, 2), 0.5))
        error = flat({name: gradients[name] - each for name, each in wanted.items()}).norm(dim=1)
        allowed = AGREEMENT * (1 if like.device.type == "cpu" else ROUNDER)
        return found if bool((error <= allowed * flat(wanted).norm(dim=1)).all()) else None

    @staticmethod
    def _others(network: Network, parameters: Parameters) -> list[Tensor]:
        """Parameters that belong to no known layer."""
        modules = dict(network.module.named_modules())
        owners = {name: modules[name.rpartition(".")[0]] for name in parameters}
        return [each for name, each in parameters.items() if _kind(owners[name]) is None]

    def __call__(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Derivatives:
        """Pass through the network.

        Args:
            parameters: θ.
            images: (K, M, C, H, W), of each loss; they require gradients.
            labels: probabilities (K, M, classes). A loss is the mean cross entropy of its images.
        """
        count, samples = len(images), images.shape[0] * images.shape[1]
        own = {name: each for name, each in parameters.items() if name in self._owned}
        expanded = {
            name: each.expand(samples, *each.shape[1:]).detach().requires_grad_()
            for name, each in parameters.items()
            if name not in own
        }
        self._calls = calls = list[tuple[str, nn.Module, _Call]]()
        logits = functional_call(self._module, ({**own, **expanded}, self._network.buffers), (images.flatten(0, 1),))
        loss = F.cross_entropy(logits, labels.flatten(0, 1), reduction="sum") / images.shape[1]
        edges = [call.outputs for _, _, call in calls if call.outputs is not None]
        wanted: list[Any] = [*edges, *expanded.values()]
        found = torch.autograd.grad(loss, wanted, create_graph=True, allow_unused=True)
        used = [
            (*each, derivatives) for each, derivatives in zip(calls, found, strict=False) if derivatives is not None
        ]
        others = dict(zip(expanded, found[len(calls) :], strict=True))
        known = {name: derivatives for name, derivatives in others.items() if derivatives is not None}
        return Derivatives(self._gradients(parameters, count, used, known), used, known)

    def _gradients(
        self,
        parameters: Parameters,
        count: int,
        calls: Sequence[tuple[str, nn.Module, _Call, Tensor]],
        expanded: Mapping[str, Tensor],
    ) -> Gradient:
        gradients: Gradient = {}
        with torch.no_grad():
            for name, layer, call, derivatives in calls:
                for key, each in _kind(layer).gradients(layer, call, derivatives, count).items():
                    whole = f"{name}.{key}"
                    gradients[whole] = gradients[whole] + each if whole in gradients else each
            for name, each in expanded.items():
                gradients[name] = each.detach().unflatten(0, (count, -1)).sum(1, keepdim=True)
            missing = {name: each for name, each in parameters.items() if name not in gradients}
            zeros = {name: each.new_zeros(count, *each.shape) for name, each in missing.items()}
        return {name: (gradients | zeros)[name] for name in parameters}

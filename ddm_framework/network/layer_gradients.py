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
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from ddm_framework.network.constants import Constants, aliases
from ddm_framework.network.layer_kinds import Call, finished, is_exact, kind_of
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Gradient, Parameters, broadcast, flat

LEAST_IMAGES = 16
"""Smallest batch of one network whose rounding is that of every larger one; smaller ones run other kernels."""

AGREEMENT = 1e-3
"""Largest relative difference of gradients from those by autograd; float32 gives about 1e-6, a layer that is used in
an unknown way 1e-2 and more."""
NO_CONSTANTS: Constants = {}
ROUNDER = 10
"""So many times more is allowed on a GPU, whose convolutions round to ten bits (TF32)."""


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
class _Layer:
    """A known layer in which weights are trained.

    Attributes:
        module: the layer.
        names: of the weights that are trained, by the layer's own name for each; a shared one has its first name.
    """

    module: nn.Module
    names: Mapping[str, str]

    def of(self, directions: Gradient, count: int) -> dict[str, Tensor]:
        """Its part of K directions, zero for weights that are constants."""
        return {
            key: directions[self.names[key]] if key in self.names else each.new_zeros(count, *each.shape)
            for key, each in self.module.named_parameters()
        }


@dataclass(frozen=True, slots=True)
class Derivatives:
    """What one pass of K losses at one θ gives.

    Attributes:
        gradients: ∇ of each loss by θ, stacked (K, ...), without a graph.
    """

    gradients: Gradient
    _calls: Sequence[tuple[_Layer, Call, Tensor]]
    _expanded: Mapping[str, Tensor]

    def of_products(self, directions: Gradient, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Derivatives of Σ_k ⟨g_k, v_k⟩ by the given tensors, which the losses were computed from.

        Args:
            directions: v_k, stacked (K, ...), by the name of every parameter; constants.
            inputs: such as the images and the logits of the labels; they must require gradients.
        """
        count, outputs, factors = len(next(iter(directions.values()))), list[Tensor](), list[Tensor]()
        for layer, call, derivatives in self._calls:
            along = kind_of(layer.module).along(layer.module, call, layer.of(directions, count), count)
            along = along.view_as(derivatives)
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
        self._network, self._calls = network, list[tuple[_Layer, Call]]()
        self._module = copy.deepcopy(network.module, dict[int, object](own))  # the weights themselves are not copied
        trained, first = set(network.trained), aliases(network.module)
        self._owned = set[str]()
        for prefix, layer in self._module.named_modules():
            if kind_of(layer) is None:
                continue
            whole = {key: f"{prefix}.{key}".removeprefix(".") for key, _ in layer.named_parameters()}
            names = {key: first.get(name, name) for key, name in whole.items()}
            names = {key: name for key, name in names.items() if name in trained}
            if not names and not is_exact(layer):
                continue  # it may be more than its base, and nothing of it is asked
            self._owned |= set(names.values())
            layer.forward = functools.partial(self._called, _Layer(layer, names))

    def _called(self, layer: _Layer, values: Tensor) -> Tensor:
        call = Call()
        found: Tensor = kind_of(layer.module).outputs(layer.module, values, call)
        call.record(found)
        if call.outputs is not None and layer.names:
            self._calls.append((layer, call))
        return finished(layer.module, found)

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
        return [each for name, each in parameters.items() if kind_of(owners[name]) is None]

    def __call__(
        self, parameters: Parameters, images: Tensor, labels: Tensor, constants: Constants = NO_CONSTANTS
    ) -> Derivatives:
        """Pass through the network.

        Args:
            parameters: θ.
            images: (K, M, C, H, W), of each loss; they require gradients.
            labels: probabilities (K, M, classes). A loss is the mean cross entropy of its images.
            constants: that differ from the network's own.
        """
        count, samples = len(images), images.shape[0] * images.shape[1]
        own = {name: each for name, each in parameters.items() if name in self._owned}
        expanded = {
            name: each.expand(samples, *each.shape[1:]).detach().requires_grad_()
            for name, each in parameters.items()
            if name not in own
        }
        self._calls = calls = list[tuple[_Layer, Call]]()
        network = self._network.with_constants(constants)
        logits = network.output(network.run({**own, **expanded}, images.flatten(0, 1), self._module))
        loss = F.cross_entropy(logits, labels.flatten(0, 1), reduction="sum") / images.shape[1]
        edges = [call.outputs for _, call in calls if call.outputs is not None]
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
        calls: Sequence[tuple[_Layer, Call, Tensor]],
        expanded: Mapping[str, Tensor],
    ) -> Gradient:
        gradients: Gradient = {}
        with torch.no_grad():
            for layer, call, derivatives in calls:
                for key, each in kind_of(layer.module).gradients(layer.module, call, derivatives, count).items():
                    if key not in layer.names:
                        continue
                    whole = layer.names[key]
                    gradients[whole] = gradients[whole] + each if whole in gradients else each
            for name, each in expanded.items():
                gradients[name] = each.detach().unflatten(0, (count, -1)).sum(1, keepdim=True)
            missing = {name: each for name, each in parameters.items() if name not in gradients}
            zeros = {name: each.new_zeros(count, *each.shape) for name, each in missing.items()}
        return {name: (gradients | zeros)[name] for name in parameters}

"""What matching asks of a network: one image at a time, two derivatives, batched parameters, no mixing of samples."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ddm_backbones
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from ddm_framework.data.splits import DataInfo
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.stacks import Parameters, take

pytestmark = pytest.mark.filterwarnings("error:.*performance drop")

TINY_VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
NARROW_RESNET = {"channels": (4, 8, 8, 8), "stem_width": 8}


@dataclass(frozen=True)
class Case:
    """A registered backbone, square images, and options that keep it small."""

    backbone: str
    size: int
    channels: int
    options: dict[str, Any]

    def build(self, data: DataInfo) -> nn.Module:
        return importlib.import_module(f"ddm_backbones.{self.backbone}").build(data, **self.options)


TINY = {"width": 2, "blocks": [1, 1, 1, 1]}
SLIM = {"width": 8, "depth": 2, "heads": 2, "mlp_ratio": 1.5}

CASES = {
    "convnet": Case("convnet", 8, 1, {"width": 6, "depth": 2}),
    "convnet-odd-size": Case("convnet", 7, 3, {"width": 6, "depth": 2}),
    "convnet-group": Case("convnet", 8, 3, {"width": 6, "depth": 2, "norm": "group", "groups": 3}),
    "convnet-normal": Case("convnet", 28, 1, {"width": 4, "initialisation": "normal"}),
    "alexnet-28": Case("alexnet", 28, 1, {"width": 2}),
    "alexnet-group": Case("alexnet", 32, 3, {"width": 4, "norm": "group", "groups": 2, "pooling": "average"}),
    "alexnet-64": Case("alexnet", 64, 3, {"width": 2, "initialisation": "xavier"}),
    "resnet-28": Case("resnet", 28, 1, TINY),
    "resnet-group": Case("resnet", 32, 3, {"width": 4, "blocks": [2, 1], "norm": "group", "groups": 2}),
    "resnet-64": Case("resnet", 64, 3, {**TINY, "initialisation": "xavier"}),
    "vit-28": Case("vit", 28, 1, SLIM),
    "vit-token": Case("vit", 32, 3, {**SLIM, "patch_size": 8, "pool": "token"}),
    "vit-64": Case("vit", 64, 3, {**SLIM, "initialisation": "kaiming"}),
    "timm-vit": Case("timm", 16, 3, {"model": "vit_tiny_patch16_224", "arguments": TINY_VIT}),
    "timm-resnet": Case("timm", 16, 1, {"model": "resnet10t", "groups": 4, "arguments": NARROW_RESNET}),
}
SEQUENCES = ("convnet", "alexnet")
"""Backbones that are laid side by side as channels instead of going through a vmap."""


def test_every_registered_backbone_has_a_case() -> None:
    registered = {component.name for component in ddm_backbones.ddm_register_backbones()}
    assert {case.backbone for case in CASES.values()} == registered


@dataclass
class Subject:
    """A network in float64, images and soft labels to try it on, and another network like it."""

    network: nn.Module
    twin: nn.Module
    images: Tensor
    labels: Tensor

    @property
    def parameters(self) -> dict[str, Tensor]:
        return dict(self.network.named_parameters())

    def loss(self, parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(self.network, parameters, (images,)), labels)

    def mismatch(self, image: Tensor, label: Tensor) -> Tensor:
        """A function of one image's gradient, so that its own gradient is of second order."""
        found = grad(self.loss)(self.parameters, image[None], label[None])
        return sum((values.sin() * values).sum() for values in found.values())  # type: ignore[return-value]


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def subject(request: pytest.FixtureRequest, info: Callable[..., DataInfo]) -> Subject:
    case: Case = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        data = info(case.size, case.channels)
        network, twin = (case.build(data).double().eval() for _ in range(2))
        images = torch.randn(3, *data.shape, dtype=torch.float64)
        labels = torch.randn(3, 3, dtype=torch.float64).softmax(1)
    return Subject(network, twin, images, labels)


@pytest.mark.parametrize("training", [True, False])
def test_one_image_gives_logits(subject: Subject, training: bool) -> None:
    logits = subject.network.train(training)(subject.images[:1])
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()


def test_samples_do_not_mix(subject: Subject) -> None:
    together = subject.network(subject.images)
    alone = torch.cat([subject.network(image[None]) for image in subject.images])
    torch.testing.assert_close(together, alone)


def test_another_sample_in_the_batch_changes_no_logit(subject: Subject) -> None:
    other = subject.images.clone()
    other[1] = other[1].flip(-1) * 5
    before, after = subject.network(subject.images), subject.network(other)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], rtol=0, atol=1e-12)
    assert not torch.allclose(before[1], after[1])


def test_no_layer_mixes_samples_or_fuses_attention(subject: Subject) -> None:
    for layer in subject.network.modules():
        assert not isinstance(layer, nn.modules.batchnorm._BatchNorm)
        assert not getattr(layer, "fused_attn", False)


def test_nothing_but_parameters_is_kept_between_calls(subject: Subject) -> None:
    before = {name: value.clone() for name, value in subject.network.train().named_buffers()}
    subject.network(subject.images)
    assert all(torch.equal(value, before[name]) for name, value in subject.network.named_buffers())


def test_first_derivative_is_that_of_the_loss(subject: Subject) -> None:
    random, step = torch.Generator().manual_seed(1), 1e-7  # short, for ReLU's kinks lie densely
    found = grad(subject.loss)(subject.parameters, subject.images, subject.labels)
    for name, values in subject.parameters.items():
        direction = torch.randn(values.shape, dtype=torch.float64, generator=random)
        ahead, behind = (
            subject.loss({**subject.parameters, name: values + sign * step * direction}, subject.images, subject.labels)
            for sign in (1, -1)
        )
        slope = (found[name] * direction).sum()
        torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-7)


def test_second_derivative_is_that_of_the_first(subject: Subject) -> None:
    image, label = subject.images[0], subject.labels[0]
    direction = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slope = (grad(subject.mismatch)(image, label) * direction).sum()
    step = 1e-6
    ahead, behind = (subject.mismatch(image + sign * step * direction, label) for sign in (1, -1))
    assert slope != 0
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-7)


def test_second_order_gradients_of_many_images_at_once(subject: Subject) -> None:
    together = vmap(grad(subject.mismatch))(subject.images, subject.labels)
    alone = [grad(subject.mismatch)(*each) for each in zip(subject.images, subject.labels, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))
    assert torch.isfinite(together).all()


def test_many_networks_at_once(subject: Subject) -> None:
    networks = [subject.network, subject.twin]
    stacked, _ = stack_module_state(networks)
    gradient = grad(subject.loss)
    together = vmap(gradient, in_dims=(0, None, None))(stacked, subject.images, subject.labels)
    alone = [gradient(dict(each.named_parameters()), subject.images, subject.labels) for each in networks]
    for name, values in together.items():
        torch.testing.assert_close(values, torch.stack([each[name] for each in alone]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_stack_in_the_core_has_the_gradients_of_each_network(case: Case, info: Callable[..., DataInfo]) -> None:
    data = info(case.size, case.channels)
    found = [build_network(case.build, data, seed, torch.device("cpu")) for seed in (0, 1)]
    network = found[0][0]
    assert (network.grouped is not None) == (case.backbone in SEQUENCES)
    stack = {name: torch.stack([each[name] for _, each in found]).double() for name in found[0][1]}
    random = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, *data.shape, dtype=torch.float64, generator=random)
    weights = torch.rand(2, 3, dtype=torch.float64, generator=random)
    labels = torch.tensor([[0, 1, 2], [2, 2, 0]])
    together = network.gradients(stack, images, labels, weights)
    for index in range(2):
        loss = functools.partial(_weighted_loss, network, images[index], labels[index], weights[index])
        for name, values in grad(loss)(take(stack, index)).items():
            torch.testing.assert_close(together[name][index], values)


def _weighted_loss(network: Network, images: Tensor, labels: Tensor, weights: Tensor, theta: Parameters) -> Tensor:
    return (network.loss(theta, images, labels) * weights).sum()


def test_initialisation_follows_the_global_generator(info: Callable[..., DataInfo]) -> None:
    for case in CASES.values():
        weights = []
        for seed in (0, 0, 1):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                weights.append(next(case.build(info(case.size, case.channels)).parameters()))
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

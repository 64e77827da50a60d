"""What matching asks of a network: one image at a time, two derivatives, batched parameters, no mixing of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ddm_backbones import convnet
from ddm_backbones import timm as timm_backbone
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from ddm_framework.data import DataInfo

pytestmark = pytest.mark.filterwarnings("error:.*performance drop")

TINY_VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
NARROW_RESNET = {"channels": (4, 8, 8, 8), "stem_width": 8}


@dataclass(frozen=True)
class Case:
    build: Callable[..., nn.Module]
    size: int
    channels: int
    options: dict[str, Any]


CASES = {
    "convnet": Case(convnet.build, 8, 1, {"width": 6, "depth": 2}),
    "convnet-odd-size": Case(convnet.build, 7, 3, {"width": 6, "depth": 2}),
    "convnet-group": Case(convnet.build, 8, 3, {"width": 6, "depth": 2, "norm": "group", "groups": 3}),
    "vit": Case(timm_backbone.build, 16, 3, {"model": "vit_tiny_patch16_224", "arguments": TINY_VIT}),
    "resnet": Case(timm_backbone.build, 16, 1, {"model": "resnet10t", "groups": 4, "arguments": NARROW_RESNET}),
}


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
        network, twin = (case.build(data, **case.options).double().eval() for _ in range(2))
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


def test_nothing_but_parameters_is_kept_between_calls(subject: Subject) -> None:
    before = {name: value.clone() for name, value in subject.network.train().named_buffers()}
    subject.network(subject.images)
    assert all(torch.equal(value, before[name]) for name, value in subject.network.named_buffers())


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


def test_initialisation_follows_the_global_generator(info: Callable[..., DataInfo]) -> None:
    for case in CASES.values():
        weights = []
        for seed in (0, 0, 1):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                weights.append(next(case.build(info(case.size, case.channels), **case.options).parameters()))
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

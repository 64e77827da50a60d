"""Each check of backbones catches a network that breaks it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checked import assert_all_pass, assert_caught, result
from torch import Tensor, nn

from ddm_framework import DataInfo, DDMError
from ddm_framework.testing.checks import CHECKS


def good(data: DataInfo, /) -> nn.Module:
    """A perceptron."""
    return nn.Sequential(nn.Flatten(), nn.Linear(data.num_values, 6), nn.Tanh(), nn.Linear(6, data.num_classes))


class Wrapped(nn.Module):
    """A perceptron with something done to its logits; `change` is called with (module, images, logits)."""

    def __init__(self, data: DataInfo, change: Callable[..., Tensor]) -> None:
        super().__init__()
        self.inner, self.change = good(data), change
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self, images, self.inner(images))


def wrapped(change: Callable[..., Tensor]) -> Callable[..., nn.Module]:
    def build(data: DataInfo, /) -> nn.Module:
        """A perceptron with something done to its logits."""
        return Wrapped(data, change)

    return build


class WrongBackward(torch.autograd.Function):
    """A square whose derivative is forgotten to be doubled."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return values.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        return gradient * values.detach()


def raising(data: DataInfo, /) -> nn.Module:
    """Fails by accident on small images."""
    return nn.Sequential(nn.Conv2d(data.shape[0], 2, 9), nn.Flatten(), nn.LazyLinear(data.num_classes))


def with_batch_norm(data: DataInfo, /) -> nn.Module:
    """Statistics of a batch."""
    return nn.Sequential(nn.Conv2d(data.shape[0], 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))


def seeding(data: DataInfo, /) -> nn.Module:
    """The same weights whatever the seed."""
    torch.manual_seed(3)
    return good(data)


def by_python(data: DataInfo, /) -> nn.Module:
    """A draw from another generator than torch's."""
    network = good(data)
    network.scale = random.random()  # type: ignore[assignment]
    return network


def counting(module: Any, images: Tensor, logits: Tensor) -> Tensor:
    module.seen += 1
    return logits


def with_a_branch(module: Any, images: Tensor, logits: Tensor) -> Tensor:
    return logits if logits.sum() > -1e9 else -logits


class Stored(nn.Module):
    """Uses a value of its own weights that it took when it was built."""

    def __init__(self, data: DataInfo) -> None:
        super().__init__()
        self.inner = good(data)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits * float(next(self.inner.parameters()).detach().sum())


def stored(data: DataInfo, /) -> nn.Module:
    """Reads a weight as a Python number."""
    return Stored(data)


BROKEN: dict[str, Callable[..., nn.Module]] = {
    "check_builds_or_says_why_not": raising,
    "check_core_takes_it": with_batch_norm,
    "check_logits_have_a_row_for_each_image": wrapped(lambda module, images, logits: logits.float()),
    "check_one_image_in_training_mode": wrapped(
        lambda module, images, logits: logits / (len(images) - 1 + (not module.training))
    ),
    "check_samples_do_not_mix": wrapped(lambda module, images, logits: logits - logits.mean(0) * 0.5),
    "check_evaluation_is_repeatable": wrapped(lambda module, images, logits: logits + 1e-3 * torch.rand_like(logits)),
    "check_no_state_between_calls": wrapped(counting),
    "check_second_derivative_is_that_of_the_first": wrapped(lambda module, images, logits: WrongBackward.apply(logits)),
    "check_second_derivatives_of_many_images_at_once": wrapped(with_a_branch),
    "check_many_networks_at_once": stored,
    "check_start_follows_the_seed": seeding,
    "check_leaves_other_randomness_alone": by_python,
}


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_caught(check: str) -> None:
    assert_caught("backbone", check, BROKEN[check])


def test_a_plain_one_passes() -> None:
    assert_all_pass("backbone", good)


def test_a_network_without_a_linear_layer_is_skipped_with_the_reason() -> None:
    def convolutional(data: DataInfo, /) -> nn.Module:
        """Ends in a convolution over the whole image."""
        return nn.Sequential(nn.Conv2d(data.shape[0], data.num_classes, data.shape[1:]), nn.Flatten())

    found = result("backbone", "check_has_penultimate_features", convolutional)
    assert found.outcome == "skipped"
    assert "calls no linear layer" in found.message


def test_one_that_takes_no_shape_is_skipped_with_its_last_reason() -> None:
    def refusing(data: DataInfo, /) -> nn.Module:
        """Takes nothing."""
        raise DDMError(f"not {data.shape}")

    found = result("backbone", "check_samples_do_not_mix", refusing)
    assert found.outcome == "skipped"
    assert found.message.endswith("of the last: not (3, 224, 224)")


def test_one_that_needs_larger_images_is_checked_on_these() -> None:
    def large(data: DataInfo, /) -> nn.Module:
        """Takes 28 x 28 pixels and more."""
        if data.shape[1] < 28:
            raise DDMError("too small")
        return good(data)

    assert_all_pass("backbone", large)


def test_every_check_is_tested_here() -> None:
    assert {*BROKEN, "check_has_penultimate_features"} == {check.name for check in CHECKS["backbone"]}

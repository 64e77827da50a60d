"""Features are pixels, what the last linear layer is given, or a timm model's, each as it was trained to see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.stacks import Parameters
from ddm_framework.offline.features import extract_features, penultimate, timm_features
from ddm_framework.recipe.settings import TimmFeatures

if TYPE_CHECKING:
    from conftest import Toy

CPU = torch.device("cpu")


def built(module: nn.Module, size: int = 4) -> tuple[Network, Parameters]:
    info = DataInfo((1, size, size), 3, (0.5,), (0.25,), ("a", "b", "c"))
    return build_network(lambda _info: module, info, 0, CPU)


def test_pixels_are_the_flat_images(toy: Toy) -> None:
    found = extract_features("pixels", toy.data.images, toy.network, toy.target)
    assert torch.equal(found, toy.data.images.reshape(len(toy.data), 16))


def test_penultimate_features_are_what_the_last_linear_layer_is_given(toy: Toy) -> None:
    images = toy.data.images.repeat(20, 1, 1, 1)
    found = extract_features("target", images, toy.network, toy.target)
    wanted = toy.module(toy.target)[:-1](images)
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=1e-12)
    logits = F.linear(found, toy.target["5.weight"], toy.target["5.bias"])
    torch.testing.assert_close(logits, toy.network(toy.target, images), rtol=0, atol=1e-12)


def test_last_layer_is_the_one_called_last_and_not_the_one_defined_last() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 3)
            self.body = nn.Linear(16, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.body(images.flatten(1)).relu())

    network, parameters = built(Backwards())
    images = torch.randn(7, 1, 4, 4)
    wanted = F.linear(images.flatten(1), parameters["body.weight"], parameters["body.bias"]).relu()
    torch.testing.assert_close(penultimate(network, parameters, images), wanted)


def test_features_of_several_places_are_laid_flat() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images[:, 0]).mean(1)

    images = torch.randn(2, 1, 4, 4)
    assert torch.equal(penultimate(*built(Tokens()), images), images.flatten(1))


def test_nothing_stays_hooked(toy: Toy) -> None:
    penultimate(toy.network, toy.target, toy.data.images)
    assert not any(layer._forward_pre_hooks for layer in toy.network.module.modules())


def test_network_without_a_linear_layer_is_refused() -> None:
    network, parameters = built(nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()))
    wanted = "calls no linear layer, so it has no penultimate features; use `features: pixels`"
    with pytest.raises(DDMError, match=wanted):
        penultimate(network, parameters, torch.zeros(2, 1, 4, 4))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A small timm model with statistics of its own, and the file of its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_resnet")
        model(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(model.state_dict(), path)
    return model.eval(), path


def info_of(channels: int, size: int) -> DataInfo:
    mean, std = (0.2, 0.4, 0.6)[:channels], (0.1, 0.2, 0.3)[:channels]
    return DataInfo((channels, size, size), 3, mean, std, ("a", "b", "c"))


def pooled(model: nn.Module, pixels: Tensor) -> Tensor:
    """timm's own features of pixels in [0, 1], normalised by hand with the 0.5 that this model was trained with."""
    with torch.no_grad():
        return model.forward_head(model.forward_features((pixels - 0.5) / 0.5), pre_logits=True)


def test_timm_model_sees_pixels_normalised_as_it_was_trained(pretrained: tuple[nn.Module, Path]) -> None:
    model, path = pretrained
    pixels, info = torch.rand(5, 3, 32, 32), info_of(3, 32)
    settings = TimmFeatures(timm="test_resnet", checkpoint=path, size=32)
    found = timm_features(settings, info.normalise(pixels), info)
    torch.testing.assert_close(found, pooled(model, pixels), rtol=1e-4, atol=1e-4)


def test_single_channel_is_repeated_and_small_images_are_resized(pretrained: tuple[nn.Module, Path]) -> None:
    model, path = pretrained
    pixels, info = torch.rand(3, 1, 8, 8), info_of(1, 8)
    for size in (None, 48):
        settings = TimmFeatures(timm="test_resnet", checkpoint=path, size=size)
        found = timm_features(settings, info.normalise(pixels), info)
        resized = F.interpolate(pixels, size=(size or 160,) * 2, mode="bicubic", antialias=True)
        wanted = pooled(model, resized.expand(-1, 3, -1, -1))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert found.dtype == torch.float32


def test_extracting_by_timm_settings(toy: Toy, pretrained: tuple[nn.Module, Path]) -> None:
    settings = TimmFeatures(timm="test_resnet", checkpoint=pretrained[1], size=32)
    found = extract_features(settings, toy.data.images[:2].float(), toy.network, toy.target)
    assert found.shape == (2, pretrained[0].num_features)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "test_resnett",
            r"features: timm .* has no model 'test_resnett'; did you mean 'test_resnet'.*\(timm\.list_mod",
        ),
        ("hf-hub:someone/something", "has no model 'hf-hub:someone/something'"),
        ("test_efficientnet", r"features: 'test_efficientnet' with .*test_resnet\.safetensors: Error\(s\) in loading"),
    ],
)
def test_model_that_does_not_fit_is_named(pretrained: tuple[nn.Module, Path], model: str, message: str) -> None:
    settings = TimmFeatures(timm=model, checkpoint=pretrained[1])
    with pytest.raises(DDMError, match=message):
        timm_features(settings, torch.zeros(1, 3, 8, 8), info_of(3, 8))


def test_missing_file_is_named(tmp_path: Path) -> None:
    settings = TimmFeatures(timm="test_resnet", checkpoint=tmp_path / "none.safetensors")
    with pytest.raises(DDMError, match=r"there is no file .*none\.safetensors with weights of 'test_resnet'"):
        timm_features(settings, torch.zeros(1, 3, 8, 8), info_of(3, 8))


def test_images_that_the_model_does_not_take_are_refused(pretrained: tuple[nn.Module, Path]) -> None:
    settings = TimmFeatures(timm="test_resnet", checkpoint=pretrained[1], size=32)
    with pytest.raises(DDMError, match=r"clusterer\.features: 'test_resnet' with .*: .*size of tensor"):
        timm_features(settings, torch.zeros(1, 2, 8, 8), info_of(2, 8))

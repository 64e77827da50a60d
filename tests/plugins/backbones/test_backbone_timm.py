"""timm's classifiers: what is changed in them, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from ddm_backbones.timm import build
from torch import nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.networks import build_network

Info = Callable[..., DataInfo]


@pytest.mark.parametrize("model", ["resnet18", "test_resnet", "test_efficientnet"])
def test_batch_norms_are_gone(info: Info, model: str) -> None:
    original = timm.create_model(model, num_classes=3)
    network = build(info(32, 3), model=model)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())
    assert len(norms) == sum(isinstance(layer, nn.BatchNorm2d) for layer in original.modules())
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in original.named_parameters()}


def test_channels_classes_and_groups(info: Info) -> None:
    network = build(info(32, 1, 7), model="resnet10t", groups=4)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert {layer.num_groups for layer in network.modules() if isinstance(layer, nn.GroupNorm)} == {4}
    assert not network.training


def test_attention_is_not_fused_here_and_as_before_elsewhere(info: Info) -> None:
    small = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    before = timm.layers.use_fused_attn()
    network = build(info(16, 3), model="vit_tiny_patch16_224", arguments=small)
    assert [layer.fused_attn for layer in network.modules() if hasattr(layer, "fused_attn")] == [False]
    assert timm.layers.use_fused_attn() == before


def test_unknown_model_gets_near_names(info: Info) -> None:
    with pytest.raises(DDMError, match=r"has no model 'resnet81'; did you mean 'resnet18'.*\(timm\.list_models\(\)"):
        build(info(), model="resnet81")


def test_names_that_would_fetch_from_elsewhere_are_unknown(info: Info) -> None:
    with pytest.raises(DDMError, match="has no model 'hf-hub:someone/something'"):
        build(info(), model="hf-hub:someone/something")


def test_bad_argument(info: Info) -> None:
    with pytest.raises(
        DDMError, match=r"resnet18 cannot be created: .*unexpected keyword.*img_siz.*; check `arguments`"
    ):
        build(info(), arguments={"img_siz": 32})


@pytest.mark.parametrize("name", ["num_classes", "in_chans", "pretrained", "pretrained_cfg_overlay", "checkpoint_path"])
def test_arguments_that_others_decide(info: Info, name: str) -> None:
    with pytest.raises(DDMError, match=f"`{name}` does not belong in `arguments`; the data set sets channels"):
        build(info(), arguments={name: 3})


def test_failed_download_says_how_to_place_the_weights(info: Info, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    wanted = r"cannot be created: no route to host; .* fetch the weights of resnet18 elsewhere .* `checkpoint:`"
    with pytest.raises(DDMError, match=wanted):
        build(info(), pretrained=True)


def test_two_sources_of_weights(info: Info, tmp_path: Any) -> None:
    with pytest.raises(DDMError, match="`pretrained: true` and `checkpoint` exclude each other"):
        build(info(), pretrained=True, checkpoint=tmp_path / "w.pt")


def test_remaining_batch_norm(info: Info) -> None:
    with pytest.raises(DDMError, match=r"levit_128s keeps statistics of the batch in stages\.0.* take another model"):
        build(info(224, 3), model="levit_128s")


def test_image_that_does_not_fit(info: Info) -> None:
    wanted = r"vit_tiny_patch16_224 fails on one image of 3x16x16: .*; .*`arguments: \{img_size: 16, patch_size: 4\}`"
    with pytest.raises(DDMError, match=wanted):
        build(info(16, 3), model="vit_tiny_patch16_224", arguments={"depth": 1})


def test_network_that_is_no_classifier(info: Info) -> None:
    with pytest.raises(DDMError, match=r"resnet10t turns one image of 3x32x32 into list, not into \(1, 3\) logits"):
        build(info(32, 3), model="resnet10t", arguments={"features_only": True})


def test_logits_of_another_shape(info: Info, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm.models.ResNet, "forward", timm.models.ResNet.forward_features)
    with pytest.raises(DDMError, match=r"into shape \(1, 512, 1, 1\), not into \(1, 3\) logits; fit it to the images"):
        build(info(32, 3), model="resnet10t")


class Undone(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, slope: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("this function has no second derivative")


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, slope: torch.Tensor) -> Any:
        return Undone.apply(slope)  # type: ignore[no-untyped-call]


class Once(nn.Module):
    """A layer whose derivative has none."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, values: torch.Tensor) -> Any:
        return Slope.apply(values)  # type: ignore[no-untyped-call]


def test_network_without_a_second_derivative(info: Info) -> None:
    with pytest.raises(DDMError, match=r"resnet10t is not twice differentiable.*take another model"):
        build(info(32, 3), model="resnet10t", arguments={"act_layer": Once})


@pytest.mark.parametrize("model", ["lcnet_035", "tf_mobilenetv3_small_minimal_100", "mobilenetv3_small_050"])
def test_hard_sigmoids_and_hard_swishes_have_second_derivatives(info: Info, model: str) -> None:
    network, initial = build_network(lambda data: build(data, model=model), info(32, 3), 0, torch.device("cpu"))
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    leaves = {name: each.requires_grad_() for name, each in initial.items()}
    slopes = torch.autograd.grad(network(leaves, images).square().sum(), list(leaves.values()), create_graph=True)
    (second,) = torch.autograd.grad(sum(each.square().sum() for each in slopes), images)
    assert bool(torch.isfinite(second).all()) and float(second.abs().max()) > 0


@pytest.mark.parametrize("model", ["resnet10t", "test_efficientnet", "levit_128s"])
def test_a_frozen_batch_norm_is_what_was_trained(info: Info, tmp_path: Path, model: str) -> None:
    size = 224 if model == "levit_128s" else 32
    torch.manual_seed(0)
    original = timm.create_model(model, num_classes=3)
    original(torch.randn(4, 3, size, size))  # gathers statistics
    original.eval()
    torch.save(original.state_dict(), tmp_path / "w.pt")
    network = build(info(size, 3), model=model, norm="frozen", checkpoint=tmp_path / "w.pt")
    images = torch.randn(2, 3, size, size)
    torch.testing.assert_close(network(images), original(images), rtol=1e-5, atol=1e-5)


def test_a_frozen_batch_norm_needs_statistics(info: Info) -> None:
    def make(data: DataInfo) -> nn.Module:
        return build(data, model="resnet10t", norm="frozen")

    with pytest.raises(
        DDMError, match=r"batch norm at 'conv1\.1': it mixes .* start from weights that were trained with it"
    ):
        build_network(make, info(32, 3), 0, torch.device("cpu"))
    network, _ = build_network(make, info(32, 3), 0, torch.device("cpu"), brought=True)
    assert any("Batch norm" in note for note in network.notes)


def test_statistics_are_left_out_where_group_norm_stands(info: Info, tmp_path: Path) -> None:
    original = timm.create_model("resnet10t", num_classes=3)
    torch.save(original.state_dict(), tmp_path / "w.pt")
    network = build(info(32, 3), model="resnet10t", checkpoint=tmp_path / "w.pt")
    assert torch.equal(network.get_parameter("conv1.0.weight"), original.get_parameter("conv1.0.weight"))

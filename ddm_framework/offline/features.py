"""Features that samples are clustered on: pixels, the target's penultimate layer, or a timm model's (Sec. 6.1)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddm_framework.data.images import Images
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError, suggestion
from ddm_framework.files import is_file
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters
from ddm_framework.recipe.settings import TimmFeatures

_BATCH = 256


def extract_features(
    kind: Literal["target", "pixels"] | TimmFeatures, images: Images, network: Network, target: Parameters
) -> Tensor:
    """Features (N, D), float32, on the CPU.

    Args:
        kind: where they come from.
        images: network inputs (N, C, H, W).
        network: the target's architecture.
        target: its trained parameters.
    """
    if kind == "pixels":
        return torch.cat([batch.flatten(1).cpu() for batch in images.split(_BATCH)])
    if kind == "target":
        return penultimate(network, target, images)
    return timm_features(kind, images, network.info)


def penultimate(network: Network, parameters: Parameters, images: Images) -> Tensor:
    """The input of the last linear layer that the network calls, (N, D), float32, on the CPU.

    Raises:
        DDMError: if the network calls no linear layer.
    """
    seen: list[Tensor] = []

    def remember(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = [inputs[0]]

    layers = [module for module in network.module.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    collected = []
    try:
        with torch.no_grad():
            for batch in images.split(_BATCH):
                network.run(parameters, batch)
                if not seen:
                    raise DDMError(
                        "the backbone calls no linear layer, so it has no penultimate features; use `features: pixels`"
                    )
                collected.append(seen[0].reshape(len(batch), -1).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(collected)


def timm_features(settings: TimmFeatures, images: Images, info: DataInfo) -> Tensor:
    """Pooled features (N, D) of a timm model with weights from a local file.

    Images are resized to the model's own input size (or `size`) and normalised as in its training; a single
    channel is repeated.

    Raises:
        DDMError: if timm does not know the model, the file does not hold its weights, or it does not take the images.
    """
    import timm

    # timm would try to download a model of any other name.
    if not timm.is_model(settings.timm):
        raise DDMError(
            f"clusterer.features: timm {timm.__version__} has no model {settings.timm!r}"
            f"{suggestion(settings.timm, timm.list_models())} (timm.list_models() lists them)"
        )
    if not is_file(settings.checkpoint):
        raise DDMError(f"clusterer.features: there is no file {settings.checkpoint} with weights of {settings.timm!r}")
    try:
        return _pooled(settings, images, info)
    except Exception as error:  # the file or the model's layers can raise anything
        text = " ".join(str(error).split())
        raise DDMError(f"clusterer.features: {settings.timm!r} with {settings.checkpoint}: {text[:300]}") from error


def _pooled(settings: TimmFeatures, images: Images, info: DataInfo) -> Tensor:
    import timm
    from timm.data.config import resolve_model_data_config

    model: Any = timm.create_model(settings.timm, pretrained=False, checkpoint_path="")
    timm.models.load_checkpoint(model, str(settings.checkpoint), weights_only=True)
    model.reset_classifier(0)
    model = model.eval().to(images.device)
    config: dict[str, Any] = resolve_model_data_config(model)
    size = settings.size or config["input_size"][-1]
    mean = torch.tensor(config["mean"], device=images.device)[:, None, None]
    std = torch.tensor(config["std"], device=images.device)[:, None, None]
    collected = []
    with torch.no_grad():
        for batch in images.split(_BATCH // 4):
            pixels = info.to_pixels(batch)
            pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
            resized = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
            collected.append(model((resized - mean) / std).float().cpu())
    return torch.cat(collected)

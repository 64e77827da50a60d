"""Every classifier of timm by name, adapted for matching: group or frozen batch norm, no fused attention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ddm_backbones.initialisations import initialise
from ddm_framework import DDMError, suggestion
from ddm_framework.data import DataInfo
from ddm_framework.network import Kernels

RESERVED = ("num_classes", "in_chans", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path")
"""Arguments of `timm.create_model` that the data set and the options of `build` decide."""


def build(
    data: DataInfo,
    /,
    *,
    model: str = "resnet18",
    pretrained: bool = False,
    checkpoint: Path | None = None,
    norm: Literal["group", "frozen"] = "group",
    groups: Annotated[int, Field(ge=1)] = 8,
    arguments: dict[str, Any] | None = None,
    initialisation: Literal["default", "kaiming", "normal", "xavier"] = "default",
) -> nn.Module:
    """A classifier of timm in evaluation mode, with group norm instead of batch norm or with its statistics frozen.

    Attention is not fused, since fused attention has no second derivative. With `norm: group`, weights trained with
    batch norm keep their scale and shift but lose its statistics, so they are a starting point for training, not a
    trained network. With `norm: frozen` the network is what was trained: each batch norm is a constant scale and shift
    by the statistics that come with the weights, as in evaluation mode, also while ddm trains it on.

    Args:
        data: shape of an image and number of classes.
        model: its name in timm, such as `resnet18` or `vit_tiny_patch16_224`.
        pretrained: start from timm's weights, which are downloaded.
        checkpoint: start from a local state dict, `.safetensors`, `.pt` or `.pth`. A head for another number of
            classes is not loaded.
        norm: `group` replaces batch norm, for networks that are trained from scratch. `frozen` keeps it with the
            statistics of weights that were trained with it: `pretrained`, `checkpoint` or a network trained elsewhere
            (`target`).
        groups: of the group norms; if it does not divide the channels, the next lower number that does.
        arguments: passed to `timm.create_model`, such as `{img_size: 32, patch_size: 4}` for a ViT.
        initialisation: of the weights; `default` is the model's own, and the only choice if weights are loaded.
    Returns:
        (B, C, H, W) -> logits (B, classes).
    Raises:
        DDMError: if timm does not know or cannot create the network, weights cannot be loaded or do not fit, a layer
            mixes the samples of a batch or has no second derivative, or the data set's images do not fit.
    Source: Sec. 4.1, Table 5; Wightman, PyTorch Image Models, 2019.
    """
    # Imported here, so that checking a recipe does not wait for timm.
    from ddm_backbones.attention import unfuse_attention
    from ddm_backbones.checkpoint import load_checkpoint
    from ddm_backbones.group_norms import mixing_layers, replace_batch_norms

    if pretrained and checkpoint is not None:
        raise DDMError("backbone timm: `pretrained: true` and `checkpoint` exclude each other; drop one")
    if initialisation != "default" and (pretrained or checkpoint is not None):
        loaded = "pretrained: true" if pretrained else f"checkpoint: {checkpoint}"
        raise DDMError(
            f"backbone timm: `initialisation: {initialisation}` would overwrite the weights of `{loaded}`; drop one"
        )
    network = _create(model, data, pretrained, arguments or {})
    if norm == "group":
        replace_batch_norms(network, groups)
    mixing = mixing_layers(network) if norm == "group" else []
    if mixing:
        raise DDMError(
            f"backbone timm: {model} keeps statistics of the batch in {', '.join(mixing[:3])}"
            f" ({len(mixing)} in all) that no group norm can replace; take another model, or `norm: frozen` with"
            " weights that were trained"
        )
    unfuse_attention(network)
    initialise(network, initialisation)
    if checkpoint is not None:
        heads, stems = _named(network, "classifier"), _named(network, "first_conv")
        load_checkpoint(network, checkpoint, heads=heads, stems=stems)
    _try_out(network.eval(), model, data)
    return network


def _create(model: str, data: DataInfo, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(model):
        known = timm.list_models()
        raise DDMError(
            f"backbone timm: timm {timm.__version__} has no model {model!r}{suggestion(model, known)}"
            " (timm.list_models() lists them)"
        )
    reserved = [name for name in RESERVED if name in arguments]
    if reserved:
        raise DDMError(
            f"backbone timm: `{reserved[0]}` does not belong in `arguments`; the data set sets channels and classes,"
            " the options `pretrained` and `checkpoint` the weights"
        )
    try:
        network: nn.Module = timm.create_model(
            model, pretrained=pretrained, in_chans=data.shape[0], num_classes=data.num_classes, **arguments
        )
    except Exception as error:  # a constructor or a download can raise anything
        advice = (
            f"without internet access, fetch the weights of {model} elsewhere (https://huggingface.co/timm) and set"
            " `checkpoint:` to the file in place of `pretrained: true`"
            if pretrained
            else "check `arguments`"
        )
        reason = str(error).rstrip(".")
        raise DDMError(f"backbone timm: {model} cannot be created: {reason}; {advice}") from error
    return network


def _named(network: Any, role: str) -> tuple[str, ...]:
    """Names of the modules with a role in timm's description of a network, such as `classifier`."""
    names = network.pretrained_cfg.get(role) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _try_out(network: nn.Module, model: str, data: DataInfo) -> None:
    """Refuse a network that cannot be matched on images of this shape, before it is trained.

    Raises:
        DDMError: with what went wrong and what to change.
    """
    shape = "x".join(map(str, data.shape))
    advice = (
        "fit it to the images by `arguments` (a ViT by its img_size and patch_size, as in"
        f" `arguments: {{img_size: {data.shape[-1]}, patch_size: 4}}`), or take another model"
    )
    image = torch.zeros(1, *data.shape, requires_grad=True)
    try:
        logits = network(image)
    except Exception as error:  # its layers can raise anything
        raise DDMError(f"backbone timm: {model} fails on one image of {shape}: {error}; {advice}") from error
    if not isinstance(logits, Tensor) or logits.shape != (1, data.num_classes):
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise DDMError(
            f"backbone timm: {model} turns one image of {shape} into {found}, not into"
            f" (1, {data.num_classes}) logits; {advice}"
        )
    try:
        with Kernels(hard=True).chosen():  # as the core computes a hard sigmoid
            logits = network(image)
        (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        torch.autograd.grad(slope.sum(), image, allow_unused=True)
    except RuntimeError as error:
        raise DDMError(
            f"backbone timm: {model} is not twice differentiable, as matching gradients needs: {error};"
            " take another model, or another `act_layer` in `arguments`"
        ) from error

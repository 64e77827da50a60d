"""Weights from a local file into a network, all of them or an error; reading them runs no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ddm_framework.errors import DDMError

SUFFIXES = (".safetensors", ".pt", ".pth")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What a batch norm keeps beside its weights."""


def load_checkpoint(model: nn.Module, path: Path, *, heads: Sequence[str], stems: Sequence[str]) -> None:
    """Copy a state dict into a network whose batch norms have been replaced.

    Statistics of batch norms are passed over. A head of another number of classes, or none, leaves the network's own
    head as it is. The first convolution is adapted to the number of channels as timm does it.

    Args:
        model: changed in place.
        path: a `.safetensors`, `.pt` or `.pth` file.
        heads: names of the classifier's modules.
        stems: names of the first convolutions.
    Raises:
        DDMError: if the file cannot be read, or other weights are missing, unknown or of another shape.
    """
    own = model.state_dict()
    state = {name: value for name, value in read_state(path).items() if name.rpartition(".")[2] not in STATISTICS}
    for name in [f"{stem}.weight" for stem in stems]:
        if name in own and name in state and state[name].ndim == 4 and state[name].shape[1] == 3 != own[name].shape[1]:
            state[name] = adapt_input_conv(own[name].shape[1], state[name])
    head = {name for name in {*own, *state} if name.startswith(tuple(f"{each}." for each in heads))}
    if any(_shape(own, name) != _shape(state, name) for name in head):
        state = {name: value for name, value in state.items() if name not in head}
        state |= {name: own[name] for name in head if name in own}
    problems = {
        "lacks": [name for name in own if name not in state],
        "has unknown": [name for name in state if name not in own],
        "has another shape of": [name for name in own if name in state and _shape(own, name) != _shape(state, name)],
    }
    found = "; ".join(f"it {what} {_some(names)}" for what, names in problems.items() if names)
    if found:
        raise DDMError(f"checkpoint {path} does not fit the network: {found}; check `model` and `arguments`")
    model.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; one that wraps them as `state_dict` or `model` is unwrapped.

    Raises:
        DDMError: if it is missing, of another kind, damaged, or holds more than tensors.
    """
    if path.suffix not in SUFFIXES:
        raise DDMError(f"checkpoint {path} must end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DDMError(f"checkpoint {path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever it runs into
        raise DDMError(
            f"checkpoint {path} is damaged, or holds Python objects, which could run code when read;"
            " save `model.state_dict()` as .safetensors"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise DDMError(f"checkpoint {path} is no state dict, a mapping from names to tensors")
    return dict(content)


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

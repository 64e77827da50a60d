"""Read weights that were saved elsewhere, without running code from the file, and fit all of them to a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.files import FileError, check_file
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters
from ddm_framework.resources import check_fits

SUFFIXES = (".safetensors", ".pt", ".pth")
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the state dict among other things."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that torch's DataParallel and compile add to every name."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; one that wraps them, as in `{"state_dict": ...}`, is unwrapped.

    Raises:
        DDMError: if the file is missing, of another kind, damaged, or holds anything but tensors.
    """
    if path.suffix not in SUFFIXES:
        raise DDMError(f"checkpoint {path} must end in {', '.join(SUFFIXES)}")
    try:
        check_fits(check_file(path), f"checkpoint {path}", "name a smaller file")
    except FileError as error:
        raise DDMError(f"checkpoint {error}") from None
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise DDMError(
            f"checkpoint {path} is damaged, or holds Python objects, which could run code when read;"
            " save `model.state_dict()` as .safetensors"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise DDMError(f"checkpoint {path} is not a state dict, a mapping from names to tensors")
    return dict(content)


def shape_of(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    """Shape of a tensor; None if the state does not hold it."""
    return state[name].shape if name in state else None


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How a state differs from the one that a network has, in words; empty if it fits."""
    problems = {
        "lacks": [name for name in own if name not in state],
        "has unknown": [name for name in state if name not in own],
        "has another shape of": [
            name for name in own if name in state and shape_of(own, name) != shape_of(state, name)
        ],
    }
    return "; ".join(f"it {what} {_some(names)}" for what, names in problems.items() if names)


def fitted(network: Network, initial: Parameters, state: Mapping[str, Tensor], path: Path) -> Parameters:
    """Parameters of the network from a state dict, float32.

    Args:
        network: the architecture.
        initial: parameters that it was built with.
        state: of the checkpoint.
        path: for messages.
    Raises:
        DDMError: if weights are missing, unknown, not finite or of another shape, if the state comes from a network
            with batch norm, or if constants of the network differ from those that it was built with.
    """
    state = _without_prefixes(state)
    if statistics := [name for name in state if name.endswith("running_var")]:
        raise DDMError(
            f"checkpoint {path} holds batch-norm statistics ({statistics[0]}): batch norm mixes the samples of a batch,"
            " and those of one synthetic image mean nothing; ddm needs a network with instance, group or layer norm"
        )
    found = misfit({**initial, **network.buffers}, {**network.buffers, **state})
    if found:
        raise DDMError(f"checkpoint {path} does not fit the backbone: {found}; check `backbone` and its options")
    for name, constant in network.buffers.items():
        if name in state and not torch.allclose(state[name].to(constant), constant):
            raise DDMError(f"checkpoint {path}: {name} differs from what the backbone builds, and ddm keeps it fixed")
    if broken := [name for name in initial if not torch.isfinite(state[name]).all()]:
        raise DDMError(f"checkpoint {path}: {broken[0]} holds NaN or infinity")
    return {name: state[name].to(each) for name, each in initial.items()}


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): each for name, each in state.items()}
    return dict(state)


def _some(names: Sequence[str] | Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")

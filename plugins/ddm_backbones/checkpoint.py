"""Load weights from a local file into a network, all of them or none; reading them runs no code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from timm.models import adapt_input_conv
from torch import nn

from ddm_framework import DDMError
from ddm_framework.network import misfit, read_state, shape_of

COUNTER = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var", COUNTER)
"""What the state of a batch norm holds beside its weights."""


def load_checkpoint(model: nn.Module, path: Path, *, heads: Sequence[str], stems: Sequence[str]) -> None:
    """Copy a state dict into a network.

    Statistics of batch norms that have been replaced are ignored. If the file has no head, or one for another number of
    classes, the head of the network stays as it is. The first convolution is adapted to the number of channels as timm
    does.

    Args:
        model: changed in place.
        path: of a file, in any of the ways in which weights are saved.
        heads: names of the classifier's modules.
        stems: names of the first convolutions.
    Raises:
        DDMError: if the file cannot be read, or other weights are missing, unknown or of another shape.
    """
    own = model.state_dict()
    found = read_state(path)
    state = {name: each for name, each in found.items() if name in own or name.rpartition(".")[2] not in STATISTICS}
    state |= {name: own[name] for name in own if name.endswith(COUNTER) and name not in state}  # it changes nothing
    for name in [f"{stem}.weight" for stem in stems]:
        if name in own and name in state and state[name].ndim == 4 and state[name].shape[1] == 3 != own[name].shape[1]:
            state[name] = adapt_input_conv(own[name].shape[1], state[name])
    head = {name for name in {*own, *state} if name.startswith(tuple(f"{each}." for each in heads))}
    if any(shape_of(own, name) != shape_of(state, name) for name in head):
        state = {name: value for name, value in state.items() if name not in head}
        state |= {name: own[name] for name in head if name in own}
    if found := misfit(own, state):
        raise DDMError(f"checkpoint {path} does not fit the network: {found}; check `model` and `arguments`")
    model.load_state_dict(state)

"""The bank of exact retrainings: each network is trained once and stored in a file named by what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ddm_framework.errors import RunFolderError
from ddm_framework.network import Parameters
from ddm_framework.network.stacks import joined
from ddm_framework.runs import load_tensors, save_tensors
from ddm_framework.runs.tensor_files import check_tensors, prefixed, under

Coupling = Literal["same_order", "independent"]
"""How a retraining relates to the target. `same_order`: the same θ_0 and batch order. `independent`: its own θ_0 and
batch order, as when training again from scratch."""

_WEIGHTS = "parameters."


@dataclass(frozen=True, slots=True)
class Retraining:
    """A network to retrain exactly.

    Attributes:
        kept: bool (N,), the training samples that it keeps.
        seed: of θ_0 and of the batch order; the seed of the recipe gives those of the target.
    """

    kept: Tensor
    seed: int

    def address(self, training: str) -> str:
        """Name of its file: a digest of the inputs of the training stage (data and settings), the mask and the seed."""
        bits = np.packbits(self.kept.cpu().numpy()).tobytes()
        told = json.dumps([training, len(self.kept), self.seed]).encode()
        return hashlib.sha256(told + bits).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Bank:
    """Exactly retrained networks.

    Attributes:
        files: one per network, R in all; some may be the same.
        device: where networks are loaded to.
        constants: of θ_τ, for those networks that have none of their own where others have.
    """

    files: tuple[Path, ...]
    device: torch.device
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def load(self, rows: slice) -> Parameters:
        """Some of the networks, stacked, with the constants that are their own."""
        loaded = [under(load_tensors(file), _WEIGHTS) for file in self.files[rows]]
        own = [{name: each.to(self.device) for name, each in network.items()} for network in loaded]
        return joined(own, self.constants)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that the networks took to train; each file counts once."""
        return sum(float(load_tensors(file, ["seconds"])["seconds"]) for file in set(self.files))


def save_network(file: Path, parameters: Parameters, seconds: float) -> None:
    """Save a finished network and its share of the time."""
    tensors = {**prefixed(parameters, _WEIGHTS), "seconds": torch.tensor(seconds, dtype=torch.float64)}
    save_tensors(file, tensors, {"network": file.stem})


def is_whole(file: Path, like: Parameters) -> bool:
    """Whether the network is there, with weights as those of `like`; a file that is damaged or edited is made again."""
    wanted = {**prefixed(like, _WEIGHTS), "seconds": torch.tensor(0.0, dtype=torch.float64)}
    try:
        check_tensors(file, stamp={"network": file.stem}, like=wanted)
    except RunFolderError:
        return False
    return True

"""The bank of exact retrainings: each network is trained once and lies in a file of its own, found by what made it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ddm_framework.artifacts import check_tensors, load_tensors, save_tensors
from ddm_framework.errors import DDMError, RunFolderError
from ddm_framework.networks import Parameters, network_chunks
from ddm_framework.partition import Partition
from ddm_framework.randomness import derive_seed

if TYPE_CHECKING:
    from ddm_framework.effects import Queries
    from ddm_framework.workspace import Workspace

Coupling = Literal["same_order", "independent"]
"""`same_order`: from the target's own θ_0 in its own batch order. `independent`: each from a θ_0 and in an order of its
own, as somebody would get who trains again."""

_WEIGHTS = "parameters."


@dataclass(frozen=True, slots=True)
class Retraining:
    """One network to be trained exactly.

    Attributes:
        kept: bool (N,), the training samples that are there.
        seed: of θ_0 and of the batch order; the recipe's own seed gives the target's.
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
        files: of each of R networks, some perhaps the same.
        device: where networks are loaded to.
    """

    files: tuple[Path, ...]
    device: torch.device

    def __len__(self) -> int:
        return len(self.files)

    def load(self, rows: slice) -> Parameters:
        """Some of the networks, stacked."""
        loaded = [_under(load_tensors(file)) for file in self.files[rows]]
        return {name: torch.stack([each[name] for each in loaded]).to(self.device) for name in loaded[0]}

    @property
    def seconds(self) -> float:
        """What it took to make them, on the wall, when they were made; each file counts once."""
        return sum(float(load_tensors(file, ["seconds"])["seconds"]) for file in set(self.files))


def retrained(
    workspace: Workspace,
    perturbations: Tensor,
    *,
    partition: Partition | None = None,
    coupling: Coupling = "same_order",
    replicate: int | Sequence[int] = 0,
) -> Bank:
    """Networks trained exactly on perturbed data; what the bank holds already is not trained again.

    Args:
        workspace: a run whose target is trained.
        perturbations: (R, K); 0 = the cluster is deleted.
        partition: whose clusters they are; the run's own by default.
        coupling: with the target.
        replicate: number of an independent repetition, or one a row; with `same_order` there is nothing to repeat.
    Raises:
        DDMError: if the target was trained elsewhere, a training diverges or the disk is full; what was finished stays.
    Source: Sec. 4.1, "exact-unlearn network"; Eq. 10.
    """
    if workspace.recipe.target.checkpoint is not None:
        raise DDMError(
            "exact retraining needs the training that made the target, and this one was trained elsewhere"
            " (`target.checkpoint`); let `training` train it, or ask for methods that need no retraining"
        )
    begun = time.monotonic()
    clusters = (partition or workspace.partition).clusters.cpu()
    numbers = [replicate] * len(perturbations) if isinstance(replicate, int) else replicate
    wanted = [
        Retraining(row.bool()[clusters], _seed(workspace, row, coupling, number))
        for row, number in zip(perturbations.cpu(), numbers, strict=True)
    ]
    training = str(workspace.root.manifest["stages"]["training"]["hash"])
    files = [bank_folder(workspace) / f"{each.address(training)}.safetensors" for each in wanted]
    missing = {file: each for file, each in zip(files, wanted, strict=True) if not _is_whole(file)}
    if missing:
        from ddm_framework.workers import train_missing

        train_missing(workspace, missing)
    bank = Bank(tuple(files), workspace.device)
    workspace.ledger.enter(time.monotonic() - begun, bank.seconds)
    return bank


def bank_folder(workspace: Workspace) -> Path:
    """Beside the run folder, so that runs with one target share it."""
    return workspace.root.path.resolve().parent / "bank"


def bank_logits(workspace: Workspace, bank: Bank, queries: Queries) -> Tensor:
    """Logits (R, N, classes) of all networks of a bank."""
    parts = network_chunks(workspace.network, len(bank), workspace.recipe.general.memory_mb)
    return torch.cat([workspace.network.logits(bank.load(part), queries.images) for part in parts])


def save_network(file: Path, parameters: Parameters, seconds: float) -> None:
    """One finished network and its share of the time."""
    tensors = {f"{_WEIGHTS}{name}": each for name, each in parameters.items()}
    save_tensors(file, {**tensors, "seconds": torch.tensor(seconds, dtype=torch.float64)}, {"network": file.stem})


def _is_whole(file: Path) -> bool:
    """Whether the network is there; a damaged file is made again."""
    try:
        check_tensors(file, ["seconds"], {"network": file.stem})
    except RunFolderError:
        return False
    return True


def _under(tensors: Parameters) -> Parameters:
    return {name.removeprefix(_WEIGHTS): each for name, each in tensors.items() if name.startswith(_WEIGHTS)}


def _seed(workspace: Workspace, row: Tensor, coupling: Coupling, replicate: int) -> int:
    seed = workspace.recipe.general.seed
    if coupling == "same_order":
        return seed
    return derive_seed(seed, "independent", replicate, *row.int().tolist())

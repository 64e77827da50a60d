"""Networks retrained exactly on perturbed data; what the bank holds already is not trained again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.offline import Partition
from ddm_framework.online import Queries
from ddm_framework.randomness import derive_seed
from ddm_framework.runs import Workspace, account
from ddm_framework.truth.bank import Bank, Coupling, Retraining, is_whole, save_network
from ddm_framework.truth.trained import train_missing


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
        partition: of the clusters; that of the run by default.
        coupling: with the target.
        replicate: number of an independent repetition, or one per row; has no effect with `same_order`.
    Raises:
        DDMError: if the target was trained elsewhere and its training is not known, a training diverges or the disk is
            full; finished networks stay.
    Source: Sec. 4.1, "exact-unlearn network"; Eq. 10.
    """
    need_retraining(workspace)
    if workspace.own_training is not None and coupling != "same_order":
        raise DDMError(
            "independent retrainings differ in their seed, and train_function takes none; ask for what compares with"
            " the same training alone"
        )
    begun = time.monotonic()
    numbers = [replicate] * len(perturbations) if isinstance(replicate, int) else replicate
    clusters = (partition or workspace.partition).clusters.cpu()
    wanted = [
        Retraining(row.bool()[clusters], _seed(workspace, row, coupling, number))
        for row, number in zip(perturbations.cpu(), numbers, strict=True)
    ]
    files = _files(workspace, wanted)
    missing = {file: each for file, each in zip(files, wanted, strict=True) if not is_whole(file, workspace.untrained)}
    if missing:
        (train_missing if workspace.own_training is None else train_by_function)(workspace, missing)
    bank = Bank(tuple(files), workspace.device, workspace.network.buffers)
    account.enter(time.monotonic() - begun, bank.seconds)
    return bank


def need_retraining(workspace: Workspace) -> None:
    """Refuse a target that cannot be trained again.

    Raises:
        DDMError: if it was trained elsewhere, and its training is not known.
    """
    if not workspace.can_retrain:
        raise DDMError(
            "exact retraining needs the training that made the target, and this one was trained elsewhere"
            " (`target.checkpoint`); let `training` train it, bring a train_function with it (from_module), or ask for"
            " methods that need no retraining"
        )


def is_retrained(workspace: Workspace, perturbations: Tensor) -> bool:
    """Whether the bank holds all networks without the clusters with a 0 in a row, coupled with the target."""
    clusters, seed = workspace.partition.clusters.cpu(), workspace.recipe.general.seed
    wanted = [Retraining(row.bool()[clusters], seed) for row in perturbations.cpu()]
    return all(is_whole(file, workspace.untrained) for file in _files(workspace, wanted))


def _files(workspace: Workspace, wanted: Sequence[Retraining]) -> list[Path]:
    training = workspace.training_id
    return [bank_folder(workspace) / f"{each.address(training)}.safetensors" for each in wanted]


def train_by_function(workspace: Workspace, missing: Mapping[Path, Retraining]) -> None:
    """Train networks by the function that came with the target, one after the other, and save each to its file.

    Raises:
        DDMError: if the function fails, or a file cannot be written.
    """
    own = workspace.own_training
    assert own is not None
    with workspace.display.bar("retraining by train_function", len(missing)) as advance:
        for file, wanted in missing.items():
            begun = time.monotonic()
            network = own.trained(workspace.network, wanted.kept)
            save_network(file, network, time.monotonic() - begun)
            advance()


def bank_folder(workspace: Workspace) -> Path:
    """Beside the run folder, so that runs with one target share it."""
    return workspace.root.path.resolve().parent / "bank"


def bank_logits(workspace: Workspace, bank: Bank, queries: Queries) -> Tensor:
    """Logits (R, N, classes) of all networks of a bank."""
    parts: Iterable[slice] = workspace.budget.chunks(workspace.network, len(bank))
    if workspace.own_training is not None:  # constants of their own may be many times what is trained
        parts = (slice(row, row + 1) for row in range(len(bank)))
    return torch.cat([workspace.stack_logits(bank.load(part), queries.images) for part in parts])


def _seed(workspace: Workspace, row: Tensor, coupling: Coupling, replicate: int) -> int:
    seed = workspace.recipe.general.seed
    if coupling == "same_order":
        return seed
    return derive_seed(seed, "independent", replicate, *row.int().tolist())

"""Estimated networks that took real data, kept in the run folder: they do not depend on the question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddm_framework.errors import RunFolderError
from ddm_framework.files import is_file
from ddm_framework.network import Parameters
from ddm_framework.offline import Partition, Synset
from ddm_framework.online import chunks_of, perturbed_networks
from ddm_framework.runs.provenance import own_version
from ddm_framework.runs.real_training import RealData, real_data
from ddm_framework.runs.run_folder import NETWORKS
from ddm_framework.runs.tensor_files import load_tensors, save_tensors

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace


def estimated_networks(
    workspace: Workspace,
    perturbations: Tensor,
    synset: Synset,
    partition: Partition,
    kept: Tensor | None = None,
) -> Iterator[tuple[slice, Parameters]]:
    """The networks estimated for each perturbation, a chunk of rows at a time; what is kept is not estimated again.

    Args:
        workspace: a run.
        perturbations: (P, K); 0 = deleted, a fraction = so much of the cluster is kept.
        synset: of the K clusters, or of the classes.
        partition: which column each training sample belongs to.
        kept: samples that a replay trains each network on, (P, N); by default those of the clusters that it keeps.
    """
    online, recipe, target = workspace.recipe.online, workspace.recipe, workspace.trained
    if not online.replay and not online.anchor and online.direction == "synset":
        yield from perturbed_networks(target, synset, perturbations, recipe)
        return
    real: list[RealData] = []  # found when it is first needed: kept networks need no training data
    for rows in chunks_of(workspace.network, len(perturbations), recipe):
        own = None if kept is None else kept[rows]
        name = _name(workspace, perturbations[rows], synset, partition, own)
        found = _load(workspace, name, rows.stop - rows.start)
        if found is None:
            real = real or [real_data(workspace, partition)]
            after, uphill = real[0].training_after, real[0].displacements
            parts = perturbed_networks(
                target, synset, perturbations[rows], recipe, after, kept=own, displacements=uphill
            )
            stacks = [stack for _, stack in parts]
            found = {key: torch.cat([stack[key] for stack in stacks]) for key in stacks[0]}
            if real[0].used:
                _save(workspace, name, found)
        yield rows, found


def _name(
    workspace: Workspace, perturbations: Tensor, synset: Synset, partition: Partition, kept: Tensor | None
) -> str:
    """A digest of everything that the networks follow from."""
    online = workspace.recipe.online.model_dump(exclude={"keep_mb", "beta", "ridge"})
    said = [
        own_version(),
        workspace.training_id,
        workspace.recipe.matching.direction,
        json.dumps(online, sort_keys=True),
    ]
    if workspace.recipe.online.direction == "influence":
        said.append(str(workspace.recipe.general.memory_mb))  # bounds the rows of the curvature
    digest = hashlib.sha256("|".join(said).encode())
    tensors = [perturbations, synset.images, synset.labels, synset.real_norm, partition.clusters]
    for each in [*tensors, *([] if kept is None else [kept])]:
        digest.update(str((tuple(each.shape), each.dtype)).encode())
        digest.update(each.detach().cpu().contiguous().numpy().tobytes())
    return f"{digest.hexdigest()[:24]}.safetensors"


def _load(workspace: Workspace, name: str, count: int) -> Parameters | None:
    file = workspace.folder.file(NETWORKS, name)
    if not workspace.recipe.online.keep_mb or not is_file(file):
        return None
    try:
        found = load_tensors(file, workspace.target)
    except RunFolderError:  # a damaged file is estimated again
        return None
    known = {**workspace.network.buffers, **workspace.target}  # networks may have constants of their own
    if any(key not in known or tuple(each.shape) != (count, *known[key].shape) for key, each in found.items()):
        return None
    return {key: each.to(workspace.device) for key, each in found.items()}


def _save(workspace: Workspace, name: str, stack: Parameters) -> None:
    """Keep a chunk of networks; the oldest ones make room. A folder that cannot be written to keeps none."""
    limit = workspace.recipe.online.keep_mb * 2**20
    size = sum(each.numel() * each.element_size() for each in stack.values())
    if size > limit:
        return
    with suppress(OSError, RunFolderError):
        folder = workspace.folder.file(NETWORKS)
        folder.mkdir(exist_ok=True)
        ages = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.glob("*.safetensors"))
        total = size + sum(each for _, each, _ in ages)
        for _, each, file in ages:
            if total > limit:
                file.unlink()
                total -= each
        save_tensors(folder / name, stack)

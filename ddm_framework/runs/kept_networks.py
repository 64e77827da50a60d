"""Estimated networks that took real data, kept in the run folder: they do not depend on the question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from ddm_framework.engine import in_order
from ddm_framework.errors import RunFolderError
from ddm_framework.files import is_file
from ddm_framework.network import Parameters, concatenate
from ddm_framework.offline import Partition, Synset
from ddm_framework.online import Anchor, Replay, chunks_of, perturbed_networks
from ddm_framework.online.estimating import After, Stepped, stepped, trained_after
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
    parts = chunks_of(workspace.network, len(perturbations), recipe)
    own = [None if kept is None else kept[rows] for rows in parts]
    names = [
        _name(workspace, perturbations[rows], synset, partition, each) for rows, each in zip(parts, own, strict=True)
    ]
    missing = [number for number, name in enumerate(names) if not _is_kept(workspace, name)]
    asked = _Asked(workspace, synset, partition, perturbations, parts, own)
    if missing and not asked.real.used:  # without the data all fall back, not only those that are not kept
        missing = list(range(len(parts)))
    with closing(asked.estimated(missing)) as estimated:
        for number, (rows, name) in enumerate(zip(parts, names, strict=True)):
            found = None if number in missing else _load(workspace, name, rows.stop - rows.start)
            if found is None:
                found = next(estimated) if number in missing else next(asked.estimated([number]))
                if asked.real.used:
                    _save(workspace, name, found)
            yield rows, found


@dataclass(frozen=True)
class _Asked:
    """Chunks of networks, of which some are to be estimated.

    Attributes:
        workspace: a run.
        synset, partition, perturbations: as in `estimated_networks`.
        parts: the rows of each chunk.
        kept: samples that each chunk is trained on, if not those of the clusters.
    """

    workspace: Workspace
    synset: Synset
    partition: Partition
    perturbations: Tensor
    parts: Sequence[slice]
    kept: Sequence[Tensor | None]

    @cached_property
    def real(self) -> RealData:
        """Found when it is first needed: kept networks need no training data."""
        return real_data(self.workspace, self.partition)

    def estimated(self, numbers: Sequence[int]) -> Generator[Parameters]:
        """Some of the chunks in their order."""
        after = self.real.training_after if numbers else None
        networks = sum(self.parts[number].stop - self.parts[number].start for number in numbers)
        if after is None or not _pays(self.workspace, after, networks):
            yield from map(self._alone, numbers)
            return
        target, recipe, engine = self.workspace.trained, self.workspace.recipe, self.workspace.engine
        common = After(target.network, target.final, after, recipe.training, recipe.general.seed)
        tasks = (self._stepped(number, after) for number in numbers)
        with closing(engine.results(trained_after, common, tasks, len(numbers))) as results:
            yield from in_order(results)

    def _alone(self, number: int) -> Parameters:
        workspace, real = self.workspace, self.real
        found = perturbed_networks(
            workspace.trained,
            self.synset,
            self.perturbations[self.parts[number]],
            workspace.recipe,
            real.training_after,
            kept=self.kept[number],
            displacements=real.displacements,
        )
        return concatenate(stack for _, stack in found)

    def _stepped(self, number: int, after: Anchor | Replay) -> Stepped:
        return stepped(
            self.workspace.trained,
            self.synset,
            self.perturbations[self.parts[number]],
            self.workspace.recipe,
            after,
            kept=self.kept[number],
            displacements=self.real.displacements,
        )


SHARED_SECONDS = 10.0
"""Work of one process from which on several are asked: they take seconds to start."""


def _pays(workspace: Workspace, after: Anchor | Replay, networks: int) -> bool:
    """Whether several workers are sooner done; the numbers are the same."""
    if workspace.engine.workers == 1 or (isinstance(after, Replay) and after.continued is not None):
        return False  # the user's own training stays in this process
    target = workspace.root.seconds().get("training", 0.0) / workspace.recipe.training.epochs
    return target * after.epochs * networks / 2 > SHARED_SECONDS  # side by side, a network takes half of its time alone


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
        said.append(str(workspace.recipe.general.chunk_mb))  # bounds the rows of the curvature
    digest = hashlib.sha256("|".join(said).encode())
    tensors = [perturbations, synset.images, synset.labels, synset.real_norm, partition.clusters]
    for each in [*tensors, *([] if kept is None else [kept])]:
        digest.update(str((tuple(each.shape), each.dtype)).encode())
        digest.update(each.detach().cpu().contiguous().numpy().tobytes())
    return f"{digest.hexdigest()[:24]}.safetensors"


def _is_kept(workspace: Workspace, name: str) -> bool:
    return bool(workspace.recipe.online.keep_mb) and is_file(workspace.folder.file(NETWORKS, name))


def _load(workspace: Workspace, name: str, count: int) -> Parameters | None:
    file = workspace.folder.file(NETWORKS, name)
    if not _is_kept(workspace, name):
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

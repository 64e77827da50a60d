"""What estimated networks are trained on besides the synset: the images of `online.anchor` or `online.replay`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ddm_framework.data import subset
from ddm_framework.errors import DataError, DDMError, RunFolderError
from ddm_framework.network import Parameters
from ddm_framework.offline import Partition
from ddm_framework.online import Anchor, Replay
from ddm_framework.randomness import derive_seed
from ddm_framework.runs import artifacts

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace

AUTO_SHARE = 15
"""`replay: auto` replays the last fifteenth of the training: 2 of 30 epochs, where the dial gains most for its cost."""


def training_after(workspace: Workspace, partition: Partition) -> Anchor | Replay | None:
    """The training of estimated networks on real data, if the recipe asks for one.

    Args:
        workspace: a run.
        partition: its clusters, or its classes as clusters; a perturbation has a column for each.
    Raises:
        DDMError: if the training cannot be replayed; the message says what to do.
    """
    if workspace.recipe.online.anchor:
        return _anchor(workspace, partition)
    epochs = replayed_epochs(workspace)
    if not epochs:
        return None
    try:
        data = workspace.data.train
    except (DataError, RunFolderError) as error:
        workspace.display.say(f"the training data are not at hand ({error}): online.replay falls back to 0")
        return None
    velocity = _velocity(workspace, epochs)
    return Replay(data, partition.clusters, epochs, velocity, not workspace.same_rounding)


def replayed_epochs(workspace: Workspace) -> int:
    """E of `online.replay`, from 0 to τ.

    Raises:
        DDMError: if θ_{τ-E} was not saved, with the nearest E that is; or if the target was trained elsewhere, so that
            its training is not known.
    """
    asked, total = workspace.recipe.online.replay, workspace.recipe.training.epochs
    if not asked:
        return 0
    if workspace.recipe.target.checkpoint is not None:
        if asked == "auto":
            return 0
        raise DDMError(
            f"online.replay: {asked} cannot be done: the target was trained elsewhere, and its training is not known; "
            "set online.replay to 0, or use online.anchor"
        )
    possible = [total - epoch for epoch in sorted(workspace.trajectory, reverse=True) if epoch < total]
    wanted = max(1, round(total / AUTO_SHARE)) if asked == "auto" else asked
    nearest = min(possible, key=lambda epochs: abs(epochs - wanted))
    if asked != "auto" and nearest != asked:
        raise DDMError(
            f"online.replay: {asked} starts at epoch {total - asked} of {total}, which was not saved "
            f"(training.checkpoint_every: {workspace.recipe.training.checkpoint_every}); the nearest is {nearest}"
        )
    return nearest


def _velocity(workspace: Workspace, epochs: int) -> Parameters:
    """Momentum's buffer at θ_{τ-E}; zeros at θ_0 and without momentum."""
    training, initial = workspace.recipe.training, workspace.initial
    epoch = training.epochs - epochs
    if not training.momentum or not epoch:
        return {name: torch.zeros_like(each) for name, each in initial.items()}
    found = artifacts.load_velocity(workspace.root, epoch, workspace.device)
    if found is None:
        raise RunFolderError(
            f"{workspace.root.path} was made by a version that did not save momentum, so its last {epochs} epochs "
            f"cannot be replayed; train again with --fresh, or set online.replay to 0 or {training.epochs}"
        )
    return found


def _anchor(workspace: Workspace, partition: Partition) -> Anchor:
    """The training images of `online.anchor`, every class in proportion."""
    passes, train, clusters = workspace.recipe.online.anchor, workspace.data.train, partition.clusters
    epochs = math.ceil(passes)
    size = max(1, round(passes / epochs * len(train)))
    seed = derive_seed(workspace.recipe.general.seed, "anchor")
    index = subset(train.labels.cpu(), size, seed).to(clusters.device)
    return Anchor(train.take(index), clusters[index], epochs)

"""What estimated networks take from real data: the images of `online.anchor` or `online.replay`, and directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddm_framework.data import subset
from ddm_framework.errors import DataError, DDMError, RunFolderError
from ddm_framework.network import Parameters, learning_rate, take
from ddm_framework.network.stacks import joined
from ddm_framework.offline import Divided, Partition
from ddm_framework.online import Anchor, Displacements, Replay
from ddm_framework.randomness import derive_seed
from ddm_framework.recipe import Training
from ddm_framework.runs import artifacts

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace

AUTO_SHARE = 15
"""`replay: auto` replays the last fifteenth of the training: 2 of 30 epochs, where the dial gains most for its cost."""


@dataclass(frozen=True, slots=True)
class RealData:
    """What estimated networks take from real data.

    Attributes:
        training_after: the training besides the step, if any.
        displacements: of the clusters in place of the synset's gradients, if any.
    """

    training_after: Anchor | Replay | None
    displacements: Displacements | None

    @property
    def used(self) -> bool:
        """Whether anything comes from real data."""
        return self.training_after is not None or self.displacements is not None


def real_data(workspace: Workspace, partition: Partition) -> RealData:
    """What the recipe's `online` takes from the training data.

    Args:
        workspace: a run.
        partition: its clusters, or its classes as clusters; a perturbation has a column for each.
    Raises:
        DDMError: if the training cannot be replayed; the message says what to do.
    """
    online = workspace.recipe.online
    epochs = 0 if online.anchor else replayed_epochs(workspace)
    if not online.anchor and not epochs and online.direction == "synset":
        return RealData(None, None)
    try:
        divided = Divided(workspace.data.train, partition)
    except (DataError, RunFolderError) as error:
        without = [] if online.anchor or not epochs else ["online.replay falls back to 0"]
        without += ["online.direction falls back to synset"] if online.direction != "synset" else []
        if online.anchor:
            raise
        workspace.display.say(f"the training data are not at hand ({error}): {' and '.join(without)}")
        return RealData(None, None)
    after: Anchor | Replay | None = _anchor(workspace, divided) if online.anchor else None
    if epochs:
        after = _replay(workspace, divided, epochs)
    return RealData(after, None if online.direction == "synset" else _displacements(workspace, divided, epochs))


def _replay(workspace: Workspace, divided: Divided, epochs: int) -> Replay:
    """The last epochs of the training, the user's own where there is one; beside that the target is trained too."""
    own, target = workspace.own_training, workspace.trained
    data, clusters = divided.data, divided.partition.clusters
    if own is None:
        velocity, squares = _moments(workspace, epochs)
        return Replay(data, clusters, epochs, velocity, not workspace.same_rounding, squares)
    epoch = workspace.num_epochs - epochs

    def continued(stack: Parameters, kept: Tensor) -> Parameters:
        rows = [own.trained(target.network, each, target, epoch, take(stack, row)) for row, each in enumerate(kept)]
        return joined(rows, target.network.buffers)

    return Replay(data, clusters, epochs, {}, True, continued=continued)


def _displacements(workspace: Workspace, divided: Divided, epochs: int) -> Displacements:
    """Where the steps without each cluster lead from θ_{τ-E}."""
    recipe, target = workspace.recipe, workspace.trained
    last = max(target.trajectory) - epochs
    saved = sorted(epoch for epoch in target.trajectory if epoch <= last)
    rates = _rates(recipe.training, saved, trained_here=recipe.target.checkpoint is None)
    return Displacements(target, last, rates, divided, recipe)


def _rates(training: Training, saved: Sequence[int], trained_here: bool) -> dict[int, float]:
    """Sum of the learning rates from each saved epoch to the next; for a training elsewhere, the number of epochs."""
    rates = {
        each: sum(learning_rate(training, epoch) if trained_here else 1.0 for epoch in range(each, following))
        for each, following in itertools.pairwise(saved)
    }
    return rates or {saved[-1]: 1.0}


def replayed_epochs(workspace: Workspace) -> int:
    """E of `online.replay`, from 0 to τ.

    Raises:
        DDMError: if θ_{τ-E} was not saved, with the nearest E that is; or if the target was trained elsewhere, so that
            its training is not known.
    """
    asked, total, own = workspace.recipe.online.replay, workspace.num_epochs, workspace.own_training
    if not asked:
        return 0
    if told := _unrepeatable(workspace, total, None if own is None else own.takes_start):
        if asked == "auto":
            return 0
        raise DDMError(f"online.replay: {asked} cannot be done: {told}; set online.replay to 0, or use online.anchor")
    possible = [total - epoch for epoch in sorted(workspace.trajectory, reverse=True) if epoch < total]
    wanted = max(1, round(total / AUTO_SHARE)) if asked == "auto" else asked
    nearest = min(possible, key=lambda epochs: abs(epochs - wanted))
    if asked != "auto" and nearest != asked:
        raise DDMError(
            f"online.replay: {asked} starts at epoch {total - asked} of {total}, which was not saved "
            f"(training.checkpoint_every: {workspace.recipe.training.checkpoint_every}); the nearest is {nearest}"
        )
    return nearest


def _unrepeatable(workspace: Workspace, total: int, takes_start: bool | None) -> str:
    """Why the end of the training cannot be repeated; empty if it can."""
    if workspace.recipe.target.checkpoint is None:
        return ""
    if takes_start is None:
        return "the target was trained elsewhere, and its training is not known"
    if not takes_start:
        return "train_function takes weights alone, so it cannot start from a checkpoint"
    return "" if total else "no earlier checkpoint of the target is known, from which train_function could go on"


def _moments(workspace: Workspace, epochs: int) -> tuple[Parameters, Parameters]:
    """What the optimizer remembers at θ_{τ-E}: momentum's buffer, zero at θ_0 and without it, and Adam's squares."""
    training, initial = workspace.recipe.training, workspace.initial
    epoch = training.epochs - epochs
    if not training.has_moments or not epoch:
        return {name: torch.zeros_like(each) for name, each in initial.items()}, {}
    found = artifacts.load_velocity(workspace.root, epoch, workspace.device)
    squares = artifacts.load_squares(workspace.root, epoch, workspace.device)
    if found is None or (squares is None and training.optimizer != "sgd"):
        raise RunFolderError(
            f"{workspace.root.path} was made by a version that did not save momentum, or what Adam remembers, so its"
            f" last {epochs} epochs cannot be replayed; train again with --fresh, or set online.replay to 0 or"
            f" {training.epochs}"
        )
    return found, squares or {}


def _anchor(workspace: Workspace, divided: Divided) -> Anchor:
    """The training images of `online.anchor`, every class in proportion."""
    passes, train, clusters = workspace.recipe.online.anchor, divided.data, divided.partition.clusters
    epochs = math.ceil(passes)
    size = max(1, round(passes / epochs * len(train)))
    seed = derive_seed(workspace.recipe.general.seed, "anchor")
    index = subset(train.labels.cpu(), size, seed).to(clusters.device)
    return Anchor(train.take(index), clusters[index], epochs)

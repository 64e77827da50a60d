"""Estimates of the networks trained without some clusters, by whichever way a recipe's `online` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.network.memory import TRAINING, Budget, halved
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, concatenate, take
from ddm_framework.network.target import Target
from ddm_framework.network.training import TrainingState
from ddm_framework.offline.synset import Synset
from ddm_framework.online.displacements import Displacements
from ddm_framework.online.finetuning import Anchor, anchored, finetune, retrain_on_synset
from ddm_framework.online.replaying import Replay, begun_replay, replay_trained, replayed
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import Training


def perturbed_networks(
    target: Target,
    synset: Synset,
    perturbations: Tensor,
    recipe: Recipe,
    training_after: Anchor | Replay | None = None,
    *,
    kept: Tensor | None = None,
    displacements: Displacements | None = None,
) -> Iterator[tuple[slice, Parameters]]:
    """Estimates of the networks trained on each perturbed data set, stacked, a chunk of rows at a time.

    Args:
        target: the network and its trajectory.
        synset: of all K clusters, or of the classes.
        perturbations: (P, K); 0 = deleted, a fraction = so much of the cluster is kept.
        recipe: the settings of `online`, of matching and of training.
        training_after: what real data the networks are trained on besides the synset, if any.
        kept: samples that a replay trains each network on, (P, N); by default those of the clusters that it keeps.
        displacements: of the clusters where the step is taken, in place of the synset's gradients.
    Source: Eq. 9.
    """
    online, training, seed = recipe.online, recipe.training, recipe.general.seed
    budget = Budget(recipe.general.chunk_mb)

    def estimated(rows: slice) -> Parameters:
        deleted = perturbations[rows]
        if isinstance(training_after, Replay):
            own = None if kept is None else kept[rows]
            return replayed(target, synset, deleted, training_after, recipe, kept=own, displacements=displacements)
        if online.start == "initial":
            return retrain_on_synset(target, synset, deleted, online, training, seed)
        direction, anchor = recipe.matching.direction, training_after
        stack = finetune(target, synset, deleted, online, direction, budget, displacements=displacements)
        return stack if anchor is None else anchored(target, stack, deleted, anchor, training, seed)

    for rows in chunks_of(target.network, len(perturbations), recipe):
        for part, stack in halved(rows.stop - rows.start, _within(estimated, rows), "estimated networks"):
            yield slice(rows.start + part.start, rows.start + part.stop), stack


def _within(work: Callable[[slice], Parameters], rows: slice) -> Callable[[slice], Parameters]:
    """Work on a part of the rows."""
    return lambda part: work(slice(rows.start + part.start, rows.start + part.stop))


@dataclass(frozen=True, slots=True)
class After:
    """The training besides the step, which can be done anywhere: it takes values and returns values.

    Attributes:
        network: the architecture.
        final: θ_τ.
        data: what the networks are trained on.
        training: its settings.
        seed: of the batch order.
    """

    network: Network
    final: Parameters
    data: Anchor | Replay
    training: Training
    seed: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """One chunk of networks after their step.

    Attributes:
        state: the networks, stacked.
        kept: samples (P, N) of a replay, or clusters (P, K) of an anchor, that each is trained on.
    """

    state: TrainingState
    kept: Tensor


def stepped(
    target: Target,
    synset: Synset,
    perturbations: Tensor,
    recipe: Recipe,
    training_after: Anchor | Replay,
    *,
    kept: Tensor | None = None,
    displacements: Displacements | None = None,
) -> Stepped:
    """Take the step of one chunk of networks, before `trained_after`; arguments as in `perturbed_networks`."""
    if isinstance(training_after, Replay):
        found = begun_replay(
            target, synset, perturbations, training_after, recipe, kept=kept, displacements=displacements
        )
        return Stepped(*found)
    budget, direction = Budget(recipe.general.chunk_mb), recipe.matching.direction
    stack = finetune(target, synset, perturbations, recipe.online, direction, budget, displacements=displacements)
    return Stepped(TrainingState(0, stack, {}), perturbations)


def trained_after(after: After, chunk: Stepped, _advance: Callable[[], None]) -> Parameters:
    """Train one chunk of networks after their step; a unit of work for an engine.

    Returns:
        P networks, stacked, as `perturbed_networks` yields them.
    """
    state, controls = chunk.state, int(isinstance(after.data, Replay) and after.data.controlled)

    def some(part: slice) -> Parameters:
        rows = torch.arange(part.start, part.stop)
        rows = torch.cat([rows, torch.arange(len(state) - controls, len(state))]).to(chunk.kept.device)
        stack, kept = take(state.parameters, rows), chunk.kept[rows]
        if isinstance(after.data, Replay):
            begun = TrainingState(state.epoch, stack, take(state.velocity, rows), take(state.squares, rows))
            return replay_trained(after.network, after.final, after.data, begun, kept, after.training, after.seed)
        return anchored(Target(after.network, {0: after.final}), stack, kept, after.data, after.training, after.seed)

    return concatenate(stack for _, stack in halved(len(state) - controls, some, "networks in training"))


def chunks_of(network: Network, count: int, recipe: Recipe) -> list[slice]:
    """The chunks of so many rows; networks that are trained on batches of images are fewer at a time."""
    budget = Budget(recipe.general.chunk_mb)
    if recipe.online.replay:
        return budget.chunks(network, count, TRAINING, recipe.training.batch_size)
    return budget.chunks(network, count)

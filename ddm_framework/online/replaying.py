"""The dial from the synset to exact retraining: a step at an earlier checkpoint, then the target's own last epochs.

E epochs before the end, each network takes the synset's step of its deleted clusters, and is then trained as the target
was, in the same batches with the same learning rates, without the deleted samples. With E = 0 this is the paper's
method (Eq. 9); with E = τ there is no step, and it is exact retraining. A network that lacks nothing is the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddm_framework.data.splits import ImageSet
from ddm_framework.network.memory import Budget
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, broadcast
from ddm_framework.network.target import Target
from ddm_framework.network.training import TrainingState, learning_rate, train
from ddm_framework.offline.synset import Synset
from ddm_framework.online.displacements import Displacements
from ddm_framework.online.finetuning import finetune
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import Training

Continued = Callable[[Parameters, Tensor], Parameters]
"""(a stack of R networks at θ_{τ-E}, samples that each keeps (R, N)) -> the stack at the end of the training."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The last epochs of the target's training.

    Attributes:
        data: the N images that the target was trained on.
        clusters: column of the perturbations that each image belongs to, int64 (N,).
        epochs: E, at least 1; θ_{τ-E} is saved.
        velocity: momentum's buffer, or Adam's mean of gradients, at θ_{τ-E}; zeros if there is neither.
        controlled: a stack rounds by its size here, so the target is trained along, and differences from it count.
        squares: Adam's mean of squared gradients at θ_{τ-E}; empty at θ_0 and for others.
        continued: how the networks are trained; by default as the recipe's `training` says.
    """

    data: ImageSet
    clusters: Tensor
    epochs: int
    velocity: Parameters
    controlled: bool
    squares: Parameters = field(default_factory=dict)
    continued: Continued | None = None


def share_of_step(training: Training, epoch: int) -> float:
    """Share of the full step that is taken at θ_t: Σ_{s<t} lr_s / Σ_{s<τ} lr_s, 0 at θ_0 and 1 at θ_τ."""
    rates = [learning_rate(training, each) for each in range(training.epochs)]
    return sum(rates[:epoch]) / sum(rates)


def steps_of_sets(perturbations: Tensor, power: float) -> Tensor:
    """The perturbations (P, K) with the steps of n deleted clusters n^-power as long; one cluster keeps its whole step.

    Of many clusters at once, full steps along gradients lead further than the replay takes back
    (`benchmarks/steps.py`).
    """
    deleted = 1 - perturbations
    return 1 - deleted * deleted.sum(1, keepdim=True).clamp(min=1) ** -power


def replayed(
    target: Target,
    synset: Synset,
    perturbations: Tensor,
    replay: Replay,
    recipe: Recipe,
    *,
    kept: Tensor | None = None,
    displacements: Displacements | None = None,
) -> Parameters:
    """Estimate one chunk of networks by a step at θ_{τ-E} and the last E epochs of training.

    Args:
        target: the network and its trajectory.
        synset: of all K clusters, or of the classes.
        perturbations: (P, K); 0 = deleted, a fraction = so much of the cluster is kept.
        replay: the last E epochs.
        recipe: the step (`online`), the direction of matching, the training, the seed and the memory.
        kept: samples that each network is trained on, (P, N); by default those of the clusters that it keeps.
        displacements: at θ_{τ-E}, in place of the synset's gradients.
    Returns:
        P networks, stacked; without deletions a network is the target itself.
    Raises:
        DivergenceError: if a weight becomes NaN or infinite.
    Source: Eq. 2 and 9.
    """
    begun, samples = begun_replay(target, synset, perturbations, replay, recipe, kept=kept, displacements=displacements)
    return replay_trained(target.network, target.final, replay, begun, samples, recipe.training, recipe.general.seed)


def begun_replay(
    target: Target,
    synset: Synset,
    perturbations: Tensor,
    replay: Replay,
    recipe: Recipe,
    *,
    kept: Tensor | None = None,
    displacements: Displacements | None = None,
) -> tuple[TrainingState, Tensor]:
    """The networks after their step at θ_{τ-E}, and the samples (P, N) that each is trained on; see `replayed`.

    Where the stack is controlled, the target comes last.
    """
    training, epoch = recipe.training, recipe.training.epochs - replay.epochs
    online = recipe.online.changed({"step_size": recipe.online.replay_step_size * share_of_step(training, epoch)})
    rows, budget = perturbations.to(replay.clusters.device), Budget(recipe.general.chunk_mb)
    samples = rows[:, replay.clusters] if kept is None else kept.to(rows).clone()  # no part of a larger one
    if replay.controlled:
        rows, samples = (torch.cat([each, torch.ones_like(each[:1])]) for each in (rows, samples))
    begins, steps = target.until(epoch), steps_of_sets(rows, online.set_power)
    stack = finetune(begins, synset, steps, online, recipe.matching.direction, budget, displacements=displacements)
    moments = (broadcast(each, len(samples)) for each in (replay.velocity, replay.squares))
    return TrainingState(epoch, stack, *moments), samples


def replay_trained(
    network: Network,
    final: Parameters,
    replay: Replay,
    begun: TrainingState,
    samples: Tensor,
    training: Training,
    seed: int,
) -> Parameters:
    """The networks of `begun_replay` after the last E epochs; see `replayed`."""
    if replay.continued is None:
        *_, last = train(network, begun, replay.data, samples, training, seed)
        reached = last.parameters
    else:
        reached = replay.continued(begun.parameters, samples)
    if not replay.controlled:
        return reached
    known = {**network.buffers, **final}  # networks may have constants of their own
    return {name: each[:-1] - each[-1:] + known[name] for name, each in reached.items()}

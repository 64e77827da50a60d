"""A teacher that cannot be distilled, its students, and the data whose deletion helps a student.

Ma et al. 2021, Undistillable: Making A Nasty Teacher That Cannot Teach Students; Eq. 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework import ImageSet, Workspace, derive_seed
from ddm_framework.network import TRAINING, Parameters, Target, start, start_each, take, train
from ddm_framework.offline import Divided, Synset, cluster_chunks, match, possible_pairs
from ddm_framework.online import beta_weights, fit, perturbed_networks
from ddm_studies.comparison.running import tracked


@dataclass(frozen=True, slots=True)
class Undistilling:
    """Settings for making a teacher undistillable.

    Attributes:
        weight: of the divergence from the clean network, which is maximised, relative to the cross entropy.
        temperature: that softens the outputs of both networks in the divergence.
        epochs: of Adam, starting from the clean network.
        lr: of Adam.
    """

    weight: float
    temperature: float
    epochs: int
    lr: float


def undistilling_loss(logits: Tensor, clean: Tensor, labels: Tensor, settings: Undistilling) -> Tensor:
    """CE(M, y) - ω T² KL(clean ‖ M), with both outputs in the KL divergence softened by T; mean over the batch.

    Args:
        logits, clean: (B, classes), of the teacher and of the clean network.
        labels: int64 (B,).
        settings: with ω and T.
    Source: Ma et al. 2021, Eq. 3.
    """
    own, other = ((each / settings.temperature).log_softmax(1) for each in (logits, clean))
    apart = F.kl_div(own, other, reduction="batchmean", log_target=True)
    return F.cross_entropy(logits, labels) - settings.weight * settings.temperature**2 * apart


def undistillable(workspace: Workspace, settings: Undistilling) -> Parameters:
    """Train the target on so that it keeps its accuracy while its other outputs diverge from those of the target."""
    network, data, clean = workspace.network, workspace.data.train, workspace.target
    leaves = {name: each.detach().clone().requires_grad_() for name, each in clean.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=settings.lr)
    random, size = workspace.generator("undistillable"), workspace.recipe.training.batch_size
    for _ in tracked(workspace, "undistillable teacher (epochs)", range(settings.epochs), settings.epochs):
        for batch in torch.randperm(len(data), generator=random).to(workspace.device).split(size):
            images = data.images[batch]
            with torch.no_grad():
                own = network(clean, images)
            optimizer.zero_grad()
            undistilling_loss(network(leaves, images), own, data.labels[batch], settings).backward()
            optimizer.step()
    return {name: each.detach() for name, each in leaves.items()}


def mixed_labels(labels: Tensor, teacher: Tensor, alpha: float, temperature: float = 1.0) -> Tensor:
    """Labels for a student, probabilities (N, classes): 1 - α times the true label plus α times the teacher's output.

    Cross entropy with these labels has the gradient of Eq. 15, as the teacher's entropy does not depend on the student.

    Args:
        labels: int64 (N,).
        teacher: logits of the teacher (N, classes).
        alpha: α.
        temperature: that softens the teacher's outputs; the student's are not softened.
    Source: Eq. 15, with its KL read as KL(teacher ‖ student), as in Hinton et al. 2015.
    """
    own = F.one_hot(labels, teacher.shape[1]).to(teacher.dtype)
    return (1 - alpha) * own + alpha * (teacher / temperature).softmax(1)


def student_accuracies(workspace: Workspace, labels: Tensor, kept: Tensor, purpose: Sequence[Sequence[int]]) -> Tensor:
    """Train students by the recipe's training, in parallel; their test accuracy in per cent, float64 (R,).

    Args:
        labels: class ids (N,), or probabilities (N, classes).
        kept: bool (R, N), the samples that each student learns from; a deleted sample's term is left out.
        purpose: of each student, the numbers from which its initial weights and its batch order are derived.
    """
    network, recipe = workspace.network, workspace.recipe
    test, seed, found = workspace.data.test, recipe.general.seed, []
    data = ImageSet(workspace.data.train.images, labels)
    parts = workspace.budget.chunks(network, len(kept), TRAINING, recipe.training.batch_size)
    with workspace.display.bar("students (epochs)", len(parts) * recipe.training.epochs) as advance:
        for part in parts:
            seeds = [derive_seed(seed, "student", *each) for each in purpose[part]]
            initial = [workspace.build(each)[1] for each in seeds]
            weights = kept[part].float().to(workspace.device)
            state = start_each(initial)
            for reached in train(network, state, data, weights, recipe.training, seeds):
                state = reached
                advance()
            correct = network.logits(state.parameters, test.images).argmax(2) == test.labels
            found.append(100 * correct.double().mean(1).cpu())
    return torch.cat(found)


def student_trajectory(workspace: Workspace, labels: Tensor) -> dict[int, Parameters]:
    """A student trained on all data as the target was, at the recipe's checkpoints, by epoch."""
    settings, data = workspace.recipe.training, ImageSet(workspace.data.train.images, labels)
    due = {*range(0, settings.epochs, settings.checkpoint_every), settings.epochs}
    everything = torch.ones(1, len(data), device=workspace.device)
    state, found = start(workspace.untrained, 1), {0: workspace.untrained}
    seed = workspace.recipe.general.seed
    for reached in train(workspace.network, state, data, everything, settings, seed):
        if reached.epoch in due:
            found[reached.epoch] = take(reached.parameters, 0)
    return found


def student_synset(workspace: Workspace, trajectory: dict[int, Parameters], labels: Tensor) -> Synset:
    """The synset of a student, matched to each cluster's reversed gradient under its mixed labels (Alg. 1)."""
    recipe, partition, budget = workspace.recipe, workspace.partition, workspace.budget
    settings, student = recipe.matching, Target(workspace.network, trajectory)
    pairs = possible_pairs(sorted(trajectory), settings)
    parts = cluster_chunks(student.network, pairs, settings, partition.num_clusters, budget)
    divided, seed = Divided(ImageSet(workspace.data.train.images, labels), partition), recipe.general.seed
    with workspace.display.bar("matching the student (steps)", settings.steps * len(parts)) as advance:
        made = [
            match(student, divided, part, recipe.distance, settings, seed, budget=budget, advance=advance)
            for part in parts
        ]
    return Synset.joined(made)


def divergence_effects(workspace: Workspace, labels: Tensor) -> Tensor:
    """Effect of deleting each cluster on a student's divergence from the clean network, float64 (K,), in nats.

    The student learns from all data. The students without one cluster are estimated from it with its own synset
    (Eq. 9). The divergence is the mean over the validation split.

    Args:
        workspace: the run; its target is the clean network.
        labels: probabilities (N, classes) that the student learns.
    Source: Sec. 9.3, Eq. 14 with the KL divergence.
    """
    trajectory = student_trajectory(workspace, labels)
    synset, recipe = student_synset(workspace, trajectory, labels), workspace.recipe
    queries, rows = workspace.queries_of("validation"), workspace.perturbations
    stacks = perturbed_networks(Target(workspace.network, trajectory), synset, rows, recipe)
    logits = torch.cat([workspace.stack_logits(stack, queries.images) for _, stack in stacks])
    weights = beta_weights(rows, recipe.online.beta)
    clean = workspace.reference(queries)  # its logits are the clean network's, not the student's
    found = fit(workspace.objective("divergence"), clean, rows, logits, weights, recipe.online.ridge)
    return found.effect.mean(0)[:, 0].cpu()


def logits_of(workspace: Workspace, parameters: Parameters, split: str) -> Tensor:
    """Logits (N, classes) of one network on a split."""
    images: ImageSet = getattr(workspace.data, split)
    return workspace.network.logits_of(parameters, images.images)

"""Estimated networks compared with exactly retrained ones: their errors and their displacements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework import Workspace
from ddm_framework.network import Parameters, take
from ddm_framework.online import leave_one_out
from ddm_studies.comparison.judging import Judge
from ddm_studies.comparison.network_distances import cosines, distances
from ddm_studies.comparison.running import without_each

Layers = dict[str, Tensor]
"""float64 (K,) over all weights and by layer."""


@dataclass(frozen=True, slots=True)
class OwnNetworks:
    """Networks without each of K clusters, estimated and exact, relative to a network without deletions; float64 (K,).

    For the exact networks, the network without deletions is the target. For the estimated ones it is the estimate for
    no deletion: the target, or with `online.start: initial` the network trained on the whole synset.

    Attributes:
        loss, exact_loss: change of the mean loss on the queries, in nats.
        error, exact_error: change of the share of misclassified queries.
        distance, exact_distance: length of the displacement in weights.
        cosine: between the estimated and the exact displacement.
    """

    loss: Tensor
    exact_loss: Tensor
    error: Tensor
    exact_error: Tensor
    distance: Layers
    exact_distance: Layers
    cosine: Layers


def own_networks(workspace: Workspace, judge: Judge) -> OwnNetworks:
    """Compare the network fine-tuned on each cluster's synset with the one retrained without the cluster (Fig. 7).

    Args:
        workspace: the run, possibly with other settings of `online`.
        judge: provides the queries, with labels, and the bank of retrained networks.
    Source: Fig. 7, Sec. 9.4.
    """
    partition, target = workspace.partition, workspace.target
    bank, objective = without_each(judge.workspace, partition), workspace.objective("correctness")
    own = workspace.target_logits(judge.queries.images)[None]
    losses, wrong, compared = [], [], []
    for part, stack, whole in _stacks(workspace):
        logits = workspace.network.logits(stack, judge.queries.images)
        losses.append(judge.behaviours(logits, objective).mean(1))
        wrong.append(_error(judge, logits))
        kept = slice(max(part.start, 1), part.stop)
        true = bank.load(slice(kept.start - 1, kept.stop - 1))
        moved = take(stack, slice(kept.start - part.start, None))
        compared.append((distances(moved, whole), distances(true, target), cosines(moved, true, whole, target)))
    loss, error = torch.cat(losses), torch.cat(wrong)
    return OwnNetworks(
        loss[1:] - loss[0],
        judge.truth(partition, objective).mean(0) - judge.behaviours(own, objective).mean(),
        error[1:] - error[0],
        _error(judge, judge.leave_one_out_logits(partition)) - _error(judge, own),
        *(_joined([each[place] for each in compared]) for place in range(3)),
    )


def estimated_distances(workspace: Workspace) -> Layers:
    """Length of the estimated displacement for each cluster; no network is evaluated or retrained."""
    found = []
    for part, stack, whole in _stacks(workspace):
        found.append(distances(take(stack, slice(max(part.start, 1) - part.start, None)), whole))
    return _joined(found)


def _stacks(workspace: Workspace) -> Iterator[tuple[slice, Parameters, Parameters]]:
    """Chunks of the estimated networks, beginning with the one without deletions, which also comes with each chunk."""
    whole: Parameters = {}
    for part, stack in workspace.perturbed(leave_one_out(workspace.partition.num_clusters), workspace.synset):
        if part.start == 0:
            whole = {name: each[0].clone() for name, each in stack.items()}
        yield part, stack, whole


def _error(judge: Judge, logits: Tensor) -> Tensor:
    """Share of the queries that each network misclassifies, float64 (R,)."""
    assert judge.queries.labels is not None
    return (logits.argmax(2) != judge.queries.labels).double().mean(1).cpu()


def _joined(parts: Sequence[Layers]) -> Layers:
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}

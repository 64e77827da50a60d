"""The estimated networks themselves beside those retrained exactly: what they get wrong, and how far they moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.network_distances import cosines, distances
from ddm_framework.networks import Parameters, take
from ddm_framework.perturbations import leave_one_out
from ddm_framework.workspace import Workspace
from ddm_studies.judging import Judge

Layers = dict[str, Tensor]
"""float64 (K,) over all weights and by layer."""


@dataclass(frozen=True, slots=True)
class OwnNetworks:
    """The networks without each of K clusters, estimated and exact, against the target; float64 (K,).

    Attributes:
        loss, exact_loss: change of the mean loss on the queries, in nats.
        error, exact_error: change of the share of the queries that is misclassified.
        distance, exact_distance: length of the displacement in weights.
        cosine: of the estimated with the exact displacement.
    """

    loss: Tensor
    exact_loss: Tensor
    error: Tensor
    exact_error: Tensor
    distance: Layers
    exact_distance: Layers
    cosine: Layers


def own_networks(workspace: Workspace, judge: Judge) -> OwnNetworks:
    """Fine-tune on the synset of each cluster, load the network retrained without it, and compare (Fig. 7, Sec. 9.4).

    Args:
        workspace: the run, perhaps with other settings of `online`.
        judge: whose queries, with labels, and whose bank are used.
    """
    partition, target = workspace.partition, workspace.target
    bank, loss = judge.leave_one_out_bank(partition), workspace.objective("correctness")
    losses, wrong, compared = [], [], []
    for part, stack in workspace.perturbed(leave_one_out(partition.num_clusters), workspace.synset):
        logits = workspace.network.logits(stack, judge.queries.images)
        losses.append(judge.behaviours(logits, loss).mean(1))
        wrong.append(_error(judge, logits))
        kept = slice(max(part.start, 1), part.stop)
        true = bank.load(slice(kept.start - 1, kept.stop - 1))
        compared.append(_compared(take(stack, slice(kept.start - part.start, None)), true, target))
    estimated, error = torch.cat(losses), torch.cat(wrong)
    exact = judge.truth(partition, loss).mean(0)
    exact_error = _error(judge, judge.leave_one_out_logits(partition))
    return OwnNetworks(
        estimated[1:] - estimated[0],
        exact - estimated[0],
        error[1:] - error[0],
        exact_error - error[0],
        *(_joined([each[place] for each in compared]) for place in range(3)),
    )


def estimated_distances(workspace: Workspace) -> Layers:
    """Length of the displacement that is estimated for each cluster; no network is evaluated or retrained."""
    found = []
    for part, stack in workspace.perturbed(leave_one_out(workspace.partition.num_clusters), workspace.synset):
        kept = slice(max(part.start, 1) - part.start, None)
        found.append(distances(take(stack, kept), workspace.target))
    return _joined(found)


def _error(judge: Judge, logits: Tensor) -> Tensor:
    """Share of the queries that each network gets wrong, float64 (R,)."""
    assert judge.queries.labels is not None
    return (logits.argmax(2) != judge.queries.labels).double().mean(1).cpu()


def _compared(stack: Parameters, true: Parameters, target: Parameters) -> tuple[Layers, Layers, Layers]:
    return distances(stack, target), distances(true, target), cosines(stack, true, target)


def _joined(parts: Sequence[Layers]) -> Layers:
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}

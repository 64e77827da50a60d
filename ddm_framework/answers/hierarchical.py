"""Find the most influential cluster in L + C fine-tunings instead of L x C: the class, then within it (Eq. 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.online import Objective, Queries, beta_weights, fit, leave_one_out
from ddm_framework.runs import Workspace

QUERIES_AT_ONCE = 256
"""Queries that are ranked together: a ranking of all takes several times the memory of their effects."""
Level = Literal["class", "cluster"]
"""What is deleted one at a time."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a hierarchical search found.

    Attributes:
        label: the most influential class.
        cluster: the most influential cluster within it.
        num_finetunings: networks that were fine-tuned for it, L + C.
        class_effect: of deleting each class, (L,), mean over the queries.
        cluster_effect: of deleting each cluster of that class, (C,), mean over the queries.
    """

    label: int
    cluster: int
    num_finetunings: int
    class_effect: Tensor
    cluster_effect: Tensor


def search(workspace: Workspace, queries: Queries, objective: Objective) -> Found:
    """Search for one query, or for a batch as a whole (by the mean of its effects).

    Args:
        workspace: a run with a class-wise and a cluster-wise synset.
        queries: one or more.
        objective: with one behaviour.
    Raises:
        DDMError: if the objective has several behaviours.
    Source: Eq. 11, Sec. 6.2.
    """
    labels = torch.arange(len(workspace.class_synset))
    class_effect = effects(workspace, queries, objective, "class", labels).mean(0, keepdim=True)
    label = int(objective.ranking(class_effect)[0, 0])
    clusters = workspace.partition.of_class(label).cpu()
    cluster_effect = effects(workspace, queries, objective, "cluster", clusters).mean(0, keepdim=True)
    cluster = int(clusters[objective.ranking(cluster_effect)[0, 0]])
    return Found(label, cluster, len(labels) + len(clusters), class_effect[0, :, 0], cluster_effect[0, :, 0])


@dataclass(frozen=True, slots=True)
class FoundEach:
    """What the search found for each of N queries separately; int64 (N,).

    Attributes:
        label: the most influential class.
        cluster: the most influential cluster within it.
        flat: the most influential of all clusters.
    """

    label: Tensor
    cluster: Tensor
    flat: Tensor


def search_each(workspace: Workspace, queries: Queries, objective: Objective, effect: Tensor) -> FoundEach:
    """Search for every query separately, and also flatly over all clusters.

    Both rank the clusters by the given effects. Within a class this agrees with `search` only if the effects come from
    deleting one cluster at a time without a ridge, the default (`online.perturbations: leave_one_out`). With random
    perturbations `search` fine-tunes other networks and may find other clusters.

    Args:
        workspace: a run with a class-wise and a cluster-wise synset.
        queries: N of them.
        objective: with one behaviour.
        effect: of deleting each cluster, (N, K, 1), which the flat search ranks.
    Raises:
        DDMError: if the objective has several behaviours.
    Source: Eq. 11, Sec. 6.2.
    """
    classes, labels = workspace.partition.classes.cpu(), torch.arange(len(workspace.class_synset))
    by_class = effects(workspace, queries, objective, "class", labels)
    label, clusters, flat = objective.ranking(by_class)[:, 0], [], []
    for part, own in zip(effect.split(QUERIES_AT_ONCE), label.split(QUERIES_AT_ONCE), strict=True):
        ranked = objective.ranking(part)
        within = classes[ranked] == own[:, None]
        clusters.append(ranked.gather(1, within.int().argmax(1, keepdim=True))[:, 0])
        flat.append(ranked[:, 0])
    return FoundEach(label, torch.cat(clusters), torch.cat(flat))


def effects(workspace: Workspace, queries: Queries, objective: Objective, level: Level, chosen: Tensor) -> Tensor:
    """Effect (N, M, m) of deleting each of M chosen clusters or classes, one at a time.

    Raises:
        DDMError: for another level.
    """
    if level not in get_args(Level):
        raise DDMError(f"level {level!r} is neither of {' and '.join(get_args(Level))}")
    by_class = level == "class"
    synset = workspace.class_synset if by_class else workspace.synset
    partition = workspace.class_partition if by_class else workspace.partition
    rows = torch.ones(len(chosen) + 1, len(synset))
    rows[torch.arange(len(chosen)) + 1, chosen] = 0
    logits = workspace.each_logits(queries, rows, synset, "online: hierarchical search", partition)
    design = leave_one_out(len(chosen))
    reference = workspace.reference(queries)
    return fit(objective, reference, design, logits, beta_weights(design, "uniform")).effect

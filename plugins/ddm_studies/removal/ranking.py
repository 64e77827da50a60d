"""The orders in which methods remove clusters, retraining without them, and how well orders detect corruption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import AfterValidator
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ddm_framework import Choice, DDMError, Workspace
from ddm_framework.offline import Partition
from ddm_framework.truth import bank_logits, retrained
from ddm_studies.comparison.grids import named
from ddm_studies.comparison.intervals import clipped, mean_interval
from ddm_studies.comparison.options import Percentage
from ddm_studies.comparison.paper import ROWS
from ddm_studies.comparison.running import tracked

CEILING = "most corrupted first"
"""Ideal order, by the true corruption. Unless classes are balanced, no order of these clusters detects it better."""


def some_removed(percentages: list[float]) -> list[float]:
    """Reject percentages that are all 0, as then nothing is removed.

    Raises:
        ValueError: if none is above 0.
    """
    if not any(percentages):
        raise ValueError("at least one percentage must be above 0")
    return percentages


Percentages = Annotated[list[Percentage], AfterValidator(some_removed)]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order in which a method removes clusters.

    Attributes:
        name: of the method, with its options where the same attributor is used more than once.
        use: the attributor, or `most corrupted first`.
        order: int64 (R, K), the clusters in order of removal, for each replicate.
        value: float64 (K,), the method's value of each cluster; None where it gives none.
    """

    name: str
    use: str
    order: Tensor
    value: Tensor | None = None

    @property
    def title(self) -> str:
        """The paper's name where it has one; metrics.json uses the names of the attributors."""
        return ROWS.get(self.use, self.use) + self.name.removeprefix(self.use)


@dataclass(frozen=True, slots=True)
class Removal:
    """The result of removing clusters by one method.

    Attributes:
        ranking: of the method.
        accuracy: per cent of the test images, float64 (P, R), of P percentages and R replicates.
        removed: share of the training images that was removed, float64 (P,), mean over the replicates.
        lost: number of classes with no data left, float64 (P,), mean over the replicates.
        auc: float64 (R,), of detecting corrupted samples by their clusters' order; None if nothing is corrupted.
        auc_interval: 95 % interval of `auc`, over clusters; for random removal, over its orders.
        auc_behind_ddm: 95 % interval of DDM's `auc` minus this one, over clusters; None for DDM and random removal.
    """

    ranking: Ranking
    accuracy: Tensor
    removed: Tensor
    lost: Tensor
    auc: Tensor | None = None
    auc_interval: tuple[float, float] | None = None
    auc_behind_ddm: tuple[float, float] | None = None

    @property
    def mean(self) -> list[float]:
        """Mean accuracy at each percentage."""
        return self.accuracy.mean(1).tolist()


def rankings_of(
    workspace: Workspace, methods: Sequence[Choice], replicates: int, spoilt: Tensor, classes: Tensor | None
) -> list[Ranking]:
    """The orders of all methods, and the ideal order where some samples are corrupted.

    Args:
        methods: the attributors.
        replicates: number of orders of each method; they differ only for `random`.
        spoilt: whether each sample is corrupted, bool (N,).
        classes: int64 (K,), of the clusters, if each class shall lose the same share.
    """
    queries, objective = workspace.queries_of("validation"), workspace.objective("performance")
    rankings = []
    for choice, name in zip(tracked(workspace, "methods", methods, len(methods)), named(methods), strict=True):
        use = choice.name
        if use == "random":
            rankings.append(Ranking(name, use, drawn_orders(workspace, replicates)))
        else:
            estimate = workspace.effects_by(queries, objective, choice)
            if not estimate.on_run_partition:
                raise DDMError(f"attributor {use!r} has clusters of its own, so it cannot rank the run's")
            rankings.append(by_value(name, use, estimate.effect[0, :, 0], replicates))
    if spoilt.any():
        share = corrupted_shares(spoilt, workspace.partition.clusters.cpu())
        order = share.argsort(descending=True, stable=True).expand(replicates, -1)
        rankings.append(Ranking(CEILING, CEILING, order))
    if classes is None:
        return rankings
    return [replace(each, order=balanced(each.order, classes)) for each in rankings]


def by_value(name: str, use: str, value: Tensor, replicates: int) -> Ranking:
    """The clusters of least value first, the same in all replicates; `value` is float64 (K,)."""
    return Ranking(name, use, value.argsort(stable=True).expand(replicates, -1), value)


def drawn_orders(workspace: Workspace, replicates: int) -> Tensor:
    """A random order for each replicate, int64 (R, K)."""
    count = workspace.partition.num_clusters
    return torch.stack(
        [torch.randperm(count, generator=workspace.generator("removal", number)) for number in range(replicates)]
    )


def balanced(order: Tensor, classes: Tensor) -> Tensor:
    """Keep the order within each class and alternate between classes, so that each loses the same share.

    Args:
        order: int64 (R, K).
        classes: int64 (K,), of the clusters.
    """
    rows = []
    for each in order:
        same = classes[each][:, None] == classes[each][None]
        rows.append(each[same.tril(-1).sum(1).argsort(stable=True)])  # by the number of its class before it
    return torch.stack(rows)


def corrupted_shares(spoilt: Tensor, clusters: Tensor) -> Tensor:
    """Share of each cluster's samples that are corrupted, float64 (K,).

    Args:
        spoilt: bool (N,).
        clusters: int64 (N,), every id used.
    """
    return clusters.bincount(weights=spoilt.double()) / clusters.bincount()


def detection_auc(order: Tensor, spoilt: Tensor, clusters: Tensor) -> float:
    """Area under the ROC curve of detecting corrupted samples by the order in which their clusters are removed.

    It is the probability that a corrupted sample's cluster comes before a clean one's; a shared cluster counts half.

    Args:
        order: int64 (K,), the clusters in order of removal.
        spoilt: bool (N,), some but not all of them true.
        clusters: int64 (N,).
    """
    place = order.argsort()
    return float(roc_auc_score(spoilt.numpy(), -place[clusters].numpy()))


def auc_shares(order: Tensor, spoilt: Tensor, clusters: Tensor) -> Tensor | None:
    """The contribution of each cluster to `detection_auc`, whose mean is that AUC, for `mean_interval`.

    Args:
        order: int64 (K,), the clusters in order of removal.
        spoilt: bool (N,).
        clusters: int64 (N,).
    Returns:
        float64 (K,), by leaving out each cluster in turn; None if one of them has all corrupted or all clean samples.
    Source: Tukey 1958 (jackknife).
    """
    count, place = len(order), order.argsort()
    bad, good = (clusters.bincount(weights=each.double(), minlength=count) for each in (spoilt, ~spoilt))
    if bad.max() == bad.sum() or good.max() == good.sum():
        return None
    before = (place[:, None] < place).double() + 0.5 * torch.eye(count, dtype=torch.float64)
    pairs = bad[:, None] * before * good
    others = pairs.sum() - pairs.sum(0) - pairs.sum(1) + pairs.diagonal()
    without = others / ((bad.sum() - bad) * (good.sum() - good))
    return pairs.sum() / (bad.sum() * good.sum()) + (count - 1) * (without.mean() - without)


def num_removed(percentage: float, num_clusters: int) -> int:
    """Number of clusters for a percentage: rounded, at least one unless it is 0, and never all."""
    if percentage == 0:
        return 0
    return min(max(1, round(percentage / 100 * num_clusters)), num_clusters - 1)


def perturbations_of(order: Tensor, percentages: Sequence[float]) -> Tensor:
    """Perturbations float32 (P, R, K) without the first clusters of each order (R, K); 0 = removed."""
    rows = torch.ones(len(percentages), *order.shape)
    for row, percentage in zip(rows, percentages, strict=True):
        row.scatter_(1, order[:, : num_removed(percentage, order.shape[1])], 0.0)
    return rows


def removed_and_lost(rows: Tensor, partition: Partition) -> tuple[Tensor, Tensor]:
    """Share of the samples that are removed, and number of classes with no data left, float64 (P,) each.

    Args:
        rows: perturbations (P, R, K); the mean over the R replicates is taken.
        partition: with K clusters.
    """
    sizes, classes = partition.sizes.double().cpu(), partition.classes.cpu()
    kept = torch.zeros(*rows.shape[:2], int(classes.max()) + 1).index_add(2, classes, rows.cpu())
    removed = (1 - rows.double().cpu()) @ (sizes / sizes.sum())
    return removed.mean(1), (kept == 0).double().sum(2).mean(1)


def removals(
    workspace: Workspace, rankings: Sequence[Ranking], percentages: Sequence[float], spoilt: Tensor
) -> tuple[list[Removal], float]:
    """Retrain the networks of all methods together; also the seconds that this took."""
    rows, replicates = rows_of(rankings, percentages)
    bank = retrained(workspace, rows.flatten(0, 2), coupling="independent", replicate=replicates.tolist())
    test = workspace.queries_of("test")
    assert test.labels is not None
    correct = bank_logits(workspace, bank, test).argmax(2) == test.labels
    found = removals_from(workspace.partition, rankings, rows, 100 * correct.double().mean(1).cpu())
    if spoilt.any() and not spoilt.all():
        found = list(_with_aucs(found, spoilt, workspace.partition.clusters.cpu()))
    return found, bank.seconds


def rows_of(rankings: Sequence[Ranking], percentages: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Perturbations float32 (M, P, R, K) of M methods, and the replicate of each of them, int64 (M * P * R,)."""
    rows = torch.stack([perturbations_of(each.order, percentages) for each in rankings])
    return rows, torch.arange(rows.shape[2]).expand(rows.shape[:3]).flatten()


def removals_from(partition: Partition, rankings: Sequence[Ranking], rows: Tensor, accuracy: Tensor) -> list[Removal]:
    """The results of the networks without the data of each row.

    Args:
        partition: with K clusters.
        rankings: M methods.
        rows: perturbations (M, P, R, K).
        accuracy: per cent, float64 (M * P * R,).
    """
    each_row = zip(rankings, accuracy.view(rows.shape[:3]), rows, strict=True)
    return [Removal(ranking, each, *removed_and_lost(row, partition)) for ranking, each, row in each_row]


def _with_aucs(found: Sequence[Removal], spoilt: Tensor, clusters: Tensor) -> Iterator[Removal]:
    """Add the AUC of detecting the corrupted samples, its interval, and that of its difference from DDM's."""
    ours = next((each for each in found if each.ranking.use == "ddm"), None)
    of_ddm = None if ours is None else auc_shares(ours.ranking.order[0], spoilt, clusters)
    for each in found:
        areas = [detection_auc(order, spoilt, clusters) for order in each.ranking.order]
        auc = torch.tensor(areas, dtype=torch.float64)
        if each.ranking.use == "random":
            yield replace(each, auc=auc, auc_interval=clipped(mean_interval(auc), 0.0, 1.0))
            continue
        own = auc_shares(each.ranking.order[0], spoilt, clusters)
        interval = None if own is None else clipped(mean_interval(own), 0.0, 1.0)
        behind = None if each is ours or own is None or of_ddm is None else mean_interval(of_ddm - own)
        yield replace(each, auc=auc, auc_interval=interval, auc_behind_ddm=behind)

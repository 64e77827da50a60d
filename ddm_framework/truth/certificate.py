"""How far this attribution can be trusted, measured by a few exact retrainings without random clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import scipy
import torch
from torch import Tensor

from ddm_framework.online import Objective, Queries, leave_one_out
from ddm_framework.runs import Workspace
from ddm_framework.truth.retraining import bank_logits, retrained


@dataclass(frozen=True, slots=True)
class Certificate:
    """Agreement of estimated with true effects.

    Attributes:
        objective: whose effects were compared.
        clusters: those that the network was retrained without, ascending.
        spearman: rank correlation of estimated and true effects over these clusters, mean over the queries.
        interval: 95 %, of the mean rank correlation over all clusters and for queries like these.
        seconds: that the retrainings took.
    """

    objective: str
    clusters: tuple[int, ...]
    spearman: float
    interval: tuple[float, float]
    seconds: float

    def metrics(self) -> dict[str, Any]:
        """By the names of metrics.json."""
        return {
            "of": "clusters",
            "num_retrainings": len(self.clusters),
            "objective": self.objective,
            "clusters": list(self.clusters),
            "spearman": self.spearman,
            "spearman_interval": list(self.interval),
            "seconds": self.seconds,
        }

    def sentence(self) -> str:
        """In plain words."""
        from ddm_framework.truth.agreement import FEWEST_CLUSTERS

        low, high = self.interval
        worth = (
            "the ranking can be trusted in its broad order"
            if low >= 0.5
            else "the ranking is better than chance, and no more should be read into it"
            if low > 0
            else "these retrainings do not show that the ranking is better than chance"
        )
        told = (
            f"The network was really retrained without {len(self.clusters)} clusters drawn at random: the estimated "
            f"{self.objective} effects order them as the true ones do with a rank correlation of {self.spearman:.2f} "
            f"(95 % interval over all clusters {low:.2f} to {high:.2f}), so {worth}."
        )
        if len(self.clusters) < FEWEST_CLUSTERS:
            told += f" Fewer than {FEWEST_CLUSTERS} clusters say nothing of the others; eight are a good number."
        return told


def certify(workspace: Workspace, queries: Queries, objective: Objective, count: int) -> Certificate:
    """Compare the attribution of a run with the truth by some exact retrainings.

    Args:
        workspace: a run whose target is trained and whose synset is matched.
        queries: N of them, at least two.
        objective: with one behaviour a query.
        count: clusters to retrain without.
    """
    from ddm_framework.truth.agreement import leave_one_out_spearman

    total = workspace.partition.num_clusters
    order = torch.randperm(total, generator=workspace.generator("certificate"))
    clusters = order[: min(count, total)].sort().values
    bank = retrained(workspace, leave_one_out(total)[1:][clusters])
    reference = workspace.reference(queries)
    logits = bank_logits(workspace, bank, queries)
    true = torch.stack([objective.measure(each, reference)[:, 0] for each in logits]).double().cpu()
    effect = workspace.attribution(queries, objective).effect[:, clusters, 0]
    spearman = float(leave_one_out_spearman(effect, true.T).mean())
    interval = certified_interval(effect, true.T, total)
    return Certificate(objective.name, tuple(clusters.tolist()), spearman, interval, bank.seconds)


def certified_interval(effect: Tensor, true_effect: Tensor, total: float) -> tuple[float, float]:
    """Interval that holds the mean rank correlation over all K clusters in at least 95 % of samples of C of them.

    It is the jackknife's, which shrinks to a point where every query orders the sampled clusters almost as the truth
    does, widened to that of one ranking of C clusters, as narrow as queries that differ in their rankings make it.

    Args:
        effect: (N, C), estimated.
        true_effect: (N, C), of exactly retrained networks.
        total: K; infinity for sets of clusters, which are drawn from very many.
    Returns:
        Low and high end, with the correlation over the sample between them; -1 and 1 for fewer than 5 clusters.
    Source: Fieller, Hartley and Pearson 1957, for the variance 1.06 / (C - 3) on Fisher's scale.
    """
    from ddm_framework.truth.agreement import FEWEST_CLUSTERS, leave_one_out_spearman, sampled_spearman_interval

    low, high = sampled_spearman_interval(effect, true_effect)
    num_queries, count = effect.shape
    if count < FEWEST_CLUSTERS:
        return low, high
    value = float(leave_one_out_spearman(effect, true_effect).mean())
    shift = _over_all(value, _kendall(effect, true_effect), count, total) - value
    most = 1 - 6 / (count**3 - count)  # half of what the swap of two neighbours costs
    middle = math.atanh(min(max(value + shift, -most), most))
    alike = max(_alike(effect) * _alike(true_effect), 1 / num_queries)
    reach = float(scipy.stats.t.ppf(0.975, count - 2)) * math.sqrt(1.06 / (count - 3) * alike)
    low, high = min(low + shift, math.tanh(middle - reach), value), max(high + shift, math.tanh(middle + reach), value)
    return max(low, -1.0), min(high, 1.0)


def _over_all(spearman: float, kendall: float, count: int, total: float) -> float:
    """Unbiased estimate of Spearman's correlation over all clusters; that over a sample is nearer to 0 on average.

    Source: Hoeffding 1948, by which Spearman's correlation over C is (3 τ + (C - 2) U) / (C + 1), U free of bias.
    """
    unbiased = ((count + 1) * spearman - 3 * kendall) / (count - 2)
    return unbiased if math.isinf(total) else (3 * kendall + (total - 2) * unbiased) / (total + 1)


def _kendall(effect: Tensor, true_effect: Tensor) -> float:
    """Kendall's τ of estimated and true effects, mean over the queries."""
    count, pair = effect.shape[1], (effect.detach().cpu(), true_effect.detach().cpu())
    orders = ([(each - each[:, [left]]).sign() for each in pair] for left in range(count))
    return sum(float((first * second).sum(1).double().mean()) for first, second in orders) / (count * (count - 1))


def _alike(effect: Tensor) -> float:
    """Mean rank correlation of all pairs of queries, each with itself among them: 1 where all rank the same."""
    ranks = torch.from_numpy(scipy.stats.rankdata(effect.detach().cpu().numpy(), axis=1)).double()
    ranks = torch.nn.functional.normalize(ranks - ranks.mean(1, keepdim=True), dim=1)
    return float(ranks.mean(0).square().sum())

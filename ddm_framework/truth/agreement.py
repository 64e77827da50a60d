"""Agreement of an attribution with exact retraining, with floor, ceiling and interval (Eq. 10, Fig. 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

TINY = float(torch.finfo(torch.float64).tiny)
_NEARLY_ONE = 0.999
"""Largest correlation that has a finite value on Fisher's scale."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The cluster chosen for each query, judged by exact retraining; float64 (N,) each, in the unit of `truth`.

    Attributes:
        chosen: truth at the chosen cluster; its mean is the Avg_dist of Eq. 10.
        random: the floor, the exact mean of truth over all clusters.
        oracle: the ceiling, truth at the best cluster.
        rank: place of the chosen cluster by the truth, 1 + the number of clusters strictly above it; 1 is as good as
            the oracle's. The figure for Dist_3, whose values hardly differ.
        random_rank: the floor of `rank`, its exact mean over all clusters: (K + 1) / 2 without ties.
    """

    chosen: Tensor
    random: Tensor
    oracle: Tensor
    rank: Tensor
    random_rank: Tensor


class Agreement(NamedTuple):
    """Correlations of an estimate with the truth, each between -1 and 1."""

    pearson: float
    spearman: float


def judge(truth: Tensor, chosen: Tensor) -> Judged:
    """Look up what retraining without the chosen clusters really did.

    Args:
        truth: (N, K), behaviour of the network retrained without each cluster; larger = more influential.
        chosen: int64 (N,), the cluster a method ranks first for each query.
    Returns:
        Values of each query, in the unit of `truth`.
    Raises:
        ValueError: if shapes do not fit, truth is not finite, or a chosen cluster is none of the K.
    Source: Eq. 10.
    """
    (truth,) = _checked(truth=(truth, "NK"))
    at = _clusters("chosen", chosen[:, None] if chosen.ndim == 1 else chosen, truth, 1)
    rank, lowest = _rank(truth), truth.amin(1)
    return Judged(
        chosen=truth.gather(1, at)[:, 0],
        random=lowest + (truth - lowest[:, None]).mean(1),  # exactly the oracle where all clusters are equal
        oracle=truth.amax(1),
        rank=rank.gather(1, at)[:, 0],
        random_rank=rank.mean(1),
    )


def recovered_share(judged: Judged) -> float:
    """Share of the way from a random cluster to the oracle's: (chosen - random) / (oracle - random), a ratio of means.

    Args:
        judged: of N queries.
    Returns:
        1 for the oracle, 0 for a random choice, below 0 for worse than random. It says nothing for Dist_3, where
        random and oracle hardly differ: report the rank.
    Raises:
        ValueError: if for every query all clusters are equal.
    Source: Eq. 10, between its floor and ceiling.
    """
    gain, room = _gain_and_room(judged)
    return float(gain.mean() / room.mean())


def top_overlap(ranking: Tensor, truth: Tensor, k: int) -> Tensor:
    """Share of a method's first k clusters that are among the oracle's k.

    Args:
        ranking: int64 (N, k or more), clusters from the most to the least influential.
        truth: (N, K); larger = more influential. Clusters that tie with the oracle's k-th count as among them.
        k: from 1 to K.
    Returns:
        float64 (N,), in [0, 1]; a random ranking has k / K on average where the truth has no ties.
    Raises:
        ValueError: if shapes do not fit, truth is not finite, k is out of range, or a ranking repeats a cluster.
    """
    (truth,) = _checked(truth=(truth, "NK"))
    if not 1 <= k <= truth.shape[1]:
        raise ValueError(f"k must be between 1 and {truth.shape[1]}, the number of clusters; it is {k}")
    first = _clusters("ranking", ranking, truth, k)[:, :k]
    if (first.sort(1).values.diff(dim=1) == 0).any():
        raise ValueError("ranking names a cluster twice for one query")
    return (_rank(truth).gather(1, first) <= k).double().mean(1)


def leave_one_out_spearman(effect: Tensor, true_effect: Tensor) -> Tensor:
    """Rank correlation over the clusters of estimated and true effects.

    Args:
        effect: (N, K), behaviour without each cluster minus behaviour of the target, estimated.
        true_effect: (N, K), the same of exactly retrained networks; or their behaviours, as a constant changes no rank.
    Returns:
        float64 (N,), in [-1, 1]; ties share their average rank. A query for which either is constant has 0: effects
        that tell no cluster from another agree with nothing.
    Raises:
        ValueError: if shapes differ, a value is not finite, or K is below 2.
    """
    effect, true_effect = _checked(effect=(effect, "NK"), true_effect=(true_effect, "NK"))
    _at_least_two("clusters", effect.shape[1])
    return _spearman(effect, true_effect)


def cluster_lds(effect: Tensor, behaviours: Tensor, perturbations: Tensor) -> Tensor:
    """Linear datamodeling score over clusters: does the sum of the deleted clusters' effects order retrained networks?

    Args:
        effect: (N, K), behaviour without each cluster minus behaviour of the target, estimated.
        behaviours: (R, N), of the networks retrained exactly under the perturbations.
        perturbations: (R, K) in {0, 1}; 0 = the cluster is deleted.
    Returns:
        float64 (N,), in [-1, 1]: Spearman's correlation over the R networks, 0 where either side is constant. Sums that
        differ by less than 1e-12 of Σ|effect| are ties, so that the order of summation decides nothing.
    Raises:
        ValueError: if shapes do not fit, a value is not finite, a perturbation is neither 0 nor 1, or R is below 2.
    Source: Park et al. 2023 (TRAK), the linear datamodeling score, over clusters instead of samples.
    """
    return _spearman(*_predicted_and_true(effect, behaviours, perturbations))


def set_lds(effect: Tensor, behaviours: Tensor) -> Tensor:
    """Does what a method says of whole sets order the networks that were retrained without them?

    Args:
        effect: (N, R), behaviour without each set of clusters minus behaviour of the target, estimated for the set.
        behaviours: (R, N), of the networks retrained exactly without these sets.
    Returns:
        float64 (N,), in [-1, 1]: Spearman's correlation over the R networks, 0 where either side is constant.
    Raises:
        ValueError: if shapes do not fit, a value is not finite, or R is below 2.
    Source: as `cluster_lds`, without adding up effects of single clusters.
    """
    return _spearman(*_sets_and_true(effect, behaviours))


def explained(effect: Tensor, true_effect: Tensor) -> float:
    """R² of effects in their own unit: 1 - Σ (true - estimated)² / Σ true², at most 1; negative if worse than zeros.

    Args:
        effect: (N, K), estimated.
        true_effect: (N, K), of exactly retrained networks.
    Raises:
        ValueError: if shapes differ, a value is not finite, or all true effects are zero.
    """
    missed, total = _missed_and_total(effect, true_effect)
    return 1 - float(missed.sum() / total.sum())


def explained_interval(
    effect: Tensor, true_effect: Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Bootstrap interval of `explained`, over queries; arguments as there and as for `bootstrap_interval`."""
    missed, total = _resampled_means(list(_missed_and_total(effect, true_effect)), generator, level, resamples)
    return _quantiles(1 - missed / np.maximum(total, TINY), level)


def displacement_cosine(estimated: Tensor, true: Tensor) -> Tensor:
    """Cosine of estimated and true parameter displacements from the target.

    Args:
        estimated: (R, W), parameters of the estimated networks minus those of the target.
        true: (R, W), the same of exactly retrained networks.
    Returns:
        float64 (R,), in [-1, 1]; 0 where a displacement is zero and has no direction.
    Raises:
        ValueError: if shapes differ, or a value is not finite.
    Source: Eq. 1, whose distance between these parameters the synset is distilled to shorten.
    """
    estimated, true = _checked(estimated=(estimated, "RW"), true=(true, "RW"))
    return _cosine(estimated, true)


def empirical_error_agreement(estimated: Tensor, exact: Tensor) -> Agreement:
    """How well the change of the mean loss on a set without each cluster is estimated.

    Args:
        estimated: (K,), mean loss without each cluster minus that of the target, in nats.
        exact: (K,), the same of exactly retrained networks.
    Returns:
        Pearson's and Spearman's correlation over the clusters, 0 where either side is constant.
    Raises:
        ValueError: if shapes differ, a value is not finite, or K is below 2.
    Source: Sec. 8.3, Fig. 7, which shows the two curves and no figure.
    """
    estimated, exact = _checked(estimated=(estimated, "K"), exact=(exact, "K"))
    _at_least_two("clusters", len(estimated))
    pair = estimated[None], exact[None]
    return Agreement(float(_correlation(*pair)), float(_spearman(*pair)))


def agreement_interval(
    estimated: Tensor, exact: Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile bootstrap intervals of Pearson's and Spearman's correlation; clusters are resampled in pairs.

    Args:
        estimated: (K,), one value per cluster.
        exact: (K,), the truth of the same.
        generator: draws the resamples.
        level: wanted coverage, between 0 and 1.
        resamples: how many.
    Returns:
        Low and high end of Pearson's, then of Spearman's.
    Raises:
        ValueError: as `empirical_error_agreement`, or if level or resamples make no sense.
    Source: Efron 1979.
    """
    _check_request(level, resamples)
    estimated, exact = _checked(estimated=(estimated, "K"), exact=(exact, "K"))
    _at_least_two("clusters", len(estimated))
    drawn = torch.randint(len(exact), (resamples, len(exact)), generator=generator)
    pair = estimated[drawn], exact[drawn]
    pearson, spearman = (each(*pair).numpy() for each in (_correlation, _spearman))
    return _quantiles(pearson, level), _quantiles(spearman, level)


def bootstrap_interval(
    values: Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over queries.

    Few queries with heavy tails, as of Dist_1, make it too narrow: read it with care below 100 queries.

    Args:
        values: (N,), a figure of each query.
        generator: draws the resamples.
        level: wanted coverage, between 0 and 1.
        resamples: how many.
    Returns:
        Low and high end, in the unit of the values.
    Raises:
        ValueError: if N is below 2, a value is not finite, or level or resamples make no sense.
    Source: Efron 1979.
    """
    (values,) = _checked(values=(values, "N"))
    (means,) = _resampled_means([values], generator, level, resamples)
    return _quantiles(means, level)


def recovered_share_interval(
    judged: Judged, generator: torch.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the recovered share; a query's gain and room are drawn together.

    Resamples in which all clusters are equal for every query have no share and are left out.

    Args:
        judged: of N queries.
        generator: draws the resamples.
        level: wanted coverage, between 0 and 1.
        resamples: how many.
    Returns:
        Low and high end, as shares.
    Raises:
        ValueError: if N is below 2, for every query all clusters are equal, or level or resamples make no sense.
    Source: Efron 1979.
    """
    gain, room = _resampled_means(_gain_and_room(judged), generator, level, resamples)
    return _quantiles(gain[room > 0] / room[room > 0], level)


def cluster_lds_interval(
    effect: Tensor,
    behaviours: Tensor,
    perturbations: Tensor,
    generator: torch.Generator,
    level: float = 0.95,
    resamples: int = 200,
) -> tuple[float, float]:
    """Bootstrap interval of the mean cluster LDS that resamples queries and retrained networks, each by itself.

    Networks are shared by all queries, so resampling queries alone can give less than half the width that is due.
    A network drawn twice ties with itself, which pulls rank correlations towards 0: the resamples are shifted back to
    the mean LDS as it was measured. The interval is of what other queries and as many other networks would give, and
    errs on the wide side where both are few.

    Args:
        effect: (N, K), as for `cluster_lds`.
        behaviours: (R, N).
        perturbations: (R, K) in {0, 1}; 0 = the cluster is deleted.
        generator: draws the resamples.
        level: wanted coverage, between 0 and 1.
        resamples: how many.
    Returns:
        Low and high end, within [-1, 1].
    Raises:
        ValueError: as `cluster_lds`, or if level or resamples make no sense.
    Source: Owen 2007, "The pigeonhole bootstrap".
    """
    _check_request(level, resamples)
    return _lds_interval(*_predicted_and_true(effect, behaviours, perturbations), generator, level, resamples)


def set_lds_interval(
    effect: Tensor, behaviours: Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = 200
) -> tuple[float, float]:
    """Bootstrap interval of the mean of `set_lds`, as `cluster_lds_interval` makes it; arguments as there."""
    _check_request(level, resamples)
    return _lds_interval(*_sets_and_true(effect, behaviours), generator, level, resamples)


def _lds_interval(
    predicted: Tensor, true: Tensor, generator: torch.Generator, level: float, resamples: int
) -> tuple[float, float]:
    num_queries, num_networks = predicted.shape

    def resampled() -> float:
        queries = torch.randint(num_queries, (num_queries, 1), generator=generator)
        networks = torch.randint(num_networks, (num_networks,), generator=generator)
        return float(_spearman(predicted[queries, networks], true[queries, networks]).mean())

    drawn = np.array([resampled() for _ in range(resamples)])
    shift = float(_spearman(predicted, true).mean()) - drawn.mean()
    return _quantiles((drawn + shift).clip(-1, 1), level)


FEWEST_CLUSTERS = 5
"""With fewer clusters, a rank correlation says nothing of those that were not retrained without."""


def sampled_spearman_interval(effect: Tensor, true_effect: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean rank correlation over all clusters, from a random sample of them.

    The clusters are shared by all queries, so they are left out one at a time (the jackknife); the variance over
    queries is added. Student's t with C - 2 degrees of freedom, on Fisher's scale, on which the spread does not depend
    on the correlation, makes up for the few clusters. The coverage was simulated at 8 and 20 of 100 clusters.

    Args:
        effect: (N, C), behaviour without each sampled cluster minus behaviour of the target, estimated.
        true_effect: (N, C), the same of exactly retrained networks.
        level: wanted coverage, between 0 and 1.
    Returns:
        Low and high end; -1 and 1 for fewer than 5 clusters.
    Raises:
        ValueError: as `leave_one_out_spearman`, or if level makes no sense.
    Source: Quenouille 1956; Fisher 1915.
    """
    _check_request(level, 1)
    each = leave_one_out_spearman(effect, true_effect)
    num_queries, count = effect.shape
    if count < FEWEST_CLUSTERS:
        return -1.0, 1.0
    kept = [torch.arange(count) != left for left in range(count)]
    without = torch.stack([leave_one_out_spearman(effect[:, rows], true_effect[:, rows]).mean() for rows in kept])
    variance = float((count - 1) * without.var(correction=0))
    variance += float(each.var()) / num_queries if num_queries > 1 else 0.0
    value = min(max(float(each.mean()), -_NEARLY_ONE), _NEARLY_ONE)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, count - 2)) * variance**0.5 / (1 - value**2)
    low, high = np.tanh([np.arctanh(value) - reach, np.arctanh(value) + reach])
    return float(low), float(high)


def sampled_explained_interval(effect: Tensor, true_effect: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of `explained` over all clusters or sets, from a random sample of them.

    The sampled ones are shared by all queries, so they are left out one at a time (the jackknife), and the variance
    over queries is added, on the logarithm of the share that is not explained. Student's t with C - 2 degrees of
    freedom makes up for the few.

    Args:
        effect: (N, C), behaviour without each sampled cluster or set minus behaviour of the target, estimated.
        true_effect: (N, C), the same of exactly retrained networks.
        level: wanted coverage, between 0 and 1.
    Returns:
        Low and high end; minus infinity and 1 for fewer than 5 clusters or sets.
    Raises:
        ValueError: as `explained`, or if level makes no sense.
    Source: Quenouille 1956.
    """
    _check_request(level, 1)
    value = explained(effect, true_effect)
    effect, true_effect = _checked(effect=(effect, "NC"), true_effect=(true_effect, "NC"))
    num_queries, count = effect.shape
    if count < FEWEST_CLUSTERS:
        return -math.inf, 1.0
    if value == 1:
        return 1.0, 1.0
    missed, total = (true_effect - effect).square(), true_effect.square()
    left = [(each.sum() - each.sum(0)).clamp_min(TINY).log() for each in (missed, total)]
    variance = float((count - 1) * (left[0] - left[1]).var(correction=0))
    if num_queries > 1:
        shares = missed.sum(1) / missed.sum() - total.sum(1) / total.sum()
        variance += float(shares.square().sum()) * num_queries / (num_queries - 1)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, count - 2)) * variance**0.5
    return 1 - (1 - value) * math.exp(reach), 1 - (1 - value) * math.exp(-reach)


def _checked(**arguments: tuple[Tensor, str]) -> list[Tensor]:
    """Each argument as float64 on the CPU: finite, not empty, one letter a dimension, equal letters equal sizes."""
    sizes: dict[str, int] = {}
    for name, (values, letters) in arguments.items():
        shape, known = tuple(values.shape), ", ".join(f"{letter} = {size}" for letter, size in sizes.items())
        if len(shape) != len(letters) or any(
            sizes.setdefault(letter, size) != size for letter, size in zip(letters, shape, strict=True)
        ):
            wanted = f"({', '.join(letters)})" + (f" with {known}" if known else "")
            raise ValueError(f"{name} must have shape {wanted}; its shape is {shape}")
        if not values.numel():
            raise ValueError(f"{name} is empty; its shape is {shape}")
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinity")
    return [values.detach().cpu().double() for values, _ in arguments.values()]


def _clusters(name: str, ids: Tensor, truth: Tensor, least: int) -> Tensor:
    """Cluster ids on the CPU: int64, `least` a query or more, all among those of truth."""
    num_queries, num_clusters = truth.shape
    if ids.ndim != 2 or len(ids) != num_queries or ids.shape[1] < least:
        raise ValueError(f"{name} must name clusters for {num_queries} queries; its shape is {tuple(ids.shape)}")
    if ids.dtype != torch.int64:
        raise ValueError(f"{name} must be int64; it is {ids.dtype}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= num_clusters:
        raise ValueError(f"{name} must lie between 0 and {num_clusters - 1}; it holds {low} to {high}")
    return ids.detach().cpu()


def _at_least_two(what: str, count: int) -> None:
    if count < 2:
        raise ValueError(f"at least two {what} are needed; there is {count}")


def _check_request(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; it is {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1; it is {resamples}")


def _rank(truth: Tensor) -> Tensor:
    """1 + the number of clusters strictly above, float64 (N, K)."""
    return torch.from_numpy(scipy.stats.rankdata(-truth.numpy(), method="min", axis=1)).double()


def _gain_and_room(judged: Judged) -> list[Tensor]:
    """What the choice and the oracle are above random, (N,) each."""
    gain, room = judged.chosen - judged.random, judged.oracle - judged.random
    if not room.any():
        raise ValueError("a recovered share needs clusters that differ; for every query all are equal by the truth")
    return [gain, room]


def _predicted_and_true(effect: Tensor, behaviours: Tensor, perturbations: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the deleted clusters' effects, as shares of Σ|effect|, and true behaviours: (N, R) each."""
    effect, behaviours, kept = _checked(
        effect=(effect, "NK"), behaviours=(behaviours, "RN"), perturbations=(perturbations, "RK")
    )
    if not ((kept == 0) | (kept == 1)).all():
        raise ValueError("perturbations must be 0 (the cluster is deleted) or 1")
    _at_least_two("retrained networks", len(kept))
    share = effect / effect.abs().sum(1, keepdim=True).clamp_min(TINY)
    return (share @ (1 - kept).T).round(decimals=12), behaviours.T


def _sets_and_true(effect: Tensor, behaviours: Tensor) -> tuple[Tensor, Tensor]:
    """Estimated and true behaviours of sets, (N, R) each."""
    effect, behaviours = _checked(effect=(effect, "NR"), behaviours=(behaviours, "RN"))
    _at_least_two("retrained networks", len(behaviours))
    return effect, behaviours.T


def _missed_and_total(effect: Tensor, true_effect: Tensor) -> tuple[Tensor, Tensor]:
    """Squares of what each query's estimates miss, and of its true effects, (N,) each."""
    effect, true_effect = _checked(effect=(effect, "NK"), true_effect=(true_effect, "NK"))
    if not true_effect.any():
        raise ValueError("all true effects are zero, so nothing can be explained")
    return (true_effect - effect).square().sum(1), true_effect.square().sum(1)


def _spearman(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's correlation of each row; ties share their average rank, a constant row gives 0."""
    ranks = [torch.from_numpy(scipy.stats.rankdata(values.numpy(), axis=1)) for values in (x, y)]
    return _correlation(*ranks)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of each row; a constant row gives 0."""
    constant = (x == x[:, :1]).all(1) | (y == y[:, :1]).all(1)
    return _cosine(x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)).masked_fill(constant, 0)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row; a row of zeros gives 0."""
    return F.cosine_similarity(x, y, dim=1, eps=TINY).clamp(-1, 1)


def _resampled_means(columns: list[Tensor], generator: torch.Generator, level: float, resamples: int) -> Any:
    """Means of columns (N,) whose rows are resampled together: float64 (columns, resamples)."""
    _check_request(level, resamples)
    _at_least_two("queries", len(columns[0]))
    drawn = scipy.stats.bootstrap(
        [column.numpy() for column in columns],
        lambda *resampled, axis: np.stack([column.mean(axis) for column in resampled]),
        n_resamples=resamples,
        batch=100,  # bounds the memory
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator))),
    )
    return drawn.bootstrap_distribution


def _quantiles(drawn: Any, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""The attribution matrix W: behaviours of perturbed networks regressed on the clusters that they kept (Eq. 7, 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.offline.partition import Partition
from ddm_framework.online.perturbations import check_determined
from ddm_framework.online.questions import Objective, Reference

VALUES_IN_A_REGRESSION = 2**20
"""Behaviours that are regressed together, 8 MiB of them."""


def fit_attribution(
    perturbations: Tensor, behaviours: Tensor, weights: Tensor, ridge: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Fit W by weighted least squares of behaviours on perturbations.

    Args:
        perturbations: (P, K) in {0, 1}; 0 = the cluster is deleted.
        behaviours: (P, N, m), in the objective's own unit.
        weights: β, (P,), each above 0.
        ridge: penalty on the squared entries of W.
    Returns:
        W of shape (N, K, m) and the intercept (N, m), float64. The effect of deleting cluster κ is -W[:, κ].
    Raises:
        DDMError: if the perturbations do not determine W (rank < K + 1) and ridge is 0, or a behaviour is not finite.
    Source: Eq. 8.
    """
    from sklearn.linear_model import LinearRegression, Ridge

    check_determined(perturbations, ridge)
    if not torch.isfinite(behaviours).all():
        raise DDMError(
            "an objective returned NaN or infinity for a perturbed network; "
            "lower online.step_size, or fix the objective"
        )
    count, num_clusters = perturbations.shape
    _, num_queries, num_behaviours = behaviours.shape
    matrix = torch.empty(num_queries, num_clusters, num_behaviours, dtype=torch.float64)
    intercept = torch.empty(num_queries, num_behaviours, dtype=torch.float64)
    kept, importance = perturbations.double().cpu().numpy(), weights.double().cpu().numpy()
    # Queries do not depend on one another. The solver copies what it is given a few times, so it is given a part.
    size = max(1, VALUES_IN_A_REGRESSION // (count * max(num_behaviours, 1)))
    for low in range(0, num_queries, size):
        part = slice(low, low + size)
        # svd is exact for any scale of the behaviours; the other solvers iterate to a tolerance.
        model = Ridge(alpha=ridge, solver="svd") if ridge else LinearRegression()
        observed = behaviours[:, part].reshape(count, -1).double().cpu().numpy()
        model.fit(kept, observed, sample_weight=importance)
        found = torch.as_tensor(model.coef_).reshape(-1, num_behaviours, num_clusters)
        matrix[part] = found.transpose(1, 2)
        intercept[part] = torch.as_tensor(model.intercept_).reshape(-1, num_behaviours)
    return matrix, intercept


NEAR_TIE = 0.9
"""Share of the first effect from which on the second is said to be nearly tied with it."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The attribution matrix of one objective.

    Attributes:
        objective: the objective that was attributed.
        matrix: W of Eq. 8, float64 (N, K, m).
        intercept: float64 (N, m).
        target_behaviour: the target's own, float64 (N, m).
        support: above 0 where a cluster made the network say what it says, below 0 where it spoke against it, float64
            (N, K): what it adds to the probability of the predicted class, or what has the same sign. None where that
            is not known, as for a whole set.
    """

    objective: Objective
    matrix: Tensor
    intercept: Tensor
    target_behaviour: Tensor
    support: Tensor | None = None

    @property
    def effect(self) -> Tensor:
        """Behaviour without each cluster minus behaviour of the target, (N, K, m)."""
        return -self.matrix


@dataclass(frozen=True, slots=True)
class Sides:
    """Clusters on both sides of one prediction, the strongest first.

    Attributes:
        made: clusters that made the network say what it says.
        against: clusters that spoke against it.
    """

    made: list[int]
    against: list[int]


def sides(attribution: Attribution, query: int) -> Sides | None:
    """Clusters for and against the prediction of a query, or None where the sign is not known.

    On either side clusters are ordered by the size of their effect on the objective. An objective without a sign, such
    as a distance from the target, orders them as well as one with a sign: they are told apart by the probability of the
    predicted class.

    Args:
        attribution: by an objective with one behaviour.
        query: its position.
    """
    if attribution.support is None:
        return None
    # Of this query alone: `effect` is a copy of the whole matrix.
    support, effect = attribution.support[query], -attribution.matrix[query, :, 0]
    if attribution.objective.more_influential == "nearest_zero":
        order = attribution.objective.ranking(-attribution.matrix[query : query + 1])[0]
    else:
        order = effect.abs().argsort(descending=True, stable=True)
    return Sides(order[support[order] > 0].tolist(), order[support[order] < 0].tolist())


def nearly_tied(attribution: Attribution, query: int, clusters: list[int]) -> bool:
    """Whether the effect of the second of some clusters is at least `NEAR_TIE` of that of the first."""
    if len(clusters) < 2:
        return False
    first, second = attribution.matrix[query, clusters[:2], 0].abs().tolist()
    return bool(min(first, second) >= NEAR_TIE * max(first, second))


@dataclass(frozen=True, slots=True)
class Estimate:
    """The effects that an attributor estimates.

    Attributes:
        objective: the objective that was attributed, or its surrogate.
        effect: of deleting each cluster, float64 (N, K, m).
        partition: the clusters that the effects refer to.
        on_run_partition: whether this is the partition of the run.
    """

    objective: Objective
    effect: Tensor
    partition: Partition
    on_run_partition: bool

    @property
    def ranking(self) -> Tensor:
        """Clusters from the most to the least influential, int64 (N, K)."""
        return self.objective.ranking(self.effect)


def fit(
    objective: Objective,
    reference: Reference,
    perturbations: Tensor,
    logits: Iterable[Tensor],
    weights: Tensor,
    ridge: float = 0.0,
) -> Attribution:
    """Measure every perturbed network and regress (Eq. 8).

    Args:
        logits: (N, classes) of each of P networks; all at once or one after the other.
        weights: β, (P,).
    """
    # A loop, not a vmap: objectives may use `.item()` or scikit-learn, and no network runs here. What an objective
    # measures may be a part of the logits, and would keep all of them.
    behaviours = torch.stack([objective.measure(each, reference).clone() for each in logits])
    return regress(objective, reference, perturbations, behaviours, weights, ridge)


def regress(
    objective: Objective,
    reference: Reference,
    perturbations: Tensor,
    behaviours: Tensor,
    weights: Tensor,
    ridge: float = 0.0,
) -> Attribution:
    """The attribution of what was measured (Eq. 8).

    Args:
        behaviours: (P, N, m).
        weights: β, (P,).
    """
    matrix, intercept = fit_attribution(perturbations, behaviours, weights, ridge)
    own = objective.measure(reference.target_logits, reference).double().cpu()
    return Attribution(objective, matrix, intercept, own)

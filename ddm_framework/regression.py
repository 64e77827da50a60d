"""The attribution matrix W: behaviours of perturbed networks regressed on which clusters were there (Eq. 7, 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.perturbations import check_determined


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
            "lower online.step_size, or mend the objective"
        )
    count, num_clusters = perturbations.shape
    _, num_queries, num_behaviours = behaviours.shape
    model = Ridge(alpha=ridge, solver="svd") if ridge else LinearRegression()
    observed = behaviours.reshape(count, -1).double().cpu().numpy()
    model.fit(perturbations.double().cpu().numpy(), observed, sample_weight=weights.double().cpu().numpy())
    matrix = torch.as_tensor(model.coef_).reshape(num_queries, num_behaviours, num_clusters).transpose(1, 2)
    return matrix.contiguous(), torch.as_tensor(model.intercept_).reshape(num_queries, num_behaviours)

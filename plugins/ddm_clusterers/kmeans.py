"""K-means on the features of one class, by scikit-learn."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor


def assign(
    features: Tensor,
    num_clusters: int,
    generator: torch.Generator,
    /,
    *,
    restarts: Annotated[int, Field(ge=1, le=10_000)] = 4,
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 300,
) -> Tensor:
    """Cluster ids of one class.

    Args:
        features: (N, D), float.
        num_clusters: how many clusters; at most N.
        generator: the only source of randomness.
        restarts: runs of k-means from different centres; the one with the lowest inertia is kept.
        max_iterations: of each run.
    Returns:
        int64 (N,), every id from 0 to num_clusters - 1 used, even if samples are identical.
    Source: Sec. 6.1.
    """
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    model = KMeans(num_clusters, n_init=restarts, max_iter=max_iterations, random_state=seed)
    ids = torch.from_numpy(model.fit_predict(features.double().numpy())).long()
    return _without_empty(ids, num_clusters)


def _without_empty(ids: Tensor, num_clusters: int) -> Tensor:
    """Move a sample of the largest cluster to each empty one; identical samples can leave clusters empty."""
    sizes = ids.bincount(minlength=num_clusters)
    for empty in (sizes == 0).nonzero()[:, 0].tolist():
        largest = int(sizes.argmax())
        ids[(ids == largest).nonzero()[0, 0]] = empty
        sizes[largest] -= 1
        sizes[empty] = 1
    return ids

"""Influence functions in the subspace of the Hessian's largest eigenvalues, found by Arnoldi iteration ("Scaleup")."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from ddm_attributors.captum_examples import (
    GroupCrossEntropy,
    GroupSlope,
    cluster_examples,
    grouped_network,
    query_examples,
)
from ddm_attributors.isolation import undisturbed
from ddm_attributors.libraries import needed
from ddm_attributors.slopes import gathered, slopes
from ddm_framework import attributor
from ddm_framework.data import ImageSet
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


@attributor(linear=True, logits=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    projection_dim: Annotated[int, Field(ge=1, le=1_000_000)] = 400,
    arnoldi_dim: Annotated[int, Field(ge=2, le=1_000_000)] = 400,
    damping: Annotated[float, Field(gt=0)] = 0.01,
    tolerance: Annotated[float, Field(ge=0)] = 1e-6,
    images: Annotated[int, Field(ge=1, le=1_000_000)] = 500,
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128,
) -> Tensor:
    """Effect of deleting each cluster: ∇f·H⁻¹Σ∇L at the target, by captum's ArnoldiInfluenceFunction.

    H is the Hessian of the summed training loss, weight decay included, restricted to its largest eigenvalues, of
    which only positive ones are used; directions outside the span of their eigenvectors are taken to have no influence.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
        projection_dim: number of eigenvectors kept; each takes the memory of a network.
        arnoldi_dim: steps of the iteration; each takes a Hessian-vector product over the images and stores a vector.
        damping: added to the eigenvalues, in the unit of the mean loss's Hessian.
        tolerance: the iteration stops when the next Krylov vector is shorter than this, in the same unit.
        images: number of random training images for estimating the Hessian; all if there are fewer.
        batch_size: images in one pass.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if captum is not installed or the objective has no gradient.
    Source: Schioppa et al. 2022, Scaling Up Influence Functions, Alg. 1.
    """
    library = needed("captum.influence._core.arnoldi_influence_function", "arnoldi")
    train, reference = workspace.data.train, workspace.reference(queries)
    clusters, owners = cluster_examples(train, workspace.partition)
    directions = slopes(objective, reference.target_logits, reference)
    drawn = torch.randperm(len(train), generator=workspace.generator("arnoldi", "images"))[:images]
    seen = train.take(drawn.sort().values.to(workspace.device))
    # Captum sums the loss over the images, so values in the unit of the mean loss are multiplied by their number.
    added = len(seen) * (damping + workspace.recipe.training.weight_decay)
    with undisturbed(workspace.device):
        with workspace.offline_work():
            influence = library.ArnoldiInfluenceFunction(
                grouped_network(workspace, workspace.target),
                clusters,
                checkpoint=None,
                checkpoints_load_func=lambda *_: 1.0,
                loss_fn=GroupCrossEntropy(),
                test_loss_fn=GroupSlope(),
                hessian_dataset=_batches(seen, batch_size),
                projection_dim=projection_dim,
                arnoldi_dim=arnoldi_dim,
                seed=workspace.generator("arnoldi").initial_seed(),
                hessian_reg=added,
                # Directions of positive curvature only: in the others the damped inverse is arbitrary.
                hessian_inverse_tol=added,
                arnoldi_tol=len(seen) * tolerance,
                projection_on_cpu=False,
            )
            steps = influence.compute_intermediate_quantities(clusters, return_on_cpu=False) * len(seen) / len(train)
        effects = []
        for slope in directions:
            asked = query_examples(queries.images, slope)
            rises = influence.compute_intermediate_quantities(asked, return_on_cpu=False, test=True)
            scores = (rises @ steps.T).detach().double()
            effects.append(
                scores.new_zeros(len(scores), workspace.partition.num_clusters).index_add_(1, owners, scores)
            )
    return gathered(objective, effects)


def _batches(seen: ImageSet, size: int) -> DataLoader[Any]:
    """Training images in large groups, each with one Hessian."""
    pairs = zip(seen.images.split(size), seen.labels.split(size), strict=True)
    return DataLoader([(images[None], labels[None]) for images, labels in pairs], batch_size=None)

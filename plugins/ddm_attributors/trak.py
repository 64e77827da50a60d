"""TRAK: the network as a linear model of its randomly projected gradients, by dattri."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ddm_attributors.constants import as_buffers
from ddm_attributors.gradients import Scalar, behaviour_of, gradients
from ddm_attributors.isolation import undisturbed
from ddm_attributors.libraries import needed
from ddm_attributors.slopes import gathered, slopes
from ddm_framework import attributor
from ddm_framework.network import Cost, Network, Parameters, num_weights
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace

_PROJECTED = Cost(weights=4, activations=4, most=1024)
"""A gradient of one sample that dattri computes and projects."""


@attributor(linear=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    projection_dim: Annotated[int, Field(ge=1, le=1_000_000)] = 1000,
    damping: Annotated[float, Field(ge=0)] = 0.003,
    checkpoints: Annotated[int, Field(ge=1, le=1_000_000)] = 10,
    spacing: Literal["last", "even"] = "even",
) -> Tensor:
    """Effect of deleting each cluster: −φ(query)·(ΦᵀΦ)⁻¹Φᵀ(1 − p), mean over checkpoints, by dattri's TRAKAttributor.

    The features Φ of the training images are projected gradients of the log odds of their labels, φ of a query that of
    the objective, and p the probability of the label.

    Args:
        workspace: of the run whose trajectory is used.
        queries: N of them.
        objective: with m behaviours and a gradient.
        projection_dim: number of dimensions that gradients are projected to.
        damping: added to the diagonal of ΦᵀΦ / n, as a share of the mean squared length of the features. TRAK's paper
            has none, as it has many more images than dimensions; with fewer images there is no inverse without damping.
        checkpoints: number of saved epochs to use, never θ_0; all if there are fewer.
        spacing: `last` takes the last ones, `even` evenly spaced ones including θ_τ.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
        As in TRAK's paper, the unit is that of the objective up to a common factor.
    Raises:
        DDMError: if dattri is not installed or the objective has no gradient.
    Source: Park et al. 2023, TRAK: Attributing Model Behavior at Scale; TRAK Alg. 1, TRAK Eq. 13-17.
    """
    library = needed("dattri.algorithm.trak", "trak")
    partition, network = workspace.partition, workspace.network
    epochs, reference = _epochs(list(workspace.trajectory), checkpoints, spacing), workspace.reference(queries)
    # dattri draws the whole projection again for each batch, so many small batches are slow.
    batch_size = workspace.budget.fitting(network, _PROJECTED)
    with undisturbed(workspace.device), _without_bars(library):
        with workspace.offline_work():
            fitted = [_fitted(library, workspace, epoch, projection_dim, damping, batch_size) for epoch in epochs]
        # TRAK Eq. 17 averages the two factors separately, as dattri does if one attributor holds all checkpoints.
        missed = torch.stack([each.Q for each in fitted]).mean(0)
        scores: list[Tensor] = []
        for epoch, each in zip(epochs, fitted, strict=True):
            each.Q = missed
            directions = slopes(
                objective, _logits(workspace.trained.at(epoch), workspace.trajectory[epoch], queries.images), reference
            )
            asked = [DataLoader(TensorDataset(queries.images, slope), batch_size) for slope in directions]
            scores.append(torch.stack([each.attribute(some).double() for some in asked]))
    mean = torch.stack(scores).mean(0)
    total = mean.new_zeros(len(mean), partition.num_clusters, len(queries)).index_add_(1, partition.clusters, mean)
    return gathered(objective, -total.transpose(1, 2))


def _fitted(
    library: ModuleType, workspace: Workspace, epoch: int, projection_dim: int, damping: float, batch_size: int
) -> Any:
    """A TRAKAttributor of one checkpoint, fitted to the training set."""
    network, train, parameters = workspace.trained.at(epoch), workspace.data.train, workspace.trajectory[epoch]
    log_odds = _log_odds(network)
    module = as_buffers(workspace.module(parameters, network), parameters)
    task = needed("dattri.task", "trak").AttributionTask(
        _of_pair(log_odds),
        module,
        module.state_dict(),
        _of_pair(behaviour_of(network)),
    )
    budget = workspace.budget
    features = gradients(log_odds, network, parameters, train.images, train.labels, budget)
    squares = sum(float(each.square().sum()) for each in features)
    fitted = library.TRAKAttributor(
        task,
        _of_pair(_probability(network)),
        device=str(workspace.device),
        # dattri adds it to ΦᵀΦ, a sum over images, and divides gradients by the root of the number of weights.
        regularization=damping * squares / num_weights(parameters),
    )
    # The constructor would store these in a dictionary that all its attributors share.
    fitted.projector_kwargs = {
        "proj_dim": projection_dim,
        "proj_max_batch_size": 32,
        "proj_seed": workspace.generator("trak", epoch).initial_seed() % 2**31,
        "device": str(workspace.device),
    }
    fitted.cache(DataLoader(TensorDataset(train.images[:], train.labels), batch_size))
    return fitted


def _epochs(saved: list[int], count: int, spacing: str) -> list[int]:
    """Saved epochs after θ_0, always including the last one."""
    later = sorted(epoch for epoch in saved if epoch > 0)
    count = min(count, len(later))
    if spacing == "last":
        return later[-count:]
    return [later[round(index * len(later) / count) - 1] for index in range(1, count + 1)]


def _of_pair(function: Scalar) -> Callable[[Parameters, tuple[Tensor, Tensor]], Tensor]:
    """A function of one sample in the form that dattri calls, with the image and its companion in one argument."""

    def paired(parameters: Parameters, pair: tuple[Tensor, Tensor]) -> Tensor:
        return function(parameters, *pair)

    return paired


def _log_odds(network: Network) -> Scalar:
    """Logit of an image's label minus log-sum-exp of the others: log p / (1 - p), exact also where p rounds to 1."""

    def log_odds(parameters: Parameters, image: Tensor, label: Tensor) -> Tensor:
        logits = network(parameters, image[None])[0]
        is_label = torch.arange(len(logits), device=logits.device) == label
        return (logits * is_label).sum() - logits.masked_fill(is_label, float("-inf")).logsumexp(0)

    return log_odds


def _probability(network: Network) -> Scalar:
    """Predicted probability of an image's label."""

    def probability(parameters: Parameters, image: Tensor, label: Tensor) -> Tensor:
        return torch.exp(-F.cross_entropy(network(parameters, image[None]), label[None]))

    return probability


def _logits(network: Network, parameters: Parameters, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(parameters, batch) for batch in images.split(128)])


@contextmanager
def _without_bars(library: ModuleType) -> Iterator[None]:
    """Silence the progress bars of dattri, which has no option for it."""
    bar = library.tqdm
    library.tqdm = lambda batches, **_: batches
    try:
        yield
    finally:
        library.tqdm = bar

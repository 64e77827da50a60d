"""SOURCE by matrix exponentials, and the tangent of a whole training by finite differences of that training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import linearised, source
from known_runs import (
    DECAY,
    MARGIN,
    NUM_CLUSTERS,
    NUM_TRAIN,
    correlation,
    flat_of,
    regression,
    retrained_digits,
    workspace_of,
)
from torch import Tensor

from ddm_framework import DDMError
from ddm_framework.network import Budget, flat, start, train
from ddm_framework.recipe import Training
from ddm_framework.runs import Workspace


def unrolled(segments: list[list[int]], training: Training) -> Tensor:
    """Displacements (K, weights) of the convex model by the definition, with the whole Hessian of each checkpoint."""
    known = regression()
    total = torch.zeros(NUM_CLUSTERS, 15, dtype=torch.float64)
    begun = 0
    for epochs in segments:
        at = [flat_of(known.workspace.trajectory[epoch]) for epoch in epochs]
        hessian = torch.stack([known.hessian(each) for each in at]).mean(0)
        pulls = torch.stack([known.by_cluster(known.loss_gradients(each).T).T for each in at]).mean(0) / NUM_TRAIN
        time = training.lr * (epochs[-1] - begun) * NUM_TRAIN / training.batch_size / (1 - training.momentum)
        shrunk = torch.linalg.matrix_exp(-time * hessian)
        gained = torch.linalg.solve(hessian, torch.eye(15, dtype=torch.float64) - shrunk)
        total, begun = total @ shrunk + pulls @ gained, epochs[-1]
    return total


@pytest.mark.parametrize(("count", "segments"), [(1, [[1, 2]]), (2, [[1], [2]]), (5, [[1], [2]])])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_source_is_that_of_matrix_exponentials(count: int, segments: list[list[int]], momentum: float) -> None:
    known = regression()
    training = Training(weight_decay=DECAY, momentum=momentum, lr=0.1, batch_size=16)
    workspace = with_training(known.workspace, training)
    found = source.attribute(workspace, known.queries, MARGIN, segments=count, rows=4096)
    asked = known.margin_gradients(flat_of(workspace.target), known.queries)
    torch.testing.assert_close(found[:, :, 0], asked @ unrolled(segments, training).T)


def with_training(workspace: Workspace, training: Training) -> Workspace:
    trajectory: Any = workspace.trajectory
    return workspace_of(workspace.network, trajectory, workspace.data.train, workspace.partition, training)


def test_a_long_enough_segment_at_the_optimum_is_the_influence_function() -> None:
    known = regression()
    trajectory: Any = {0: known.workspace.target, 1: known.workspace.target}
    training = Training(weight_decay=DECAY, lr=1000.0, epochs=1)
    data, partition = known.workspace.data.train, known.workspace.partition
    workspace = workspace_of(known.workspace.network, trajectory, data, partition, training)
    target = flat_of(workspace.target)
    moves = torch.linalg.solve(known.hessian(target), known.loss_gradients(target).T) / NUM_TRAIN
    wanted = known.by_cluster(known.margin_gradients(target, known.queries) @ moves)
    found = source.attribute(workspace, known.queries, MARGIN, segments=1, rows=4096)
    torch.testing.assert_close(found[:, :, 0], wanted)


def test_source_agrees_with_retraining_a_network() -> None:
    workspace, queries, truth = retrained_digits()
    assert correlation(source.attribute(workspace, queries, MARGIN)[:, :, 0], truth) > 0.6


@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine"}], ids=["plain", "momentum"]
)
def test_the_tangent_is_the_limit_of_small_changes_of_the_weights_of_samples(changes: dict[str, Any]) -> None:
    known = regression()
    training = Training(epochs=4, lr=0.2, batch_size=16, **changes)
    workspace, step = with_training(known.workspace, training), 1e-4
    clusters = workspace.partition.clusters
    ones = torch.ones(2 * NUM_CLUSTERS, NUM_TRAIN, dtype=torch.float64)
    for cluster in range(NUM_CLUSTERS):
        ones[2 * cluster, clusters == cluster] -= step
        ones[2 * cluster + 1, clusters == cluster] += step
    begun = start(workspace.initial, len(ones))
    *_, last = train(workspace.network, begun, workspace.data.train, ones, training, workspace.recipe.general.seed)
    ends = flat(last.parameters)
    wanted = (ends[0::2] - ends[1::2]) / (2 * step)
    torch.testing.assert_close(linearised.tangents(workspace), wanted, rtol=1e-5, atol=1e-7)


def test_the_tangent_of_a_network_foretells_retraining_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, queries, truth = retrained_digits()
    found = linearised.attribute(workspace, queries, MARGIN)
    assert correlation(found[:, :, 0], truth) > 0.6
    moves = linearised.tangents(workspace)
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: 7)
    torch.testing.assert_close(linearised.tangents(workspace), moves, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attribute", [source.attribute, linearised.attribute])
def test_a_training_that_nobody_knows_is_refused(attribute: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = regression()
    monkeypatch.setattr(known.workspace.recipe.target, "checkpoint", "net.pt")
    with pytest.raises(DDMError, match="trained elsewhere"):
        attribute(known.workspace, known.queries, MARGIN)

"""Inner products, cosines and the mean of single samples' inverses, by definition on a convex model."""

from __future__ import annotations

import pytest
import torch
from ddm_attributors import first_order
from known_runs import MARGIN, NUM_CLUSTERS, NUM_TRAIN, flat_of, regression
from torch import Tensor


def gradients() -> tuple[Tensor, Tensor]:
    """∇f of the queries (N, weights), and Σ∇L / n of each cluster (K, weights)."""
    known = regression()
    target = flat_of(known.workspace.target)
    single = known.loss_gradients(target)
    return known.margin_gradients(target, known.queries), known.by_cluster(single.T).T / NUM_TRAIN


def test_graddot_is_the_inner_product() -> None:
    known = regression()
    asked, pulls = gradients()
    found = first_order.graddot(known.workspace, known.queries, MARGIN)
    assert found.shape == (8, NUM_CLUSTERS, 1)
    torch.testing.assert_close(found[:, :, 0], asked @ pulls.T)


def test_gradcos_is_the_cosine() -> None:
    known = regression()
    asked, pulls = gradients()
    wanted = torch.nn.functional.cosine_similarity(asked[:, None], pulls[None], dim=2)
    torch.testing.assert_close(first_order.gradcos(known.workspace, known.queries, MARGIN)[:, :, 0], wanted)


@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_datainf_averages_the_inverses_of_single_samples_layer_by_layer(damping: float) -> None:
    known = regression()
    target = known.workspace.target
    asked, pulls = gradients()
    single = known.loss_gradients(flat_of(target))
    moves, low = [], 0
    for size in (each.numel() for each in target.values()):
        layer = single[:, low : low + size]
        floor = damping * layer.square().sum(1).mean() / size
        inverse = torch.stack(
            [torch.linalg.inv(torch.outer(each, each) + floor * torch.eye(size).double()) for each in layer]
        ).mean(0)
        moves.append(pulls[:, low : low + size] @ inverse)
        low += size
    found = first_order.datainf(known.workspace, known.queries, MARGIN, damping=damping)
    torch.testing.assert_close(found[:, :, 0], asked @ torch.cat(moves, 1).T)

"""TRAK against its own formula without a projection, and against retraining."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import trak
from known_runs import MARGIN, NUM_CLUSTERS, NUM_TRAIN, correlation, flat_of, regression, retrained_digits
from torch import Tensor

OPTIONS: dict[str, Any] = {"projection_dim": 4000, "damping": 0.1, "checkpoints": 2, "spacing": "even"}
"""So many dimensions hold the angles between gradients by 15 weights."""


@pytest.fixture(autouse=True)
def _dattri() -> None:
    pytest.importorskip("dattri", reason="the extra `compare` is not installed")


def attributed(**options: Any) -> Tensor:
    known = regression()
    return trak.attribute(known.workspace, known.queries, MARGIN, **{**OPTIONS, **options})


def by_definition(damping: float, epochs: tuple[int, ...]) -> Tensor:
    """Minus the mean over checkpoints of φ(ΦᵀΦ + damping)⁻¹Φᵀ times the mean of 1 − p, summed over clusters."""
    known, influences, missed = regression(), [], []
    for epoch in epochs:
        weights = flat_of(known.workspace.trajectory[epoch])
        features = known.margin_gradients(weights, known.workspace.data.train)
        matrix = features.T @ features
        matrix += damping * matrix.trace() * torch.eye(len(weights), dtype=torch.float64)
        influences.append(known.margin_gradients(weights, known.queries) @ torch.linalg.solve(matrix, features.T))
        missed.append(1 - torch.exp(-known.losses(weights)))
    return -known.by_cluster(torch.stack(influences).mean(0) * torch.stack(missed).mean(0))


@pytest.mark.parametrize("epochs", [(2,), (1, 2)])
def test_scores_are_those_of_the_unprojected_formula(epochs: tuple[int, ...]) -> None:
    found, wanted = attributed(checkpoints=len(epochs)), by_definition(0.1, epochs)
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    assert correlation(found, wanted) > 0.99
    assert float((found[:, :, 0] - wanted).norm() / wanted.norm()) < 0.15


def test_effects_foretell_retraining_of_a_convex_model() -> None:
    known = regression()
    everything = torch.ones(NUM_TRAIN, dtype=torch.float64)
    before = known.margins(known.optimum(everything), known.queries)
    clusters = known.workspace.partition.clusters
    changes = [
        known.margins(known.optimum((clusters != k).double()), known.queries) - before for k in range(NUM_CLUSTERS)
    ]
    assert correlation(attributed(checkpoints=1, damping=0.01), torch.stack(changes, 1)) > 0.8


@pytest.mark.parametrize(
    ("count", "spacing", "wanted"),
    [
        (1, "even", [10]),
        (2, "even", [4, 10]),
        (3, "last", [6, 8, 10]),
        (9, "even", [2, 4, 6, 8, 10]),
        (9, "last", [2, 4, 6, 8, 10]),
    ],
)
def test_checkpoints_end_with_the_target_and_leave_out_the_start(count: int, spacing: str, wanted: list[int]) -> None:
    assert trak._epochs([0, 4, 2, 6, 8, 10], count, spacing) == wanted


def test_effects_on_a_network_agree_with_retraining() -> None:
    workspace, queries, truth = retrained_digits()
    options = {"projection_dim": 200, "damping": 0.1, "checkpoints": 2, "spacing": "even"}
    assert correlation(trak.attribute(workspace, queries, MARGIN, **options)[:, :, 0], truth) > 0.4


def test_it_is_silent_and_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    from dattri.algorithm import trak as library

    before, bar = dict(library.DEFAULT_PROJECTOR_KWARGS), library.tqdm
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = attributed(projection_dim=8)
    assert torch.equal(torch.get_rng_state(), state)
    assert (library.DEFAULT_PROJECTOR_KWARGS, library.tqdm) == (before, bar)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(attributed(projection_dim=8), first)

"""TracIn against the sum over checkpoints by definition, and against retraining."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import libraries, tracin
from ddm_objectives.distances import correctness
from ddm_objectives.performance import performance
from known_runs import MARGIN, NUM_CLUSTERS, correlation, flat_of, regression, retrained_digits, workspace_of
from torch import Tensor

from ddm_framework import DDMError
from ddm_framework.network.memory import Budget
from ddm_framework.online.questions import Objective, declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.recipe.settings import Training
from ddm_framework.runs.workspace import Workspace

ALL = 30
WHOLE = {"classes": None, "positive": None}


@pytest.fixture(autouse=True)
def _captum() -> None:
    pytest.importorskip("captum", reason="the extra `compare` is not installed")


def trained(**training: Any) -> Workspace:
    """The regression's run as another training would have made it."""
    known = regression().workspace
    return workspace_of(
        known.network, dict(known.trajectory), known.data.train, known.partition, Training(epochs=2, **training)
    )


def attributed(workspace: Workspace, checkpoints: int = ALL, objective: Objective = MARGIN) -> Tensor:
    return tracin.attribute(workspace, regression().queries, objective, checkpoints=checkpoints)


def by_definition(rates: dict[int, float]) -> Tensor:
    known, scores = regression(), torch.zeros(8, NUM_CLUSTERS, dtype=torch.float64)
    for epoch, rate in rates.items():
        weights = flat_of(known.workspace.trajectory[epoch])
        products = known.margin_gradients(weights, known.queries) @ known.loss_gradients(weights).T
        scores += rate * known.by_cluster(products)
    return scores


def test_every_checkpoint_counts_with_its_learning_rate() -> None:
    found = attributed(trained(lr=0.2, batch_size=16))
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:, :, 0], by_definition({1: 0.2 / 16, 2: 0.2 / 16}), rtol=1e-10, atol=1e-12)


def test_a_checkpoint_stands_for_the_epochs_before_it() -> None:
    found = attributed(trained(lr=0.2, batch_size=16), checkpoints=1)
    torch.testing.assert_close(found[:, :, 0], by_definition({2: 0.4 / 16}), rtol=1e-10, atol=1e-12)


def test_schedule_and_momentum_decide_the_length_of_a_step() -> None:
    found = attributed(trained(lr=0.2, batch_size=16, schedule="cosine", momentum=0.75))
    torch.testing.assert_close(found[:, :, 0], by_definition({1: 0.8 / 16, 2: 0.4 / 16}), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [30]), (2, [15, 30]), (4, [8, 15, 22, 30]), (99, list(range(1, 31)))]
)
def test_checkpoints_are_evenly_spaced_and_share_all_epochs(count: int, chosen: list[int]) -> None:
    training = Training(epochs=30, lr=0.1, batch_size=10)
    steps = dict(tracin._steps(list(range(31)), count, training))
    assert list(steps) == chosen
    assert sum(steps.values()) == pytest.approx(30 * 0.1 / 10)


def test_rarely_saved_epochs_stand_for_all() -> None:
    steps = dict(tracin._steps([0, 4, 8, 10], 3, Training(epochs=10, lr=1.0, batch_size=1)))
    assert steps == {4: 4.0, 8: 4.0, 10: 2.0}


def test_effects_on_a_set_are_those_of_its_mean() -> None:
    loss = declared(Choice("objective", "performance", {"metric": "loss", **WHOLE}, performance))
    found = attributed(trained(), objective=loss)
    single = attributed(trained(), objective=declared(Choice("objective", "correctness", {}, correctness)))
    assert found.shape == (1, NUM_CLUSTERS, 1)
    torch.testing.assert_close(found, single.mean(0, keepdim=True), rtol=1e-10, atol=1e-14)


def test_memory_bounds_the_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = trained()
    whole = attributed(workspace)
    monkeypatch.setattr(Budget, "items", lambda *_, **__: 3)
    torch.testing.assert_close(attributed(workspace), whole, rtol=1e-12, atol=1e-14)


def test_effects_on_a_network_agree_with_retraining() -> None:
    workspace, queries, truth = retrained_digits()
    found = tracin.attribute(workspace, queries, MARGIN, checkpoints=ALL)[:, :, 0]
    assert correlation(found, truth) > 0.5


def test_it_leaves_no_trace(recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    attributed(trained())
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_an_objective_without_a_gradient_is_refused() -> None:
    accuracy = declared(Choice("objective", "performance", {"metric": "accuracy", **WHOLE}, performance))
    with pytest.raises(DDMError, match="objective 'performance' has no gradient"):
        attributed(trained(), objective=accuracy)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    with pytest.raises(DDMError, match=r"attributor tracin needs captum; .*'ddm-framework\[compare\]'"):
        attributed(trained())

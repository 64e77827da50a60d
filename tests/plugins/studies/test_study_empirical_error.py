"""Fig. 7: errors without each cluster as computed by hand, the exact ones scaled and flipped, and distances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ddm_studies.comparison.network_distances import WHOLE
from ddm_studies.comparison.own_networks import OwnNetworks
from ddm_studies.empirical_error import _compared, _figures, _no_correlation, _sentences, _symmetry, findings
from ddm_studies.empirical_error import run as study
from study_runs import says_what_is_stored, stripes_run
from torch import Tensor

from ddm_framework.api import Run
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.report.blocks import Chart, Table
from ddm_framework.truth.retraining import bank_logits, retrained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return stripes_run(tmp_path_factory.mktemp("fig7"), "{use: empirical_error, resamples: 50}")


def by_cluster(run: Run) -> dict[str, Tensor]:
    return {name: torch.tensor(each).double() for name, each in run.metrics["empirical_error"]["clusters"].items()}


def test_changes_of_loss_and_error_are_those_of_the_networks(run: Run) -> None:
    workspace, found = run.workspace, by_cluster(run)
    asked, count = workspace.queries_of("test"), workspace.partition.num_clusters
    assert asked.labels is not None
    own = F.cross_entropy(workspace.target_logits(asked.images), asked.labels)
    exact = bank_logits(workspace, retrained(workspace, leave_one_out(count)[1:]), asked)
    ours = workspace.perturbed_logits(asked, leave_one_out(count), workspace.synset)[1:]
    for name, logits in (("exact_loss", exact), ("loss", ours)):
        change = torch.stack([F.cross_entropy(each, asked.labels) for each in logits]) - own
        torch.testing.assert_close(found[name], change.double(), atol=1e-6, rtol=1e-3)
    wrong = (exact.argmax(2) != asked.labels).double().mean(1)
    right = (workspace.target_logits(asked.images).argmax(1) != asked.labels).double().mean()
    torch.testing.assert_close(found["exact_error"], wrong - right)


def test_distances_are_those_of_the_retrained_networks(run: Run) -> None:
    workspace, found = run.workspace, by_cluster(run)
    bank = retrained(workspace, leave_one_out(workspace.partition.num_clusters)[1:])
    stack = bank.load(slice(0, len(bank)))
    squares = sum((each - workspace.target[name]).flatten(1).square().sum(1) for name, each in stack.items())
    torch.testing.assert_close(found["exact_distance"], squares.sqrt().double(), atol=1e-6, rtol=1e-5)  # type: ignore[union-attr]


def test_one_length_of_step_ranks_nothing_and_a_step_by_share_does(run: Run) -> None:
    found = run.metrics["empirical_error"]["distances"][WHOLE]
    assert found["common"] == {"constant": True}
    assert -1 <= found["cluster_share"]["spearman"] <= 1
    assert "are equal and rank nothing" in run.metrics["comparison"]["sentences"][-1]
    assert len(run.metrics["comparison"]["sentences"]) == 4
    lengths = by_cluster(run)["distance_cluster_share"]
    share = run.workspace.synset.real_norm.double()
    torch.testing.assert_close(lengths / lengths.mean(), share / share.mean(), atol=1e-3, rtol=1e-3)


def test_the_exact_change_is_drawn_flipped_and_as_wide_as_the_estimated_one(run: Run) -> None:
    report = study(run.workspace, resamples=50)
    chart = next(block for block in report.sections[0].blocks if isinstance(block, Chart))
    ddm, exact = (torch.tensor(list(values)).double() for values in chart.series.values())
    assert float(ddm.std()) == pytest.approx(float(exact.std()), rel=1e-6)
    truth = by_cluster(run)["exact_loss"]
    torch.testing.assert_close(exact / exact.norm(), -truth / truth.norm())


def test_no_row_is_empty_and_the_table_is_unscaled(run: Run) -> None:
    assert all(each["ours"] is not None for each in run.metrics["comparison"]["figures"])
    report = study(run.workspace, resamples=50)
    (table,) = (block for block in report.sections[1].blocks if isinstance(block, Table))
    exact = [row[3] for row in table.rows]
    assert exact == sorted(exact, key=lambda value: -abs(float(value or 0)))
    assert len(exact) == run.workspace.partition.num_clusters


@pytest.mark.parametrize(
    ("interval", "said", "outcome"),
    [
        ([0.6, 0.9], "they are roughly symmetrical here as well", "holds"),
        ([0.2, 0.8], "whether they are so here is not told", "not told"),
        ([0.1, 0.4], "here they are hardly symmetrical", "does not hold"),
        ([-0.2, 0.4], "here they are not measurably symmetrical", "does not hold"),
    ],
)
def test_whether_the_curves_are_symmetrical_is_said_by_the_interval(
    run: Run, interval: list[float], said: str, outcome: str
) -> None:
    loss = {"pearson": sum(interval) / 2, "pearson_interval": interval, "spearman": 0.1}
    assert said in _symmetry(loss)
    (claim,) = findings({"empirical_error": {**run.metrics["empirical_error"], "loss": loss}}).claims
    assert claim.outcome == outcome


def test_what_is_said_follows_from_what_is_stored(run: Run) -> None:
    assert says_what_is_stored(findings, run.metrics)


def test_a_perfect_estimate_is_found_perfect(run: Run) -> None:
    truth = torch.tensor([0.3, -0.1, 0.2, 0.5], dtype=torch.float64)
    moved: dict[str, Any] = {WHOLE: truth.abs(), "layer": truth.abs()}
    cosine = {WHOLE: torch.ones(4).double(), "layer": torch.ones(4).double()}
    own = OwnNetworks(truth / 10, truth, truth, truth, moved, moved, cosine)
    found = _figures(run.workspace, own, {"common": moved, "cluster_share": moved}, 50)
    assert found["loss"]["pearson"] == pytest.approx(1)
    assert found["scale"] == pytest.approx(10)
    assert found["distances"]["layer"]["common"]["spearman"] == pytest.approx(1)
    assert "drawn flipped and 0.1 times as large" in " ".join(_sentences({**found, "num_queries": 12}))


def test_where_no_prediction_changes_there_is_no_correlation_and_no_row(run: Run) -> None:
    truth, still = torch.tensor([0.3, -0.1, 0.2, 0.5]).double(), torch.zeros(4).double()
    moved: dict[str, Any] = {WHOLE: truth.abs(), "layer": truth.abs()}
    own = OwnNetworks(truth, truth, still, truth, moved, moved, moved)
    found = _figures(run.workspace, own, {}, 50)
    assert found["error"] == dict.fromkeys(("pearson", "pearson_interval", "spearman", "spearman_interval"))
    assert not any(each.row == "change of the share misclassified" for each in _compared(found))
    (note,) = _no_correlation(found["error"])
    assert note.text.startswith("The share misclassified has no correlation")
    assert _no_correlation(found["loss"]) == []
    flat = _figures(run.workspace, OwnNetworks(still, truth, still, still, moved, moved, moved), {}, 50)
    assert flat["scale"] is None
    assert "here one of them is constant" in next(iter(_sentences({**flat, "num_queries": 12})))


@pytest.mark.parametrize("scale", ["common", "cluster_share"])
def test_both_scales_are_compared_whichever_the_recipe_has(run: Run, scale: str) -> None:
    found = study(run.workspace.with_online(scale=scale), resamples=50).metrics["empirical_error"]
    assert found["distances"][WHOLE]["common"] == {"constant": True}
    assert found["clusters"]["distance"] == found["clusters"][f"distance_{scale}"]
    own = by_cluster(run)["distance_cluster_share"]
    assert torch.equal(torch.tensor(found["clusters"]["distance_cluster_share"]).double(), own)


def test_networks_trained_on_the_synset_are_measured_against_the_whole_synset_s(run: Run) -> None:
    workspace = run.workspace
    online = workspace.recipe.online.model_copy(update={"start": "initial"})
    initial = replace(workspace, recipe=replace(workspace.recipe, online=online), loaded_data=workspace.data)
    report = study(initial, resamples=50)
    found = {name: torch.tensor(each) for name, each in report.metrics["empirical_error"]["clusters"].items()}
    truth = by_cluster(run)
    torch.testing.assert_close(found["exact_loss"].double(), truth["exact_loss"])
    torch.testing.assert_close(found["exact_distance"].double(), truth["exact_distance"])
    assert "distance_common" not in found
    rows = leave_one_out(workspace.partition.num_clusters)
    stack = next(iter(initial.perturbed(rows, workspace.synset)))[1]
    squares = sum((each[1:] - each[0]).flatten(1).square().sum(1) for each in stack.values())
    torch.testing.assert_close(found["distance"], squares.sqrt(), atol=1e-6, rtol=1e-4)  # type: ignore[union-attr]
    assert all(each["ours"] is not None for each in report.metrics["comparison"]["figures"])

"""The unlearning study sets each network beside exact retraining, and its sentences follow its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ddm_studies import unlearning as study
from study_runs import stripes_run

from ddm_framework import DDMError
from ddm_framework.api import Run
from ddm_framework.bank import retrained
from ddm_framework.networks import broadcast
from ddm_framework.reports import Chart, Table
from ddm_framework.unlearning import Repair, request, unlearn

STUDY = "{use: unlearning, clusters: 2, repair: 1, resamples: 50}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:

    return stripes_run(tmp_path_factory.mktemp("unlearning"), STUDY)


@pytest.fixture(scope="module")
def found(run: Run) -> dict[str, Any]:
    figures: dict[str, Any] = run.metrics["unlearning"]
    return figures


def test_the_truth_agrees_with_itself_and_every_figure_lies_in_its_interval(found: dict[str, Any]) -> None:
    for kind in ("class", "cluster"):
        arms = found[kind]["arms"]
        assert list(arms) == list(study.ARMS)
        assert arms["retrained exactly"]["agreement"] == 1
        for arm in arms.values():
            for column in study.COLUMNS:
                low, high = arm[f"{column}_interval"]
                assert low - 1e-9 <= arm[column] <= high + 1e-9
    assert found["class"]["count"] == 3
    assert found["cluster"]["count"] == 2


def test_accuracies_are_those_of_the_networks_themselves(run: Run, found: dict[str, Any]) -> None:
    workspace, own, others = run.workspace, [], []
    for label in range(3):
        done = unlearn(workspace, request(workspace, classes=[label]), Repair(1))
        test = workspace.data.test
        right = workspace.module(done.parameters)(test.images[torch.arange(len(test))]).argmax(1) == test.labels
        own.append(right[test.labels == label].double().mean())
        others.append(right[test.labels != label].double().mean())
    arm = found["class"]["arms"][study.OURS]
    assert arm["forgotten"] == pytest.approx(float(torch.stack(own).mean()))
    assert arm["others"] == pytest.approx(float(torch.stack(others).mean()))
    lost = found["class"]["arms"]["target"]["others"] - arm["others"]
    assert found["class"]["lost"] == pytest.approx(lost)


def test_exact_networks_never_saw_the_class(run: Run, found: dict[str, Any]) -> None:
    workspace = run.workspace
    bank = retrained(workspace, 1 - torch.eye(3), partition=workspace.partition.class_wise(3))
    test, right = workspace.data.test, []
    for label in range(3):
        exact = {name: each[0] for name, each in bank.load(slice(label, label + 1)).items()}
        own = test.take((test.labels == label).nonzero()[:, 0])
        predicted = workspace.network.logits(broadcast(exact, 2), own.images)[0].argmax(1)
        right.append((predicted == label).double().mean())
    assert found["class"]["arms"]["retrained exactly"]["forgotten"] == pytest.approx(float(torch.stack(right).mean()))


def test_the_cost_is_a_share_of_a_retraining(found: dict[str, Any]) -> None:
    cost = found["class"]["cost"]
    assert cost["epochs_share"] == pytest.approx(1 / 4)
    assert cost["seconds"] > 0
    assert cost["seconds_share"] > 0


def test_the_verdict_follows_the_numbers(run: Run, found: dict[str, Any]) -> None:
    compared = run.metrics["comparison"]
    whole = found["class"]
    paid = max(whole["cost"]["seconds_share"], whole["cost"]["epochs_share"])
    kept, lost = whole["arms"][study.OURS]["forgotten"], whole["lost"]
    met = kept <= study.MOST_KEPT and lost <= study.MOST_LOST and paid <= study.MOST_COST
    assert compared["sentences"][0].endswith("which it meets." if met else "which it misses.")
    assert f"leaves {kept:.1%} accuracy" in compared["sentences"][0]
    assert all(each["paper"] is None and each["ours"] is not None for each in compared["figures"])
    assert any("The paper gives no figure of unlearning" in sentence for sentence in compared["sentences"])


def test_the_report_shows_a_chart_and_a_table_of_each_kind(run: Run) -> None:
    report = run.workspace.recipe.study(run.workspace)
    assert any(isinstance(block, Chart) for block in report.sections[0].blocks)
    tables = [block for section in report.sections[1:] for block in section.blocks if isinstance(block, Table)]
    assert [len(table.rows) for table in tables] == [3, 2]


def test_single_clusters_can_be_left_out(run: Run) -> None:
    report = study.run(run.workspace, clusters=0, repair=1, classes=2, resamples=50)
    assert "cluster" not in report.metrics["unlearning"]
    assert report.metrics["unlearning"]["class"]["count"] == 2


@pytest.mark.parametrize("options", [{"classes": 1}, {"clusters": 1}], ids=str)
def test_one_of_a_kind_has_no_interval(run: Run, options: dict[str, int]) -> None:
    with pytest.raises(DDMError, match="intervals need at least two classes, and two clusters or none"):
        study.run(run.workspace, **options)  # type: ignore[arg-type]


def test_an_attack_that_found_nothing_to_begin_with_is_said_to_say_little(tmp_path: Path) -> None:
    def summary(low: float) -> dict[str, Any]:
        arms = {arm: {"advantage": 0.1, "advantage_interval": [low, 0.2]} for arm in study.ARMS}
        return {"arms": arms}

    (nothing,), (something,) = (list(study._attacked("class", summary(low))) for low in (-0.1, 0.05))
    assert nothing.endswith("this says little of unlearning.")
    assert "cannot be told from a guess" in nothing
    assert something.endswith("after the repair it still differs from a guess, whatever its accuracy.")

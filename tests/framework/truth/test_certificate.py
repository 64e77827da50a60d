"""A certificate compares a run's own effects with exact retrainings, and says so in figures and in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_fixtures import tiny

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.truth.agreement import leave_one_out_spearman
from ddm_framework.truth.certificate import Certificate
from ddm_framework.truth.retraining import bank_logits, retrained


def test_it_is_the_rank_correlation_with_exact_retraining(tmp_path: Path) -> None:
    run = ddm_framework.run(tiny(tmp_path, certificate="{retrainings: 4}"), out=tmp_path / "runs" / "tiny")
    found, workspace = run.metrics["certificate"], run.workspace
    clusters, queries = torch.tensor(found["clusters"]), workspace.queries_of("test")
    assert found["num_retrainings"] == len(set(found["clusters"])) == 4
    objective = workspace.objectives[0]
    logits = bank_logits(workspace, retrained(workspace, leave_one_out(6)[1:][clusters]), queries)
    reference = workspace.reference(queries)
    true = torch.stack([objective.measure(each, reference)[:, 0] for each in logits], 1)
    effect = workspace.attribution(queries, objective).effect[:, clusters, 0]
    assert found["spearman"] == pytest.approx(float(leave_one_out_spearman(effect, true.double()).mean()))
    low, high = found["spearman_interval"]
    assert low <= found["spearman"] <= high
    assert "really retrained without 4 clusters" in run.report.read_text()


def test_more_retrainings_than_clusters_are_all_of_them(tmp_path: Path) -> None:
    run = ddm_framework.run(tiny(tmp_path, certificate="{retrainings: 50}"), out=tmp_path / "runs" / "tiny")
    assert run.metrics["certificate"]["clusters"] == list(range(6))


def test_a_recipe_without_one_has_none(tmp_path: Path) -> None:
    run = ddm_framework.run(tiny(tmp_path), out=tmp_path / "runs" / "tiny")
    assert "certificate" not in run.metrics
    assert not (tmp_path / "runs" / "bank").exists()


def test_a_recipe_whose_objectives_rank_nothing_is_refused(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, certificate="{retrainings: 3}", objectives="[{use: predictions}]")
    with pytest.raises(DDMError, match="no objective of the recipe ranks clusters"):
        ddm_framework.run(recipe, out=tmp_path / "runs" / "tiny")


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.6, 0.9), "trusted in its broad order"),
        ((0.1, 0.9), "better than chance, and no more"),
        ((-0.2, 0.4), "do not"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(interval: tuple[float, float], words: str) -> None:
    assert words in Certificate("margin", (1, 2, 3), 0.5, interval, 1.0).sentence()

"""A certificate compares a run's own effects with exact retrainings, and says so in figures and in words."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from run_fixtures import tiny
from scipy.stats import kendalltau
from torch import Tensor

import ddm_framework
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.truth.agreement import leave_one_out_spearman
from ddm_framework.truth.certificate import Certificate, _kendall, _over_all, certified_interval
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


@pytest.mark.parametrize("objective", ["predictions", "performance"])
def test_a_recipe_whose_objectives_rank_nothing_is_judged_by_the_usual_one(tmp_path: Path, objective: str) -> None:
    recipe = tiny(tmp_path, certificate="{retrainings: 3, singles: 3}", objectives=f"[{{use: {objective}}}]")
    run = ddm_framework.run(recipe, out=tmp_path / "runs" / "tiny")
    assert run.metrics["certificate"]["objective"] == "output_shift"


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


def effects(draws: int, strength: float, shared: float, seed: int) -> tuple[Tensor, Tensor]:
    """Estimated and true effects (draws, 50, 100), correlated so strongly; a share of the variance is all queries'."""
    random = torch.Generator().manual_seed(seed)

    def part() -> Tensor:
        common, own = (torch.randn(draws, size, 100, generator=random, dtype=torch.float64) for size in (1, 50))
        mixed: Tensor = shared**0.5 * common + (1 - shared) ** 0.5 * own
        return mixed

    true = part()
    return strength * true + (1 - strength**2) ** 0.5 * part(), true


@pytest.mark.parametrize(
    ("strength", "shared"), [(0.2, 0.5), (0.5, 0.5), (0.8, 0.5), (0.8, 0.0), (0.95, 1.0)], ids=lambda each: str(each)
)
def test_the_interval_covers_the_correlation_over_all_clusters(strength: float, shared: float) -> None:
    draws = 120
    estimated, true = effects(draws, strength, shared, 0)
    over_all = leave_one_out_spearman(estimated.flatten(0, 1), true.flatten(0, 1)).view(draws, 50).mean(1)
    for count in (3, 8, 20):  # effects are independent, so that the first clusters are a random sample
        found = [certified_interval(estimated[row, :, :count], true[row, :, :count], 100) for row in range(draws)]
        low, high = torch.tensor(found).T
        assert float(((low <= over_all) & (over_all <= high)).double().mean()) >= 0.93


def test_a_few_clusters_in_perfect_order_leave_room_for_doubt() -> None:
    order = torch.arange(20.0).double().expand(50, 20)
    lows = []
    for count in (3, 5, 8, 20):
        low, high = certified_interval(order[:, :count], order[:, :count], 100)
        lows.append(low)
        assert high == pytest.approx(1)
    assert lows[0] == -1
    assert lows == sorted(lows)
    assert lows[1] < 0.5
    assert certified_interval(order, -order, 100) == pytest.approx((-1, -lows[3]))


def test_queries_that_rank_alike_count_as_one() -> None:
    estimated, true = effects(2, 0.8, 0.0, 1)
    first, alike = true[0, :, :8], true[0, :1, :8].expand(50, 8)
    same = certified_interval(estimated[0, :1, :8].expand(50, 8), alike, 100)
    low, high = certified_interval(estimated[0, :, :8], first, 100)
    assert high - low < (same[1] - same[0]) / 2


def test_the_correlation_over_all_clusters_is_estimated_without_bias() -> None:
    """The mean over all samples of four of six clusters is the correlation over the six."""
    estimated, true = (each[0, :3, :6] for each in effects(1, 0.8, 0.0, 2))
    assert _kendall(estimated, true) == pytest.approx(
        sum(kendalltau(*each).statistic for each in zip(estimated, true, strict=True)) / 3
    )
    found = []
    for sampled in combinations(range(6), 4):
        few, few_true = estimated[:, sampled], true[:, sampled]
        spearman = float(leave_one_out_spearman(few, few_true).mean())
        found.append(_over_all(spearman, _kendall(few, few_true), 4, 6))
        assert _over_all(spearman, _kendall(few, few_true), 4, 4) == pytest.approx(spearman)
    assert sum(found) / len(found) == pytest.approx(float(leave_one_out_spearman(estimated, true).mean()))

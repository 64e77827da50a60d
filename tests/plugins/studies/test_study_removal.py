"""Removing data of least value: orders, detection and intervals by closed form, a planted cluster, a tiny run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ddm_studies.comparison.intervals import difference_interval, mean_interval
from ddm_studies.removal.figures import metrics_of, removals_of
from ddm_studies.removal.ranking import (
    CEILING,
    Ranking,
    Removal,
    auc_shares,
    balanced,
    corrupted_shares,
    detection_auc,
    num_removed,
    perturbations_of,
    removed_and_lost,
)
from ddm_studies.removal.words import (
    PAPER,
    _claims,
    _sentences,
    against_chance,
    against_rivals,
    findings,
    gains,
    harm,
    scale,
)
from scipy import stats
from study_runs import says_what_is_stored

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.api import Run
from ddm_framework.data.corruption import corrupted
from ddm_framework.errors import RecipeError
from ddm_framework.offline.partition import Partition
from ddm_framework.report.blocks import Clusters, Table, Text

RECIPE = """\
seed: 1
device: cpu
threads: 1
dataset: {use: npz, path: data.npz, validation: 0.25}
backbone: {use: convnet, width: 4, depth: 1}
clusterer: {use: kmeans, clusters_per_class: 2, restarts: 1, features: pixels}
distance: {use: cosine}
training: {epochs: 6, lr: 0.2, batch_size: 16}
matching: {steps: 30, step_length: 1}
objectives: [{use: output_shift}]
study: {use: removal, percentages: [1, 50], methods: [{use: random}, {use: ddm}, {use: exact}]}
"""


def write(folder: Path) -> Path:
    """Three classes of noisy stripes, 120 training and 60 test images."""
    random = np.random.default_rng(0)
    labels = np.arange(180) % 3
    stripes = np.stack([np.roll(np.tile([1.0, 0.0, 0.0], (6, 2)), shift, 1) for shift in range(3)])
    images = np.clip(stripes[labels] * 0.5 + random.uniform(0, 0.5, (180, 6, 6)), 0, 1).astype(np.float32)
    np.savez(folder / "data.npz", x_train=images[:120], y_train=labels[:120], x_test=images[120:], y_test=labels[120:])
    path = folder / "removal.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def corrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = write(tmp_path_factory.mktemp("removal"))
    settings = ["corruption={share: 0.25, labels: 0.25}", "study.table=6", "study.percentages=[10, 40]"]
    return ddm_framework.run(recipe, settings, out=recipe.parent / "runs" / "removal")


def test_planted_clusters_of_wrong_labels_are_removed_first_and_accuracy_rises(tmp_path: Path) -> None:
    """Wrong labels look otherwise than their class, so that k-means makes a cluster of them in each."""
    settings = ["corruption.labels=0.3", "training.epochs=20", "matching.steps=60", "study.percentages=[34]"]
    methods = "study.methods=[{use: random}, {use: ddm}, {use: koh}, {use: aum}]"
    run = ddm_framework.run(write(tmp_path), [*settings, methods], out=tmp_path / "runs" / "planted")
    found, partition = run.metrics["removal"]["methods"], run.workspace.partition
    spoilt = corrupted(run.workspace.recipe.corruption, len(run.workspace.data.train)).relabelled
    planted = corrupted_shares(spoilt, partition.clusters) > 0.9
    assert planted.sum() == 3
    report = run.workspace.recipe.study(run.workspace)
    for block in report.sections[-1].blocks[1:]:
        assert isinstance(block, Clusters)
        assert planted[list(block.ids[:2])].all(), block.heading
    for method in ("ddm", "koh", "aum"):
        assert found[method]["detection_auc"] > 0.9
        assert found[method]["accuracy"][1] > found[method]["accuracy"][0] + 5
        assert found[method]["accuracy"][1] > found["random"]["accuracy"][1] + 5


def test_figures_and_the_paper_stand_side_by_side(corrupted_run: Run) -> None:
    metrics = corrupted_run.metrics
    compared = metrics["comparison"]
    assert compared["source"] == "Table 6"
    paper = {(each["row"], each["column"]): each["paper"] for each in compared["figures"]}
    assert paper["all data", "accuracy"] == 78.4
    assert paper["DDM", "accuracy without 10 %"] == 82.0
    assert paper["Random", "accuracy without 40 %"] == 55.7
    assert paper["exact", "accuracy without 40 %"] is None
    assert "pixels are clipped to [0, 1], on 25% of the training images and" in compared["sizes"]
    assert compared["sizes"].endswith("wrong labels on 25% of the training images")
    assert compared["sentences"][-1].startswith("Labels are wrong here, while the paper's figures are of noise")
    warned = ["not comparable: the paper's is of noise" in each["note"] for each in compared["figures"]]
    assert warned == [each["paper"] is not None for each in compared["figures"]]
    found = metrics["removal"]["methods"]
    assert set(found) == {"random", "ddm", "exact", CEILING}
    starts = {each["accuracy"][0] for each in found.values()}
    assert len(starts) == 1  # nothing removed is the same network for all
    for each in found.values():
        for mean, (low, high) in zip(each["accuracy"], each["accuracy_interval"], strict=True):
            assert 0 <= low <= mean <= high <= 100
        assert each["removed_share"][0] == 0
        assert each["removed_share"][1] < each["removed_share"][2] < 1


def test_no_order_detects_more_than_the_ceiling(corrupted_run: Run) -> None:
    found = corrupted_run.metrics["removal"]["methods"]
    ceiling = found[CEILING]["detection_auc"]
    assert ceiling > 0.5
    assert all(0 <= each["detection_auc"] <= ceiling + 1e-12 for each in found.values())
    figures = corrupted_run.metrics["comparison"]["figures"]
    noted = [each for each in figures if each["note"] == "the best that any order of these clusters reaches"]
    assert [each["ours"] for each in noted] == [ceiling]


def test_the_intervals_of_ddms_lead_are_stored(corrupted_run: Run) -> None:
    found = corrupted_run.metrics["removal"]["methods"]
    ours = torch.tensor(found["ddm"]["accuracies"])
    for name, each in found.items():
        low, high = each["detection_auc_interval"]
        assert 0 <= low <= each["detection_auc"] <= high <= 1
        lead = each.get("ddm_minus_this")
        assert (lead is None) == (name == "ddm")
        if lead is not None:
            wanted = [difference_interval(*pair) for pair in zip(ours, torch.tensor(each["accuracies"]), strict=True)]
            torch.testing.assert_close(torch.tensor(lead["accuracy"]), torch.tensor(wanted), equal_nan=True)
            assert ("detection_auc" in lead) == (name != "random")


def test_the_report_lays_the_table_out_as_the_paper_does(corrupted_run: Run) -> None:
    report = corrupted_run.workspace.recipe.study(corrupted_run.workspace)
    tables = [block for block in report.sections[0].blocks if isinstance(block, Table)]
    assert list(tables[-1].columns) == ["method", "0 %", "10 %", "40 %"]
    assert [row[0] for row in tables[-1].rows] == ["Random", "DDM", "exact", CEILING]


def test_balanced_removal_takes_as_much_from_each_class(corrupted_run: Run) -> None:
    study = corrupted_run.workspace.recipe.study
    options: dict[str, Any] = {**study.options, "balanced": True, "percentages": [50.0]}
    report = study.target(corrupted_run.workspace, **options)
    (area,) = (
        each
        for each in report.metrics["comparison"]["figures"]
        if each["row"] == "Random" and each["column"].startswith("AUC")
    )
    assert 0 <= area["interval"][0] <= area["ours"] <= area["interval"][1] <= 1
    assert all(each["classes_lost"] == [0, 0] for each in report.metrics["removal"]["methods"].values())
    compared = report.metrics["comparison"]
    assert "each class loses the same share" in compared["sizes"]
    assert any(each["note"] == "the most corrupted of each class first" for each in compared["figures"])
    assert "any order" not in str(compared)
    texts = [block.text for block in report.sections[1].blocks if isinstance(block, Text)]
    assert any("`balanced: true`" in each for each in texts)
    assert any("one ranking from one trained network" in each for each in texts)


def test_without_a_validation_split_clusters_have_no_value(tmp_path: Path) -> None:
    with pytest.raises(DDMError, match=r"set dataset\.validation"):
        ddm_framework.run(write(tmp_path), ["dataset.validation=0"], out=tmp_path / "run")


@pytest.mark.parametrize("percentages", ["[]", "[0]"])
def test_some_clusters_must_be_removed(tmp_path: Path, percentages: str) -> None:
    with pytest.raises(RecipeError, match="at least one percentage must be above 0"):
        ddm_framework.run(write(tmp_path), [f"study.percentages={percentages}"], out=tmp_path / "run")


def test_a_method_with_clusters_of_its_own_is_refused(tmp_path: Path) -> None:
    settings = ["study.methods=[{use: ddm_sequential}]"]
    with pytest.raises(DDMError, match="'ddm_sequential' has clusters of its own"):
        ddm_framework.run(write(tmp_path), settings, out=tmp_path / "run")


def test_detection_is_the_chance_that_a_corrupted_sample_comes_first() -> None:
    """Clusters of 2 of 3, 1 of 2 and 0 of 3 corrupted samples, removed as 1, 0, 2."""
    clusters = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    spoilt = torch.tensor([True, True, False, True, False, False, False, False])
    order = torch.tensor([1, 0, 2])
    # Of 3 x 5 pairs: the one of cluster 1 ties once and wins four; those of cluster 0 tie once, lose one and win three.
    assert detection_auc(order, spoilt, clusters) == pytest.approx((0.5 + 4 + 2 * (0.5 + 3)) / 15)
    assert detection_auc(torch.tensor([0, 1, 2]), spoilt, clusters) == pytest.approx((0.5 + 3 + 2 * (0.5 + 4)) / 15)
    assert corrupted_shares(spoilt, clusters).tolist() == pytest.approx([2 / 3, 1 / 2, 0])


def test_shares_of_the_auc_are_those_of_leaving_out_each_cluster() -> None:
    random = torch.Generator().manual_seed(1)
    clusters, spoilt = torch.arange(72) % 8, torch.rand(72, generator=random) < 0.4
    order = torch.randperm(8, generator=random)
    whole, without = detection_auc(order, spoilt, clusters), []
    for cluster in range(8):
        kept = clusters != cluster
        ids = torch.arange(8) - (torch.arange(8) > cluster).long()
        without.append(detection_auc(ids[order[order != cluster]], spoilt[kept], ids[clusters[kept]]))
    shares = auc_shares(order, spoilt, clusters)
    assert shares is not None
    assert float(shares.mean()) == pytest.approx(whole)
    mean = sum(without) / 8
    error = (7 / 8 * sum((each - mean) ** 2 for each in without)) ** 0.5
    assert float(shares.std()) / 8**0.5 == pytest.approx(error)
    assert auc_shares(order, clusters == 3, clusters) is None  # without cluster 3 nothing is corrupted


def test_an_order_from_last_to_first_detects_the_complement() -> None:
    random = torch.Generator().manual_seed(0)
    clusters, spoilt = torch.arange(60) % 10, torch.rand(60, generator=random) < 0.3
    order = torch.randperm(10, generator=random)
    assert detection_auc(order, spoilt, clusters) + detection_auc(order.flip(0), spoilt, clusters) == pytest.approx(1)


@pytest.mark.parametrize(("percentage", "count", "wanted"), [(0, 50, 0), (1, 6, 1), (20, 50, 10), (99, 3, 2)])
def test_percentages_round_to_clusters_but_never_to_none_or_all(percentage: float, count: int, wanted: int) -> None:
    assert num_removed(percentage, count) == wanted


def test_rows_lack_the_first_of_each_replicates_order() -> None:
    order = torch.tensor([[2, 0, 1, 3], [3, 1, 0, 2]])
    rows = perturbations_of(order, [0, 25, 50])
    assert rows[:, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1]]
    assert rows[:, 1].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 0]]
    partition = Partition(torch.tensor([0, 0, 0, 1, 2, 2, 3, 3]), torch.tensor([0, 1, 0, 1]))
    removed, lost = removed_and_lost(rows, partition)
    assert removed.tolist() == pytest.approx([0, 2 / 8, (5 + 3) / 16])
    assert lost.tolist() == [0, 0, 1]  # clusters 0 and 2 are all of the first class, 3 and 1 all of the second


def test_a_balanced_order_takes_classes_in_turn_and_keeps_the_order_within_each() -> None:
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    found = balanced(torch.tensor([[0, 1, 2, 5, 3, 4]]), classes)[0].tolist()
    assert [each for each in found if each < 3] == [0, 1, 2]
    assert [each for each in found if each >= 3] == [5, 3, 4]
    assert [sorted(classes[found[at : at + 2]].tolist()) for at in (0, 2, 4)] == [[0, 1]] * 3


def test_intervals_are_students_and_welchs() -> None:
    first, second = torch.tensor([95.0, 96.5, 94.0]).double(), torch.tensor([90.0, 91.0, 93.0, 90.5]).double()
    wanted = stats.ttest_1samp(first.numpy(), 0).confidence_interval()
    assert mean_interval(first) == pytest.approx((wanted.low, wanted.high))
    welch = stats.ttest_ind(first.numpy(), second.numpy(), equal_var=False).confidence_interval()
    assert difference_interval(first, second) == pytest.approx((welch.low, welch.high))
    assert difference_interval(torch.ones(3), torch.zeros(3)) == (1, 1)


def removal_of(use: str, accuracy: list[list[float]], lost: list[float]) -> Removal:
    order = torch.zeros(2, 4, dtype=torch.int64)
    return Removal(Ranking(use, use, order), torch.tensor(accuracy).double(), torch.zeros(3), torch.tensor(lost))


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([97.0, 97.2], "improves accuracy (+1.6 points, "),
        ([94.0, 94.2], "lowers accuracy (-1.4 points, "),
        ([95.5, 95.7], "does not measurably change accuracy (+0.1 points, "),
    ],
)
def test_a_gain_is_claimed_where_the_interval_allows_it(after: list[float], verdict: str) -> None:
    ours = removal_of("ddm", [[95.4, 95.6], after, [80.0, 80.0]], [0, 0, 0])
    told = gains(ours, [0, 1, 20], PAPER[3]["ddm"])
    assert told.startswith(f"Removing data by DDM at 1 % {verdict}")
    assert told.endswith("; paper: +0.5).")


def test_sentences_tell_where_ddm_and_chance_differ_and_which_classes_are_gone() -> None:
    ours = removal_of("ddm", [[95.4, 95.6], [95.0, 96.0], [70.0, 70.2]], [0, 0, 3])
    chance = removal_of("random", [[95.4, 95.6], [95.0, 96.1], [90.0, 90.2]], [0, 0, 0.5])
    told = against_chance(ours, chance, [0, 1, 20], PAPER[3])
    assert "-20.0 at 20 % (paper +10.8)" in told
    assert told.startswith("DDM's accuracy minus that of random removal is +0.0 points at 1 % (paper +0.4), -20.0 at")
    assert "; it is clearly lower at 20 %. From 20 % on, DDM's order removes whole classes (3 at 20 %; rand" in told
    assert "; it is clearly higher at 20 %." in against_chance(chance, ours, [0, 1, 20], PAPER[3])
    same = removal_of("ddm", [[95.4, 95.6]] * 3, [0, 0, 0])
    assert against_chance(same, same, [0, 1, 20], PAPER[3]).endswith("; no difference is clear.")
    (scaled,) = scale(chance, [0, 1, 20], PAPER[3]["random"])
    assert scaled == (
        "Removing 20 % at random costs 5.4 points here and 21.1 in the paper, so levels of accuracy are not comparable."
    )


START = [95.4, 95.6]


@pytest.mark.parametrize(
    ("rival", "told"),
    [
        ([[95.0, 95.2], [90.0, 90.2]], "clearly ahead of Koh et al. at 20 %, by 8.0 points (7.4 to 8.6)"),
        (
            [[90.0, 90.2], [85.0, 85.2]],
            "clearly ahead of Koh et al. at 1 % and 20 %, by 5.1 points (4.2 to 5.9) and more",
        ),
        (
            [[97.0, 97.2], [85.0, 85.2]],
            "clearly behind Koh et al. at 1 %, by 1.9 points (1.1 to 2.8); clearly ahead of Koh et al. at 20 %, by 13.0"
            " points (12.4 to 13.6)",
        ),
        ([[95.0, 95.3], [98.0, 98.2]], "not told from any other method that ranks at any percentage"),
    ],
)
def test_a_clear_loss_is_told_like_a_clear_win_and_first(rival: list[list[float]], told: str) -> None:
    ours = removal_of("ddm", [START, [95.0, 95.3], [98.0, 98.2]], [0, 0, 0])
    koh = removal_of("koh", [START, *rival], [0, 0, 0])
    chance = removal_of("random", [[99.0, 99.1]] * 3, [0, 0, 0])
    (sentence,) = against_rivals(ours, [chance, koh, ours], [0, 1, 20], True)
    assert sentence == f"DDM is {told}; in the paper DDM is ahead at every percentage."
    assert against_rivals(ours, [chance, ours], [0, 1, 20], True) == []


def test_methods_that_ddm_is_clearly_behind_at_the_same_percentages_are_told_together() -> None:
    ours = removal_of("ddm", [START, [85.2, 85.4], [76.8, 77.0]], [0, 0, 0])
    koh, fastif = (removal_of(use, [START, [at, at + 0.2], [at, at + 0.2]], [0] * 3) for use, at in RIVALS.items())
    (sentence,) = against_rivals(ours, [koh, fastif, ours], [0, 10, 20], False)
    assert sentence == (
        "DDM is clearly behind Koh et al. and FASTIF at 10 % and 20 %, by 7.8 points (7.2 to 8.4) and more."
    )


RIVALS = {"koh": 94.0, "fastif": 93.0}


def detecting(use: str, auc: float, own: tuple[float, float] | None, lead: tuple[float, float] | None) -> Removal:
    found = removal_of(use, [START] * 3, [0, 0, 0])
    return replace(found, auc=torch.tensor([auc]).double(), auc_interval=own, auc_behind_ddm=lead)


def test_detection_is_told_where_something_is_corrupted() -> None:
    ours = detecting("ddm", 0.59, (0.48, 0.7), None)
    koh, exact = detecting("koh", 0.92, (0.88, 0.96), (-0.4, -0.2)), detecting("exact", 0.4, (0.3, 0.5), (0.1, 0.3))
    (sentence,) = against_rivals(ours, [ours, exact, koh], [0, 10, 20], False)
    assert sentence.endswith(
        " DDM finds corrupted samples with an AUC of 0.59 (0.48 to 0.70): clearly behind Koh et al. (0.92); clearly"
        " ahead of exact (0.40); not told from chance (0.5)."
    )
    (alone,) = against_rivals(ours, [ours], [0, 10, 20], False)
    assert alone == "DDM finds corrupted samples with an AUC of 0.59 (0.48 to 0.70): not told from chance (0.5)."


def test_no_order_of_detection_is_told_without_intervals() -> None:
    ours, koh = detecting("ddm", 0.59, None, None), detecting("koh", 0.92, None, None)
    (sentence,) = against_rivals(ours, [ours, koh], [0, 10, 20], False)
    assert "clearly" not in sentence
    assert "an AUC of: DDM 0.59 and Koh et al. 0.92; without intervals, their order is not told." in sentence


@pytest.mark.parametrize("table", [3, 6])
def test_there_are_at_most_four_sentences_and_the_last_says_what_is_not_comparable(table: int) -> None:
    rows = [START, [95.0, 95.3], [90.0, 90.2]]
    found = [removal_of(use, rows, [0, 0, 1]) for use in ("random", "ddm", "koh", CEILING)]
    told = _sentences(table, found, [0, 10, 20])
    assert len(told) == 4
    assert "not comparable" in told[-1]
    assert _sentences(table, found, [0, 10, 20], "Nothing is comparable.") == [*told[:3], "Nothing is comparable."]


@pytest.mark.parametrize(
    ("after", "best", "auc", "outcome"),
    [
        ([97.0, 97.2], [99.0, 99.1], (0.6, 0.8), "holds"),
        ([97.0, 97.2], [99.0, 99.1], (0.4, 0.8), "not told"),
        ([97.0, 97.2], [99.0, 99.1], (0.2, 0.4), "does not hold"),
        ([95.5, 95.7], [99.0, 99.1], (0.6, 0.8), "not told"),
        ([93.0, 93.2], [99.0, 99.1], (0.6, 0.8), "does not hold"),
        ([93.0, 93.2], [95.0, 95.9], (0.6, 0.8), "cannot be tested at this size"),
        ([93.0, 93.2], [95.0, 95.9], (0.2, 0.4), "does not hold"),
    ],
)
def test_a_network_that_the_noise_does_not_harm_cannot_be_healed(
    after: list[float], best: list[float], auc: tuple[float, float], outcome: str
) -> None:
    ours, ceiling = (
        removal_of(use, [START, START, rows], [0, 0, 0]) for use, rows in (("ddm", after), (CEILING, best))
    )
    ours = replace(ours, auc=torch.tensor([sum(auc) / 2]).double(), auc_interval=auc)
    healed, *_ = _claims(6, [ours, ceiling], [0, 10, 20])
    assert healed.claim == "removing what DDM ranks lowest finds the noise and improves accuracy"
    assert healed.outcome == outcome
    harmless = "does no measurable harm"
    assert (harmless in healed.measured) == (harmless in harm(ceiling, [0, 10, 20])) == (best[0] < 96)


def test_nothing_is_healed_where_nothing_is_corrupted() -> None:
    healed, *_ = _claims(6, [removal_of("ddm", [START, [97.0, 97.2], [97.0, 97.2]], [0, 0, 0])], [0, 10, 20])
    assert healed.outcome == "cannot be tested at this size"
    assert healed.measured.endswith("; nothing is corrupted")


@pytest.mark.parametrize(
    ("others", "outcome"),
    [({"koh": 90.0}, "holds"), ({"koh": 90.0, "random": 98.0}, "does not hold"), ({"koh": 95.2}, "not told")],
)
def test_one_clear_loss_refutes_being_best(others: dict[str, float], outcome: str) -> None:
    ours = removal_of("ddm", [START, [95.0, 95.3], [95.0, 95.3]], [0, 0, 0])
    rivals = [removal_of(use, [START, [at, at + 0.2], [at, at + 0.2]], [0, 0, 0]) for use, at in others.items()]
    improved, best = _claims(3, [ours, *rivals], [0, 10, 20])
    assert improved.claim == "removing 10 % by DDM improves accuracy"
    assert best.claim == "DDM's removal is ahead of every other method's"
    assert best.outcome == outcome


def test_what_is_said_follows_from_what_is_stored(corrupted_run: Run) -> None:
    assert says_what_is_stored(findings, corrupted_run.metrics)


def test_stored_results_are_read_as_they_were() -> None:
    found = [
        removal_of("ddm", [START, [95.0, 95.3], [90.0, 90.2]], [0, 0, 1]),
        removal_of("koh", [START] * 3, [0, 0, 0]),
        detecting("exact", 0.4, (0.3, 0.5), (0.1, 0.3)),
    ]
    for again, each in zip(removals_of(json.loads(json.dumps(metrics_of(found, [0, 10, 20])))), found, strict=True):
        assert (again.ranking.name, again.ranking.use) == (each.ranking.name, each.ranking.use)
        assert torch.equal(again.accuracy, each.accuracy)
        assert again.lost.tolist() == each.lost.tolist()
        assert (again.auc_interval, again.auc_behind_ddm) == (each.auc_interval, each.auc_behind_ddm)


def test_methods_have_the_papers_names_and_keep_their_options() -> None:
    order = torch.zeros(2, 4, dtype=torch.int64)
    assert Ranking("arnoldi (rank 8)", "arnoldi", order).title == "Scaleup (rank 8)"
    assert Ranking("exact", "exact", order).title == "exact"


def test_the_papers_tables_start_from_one_network() -> None:
    for table in PAPER.values():
        assert len({row[0] for row in table.values()}) == 1
        assert len({tuple(row) for row in table.values()}) == 1

"""The unlearning study sets each network beside exact retraining, and its sentences follow its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ddm_studies.comparison.intervals import binomial_interval, mean_interval
from ddm_studies.unlearning import study as study
from ddm_studies.unlearning import words as words
from study_runs import says_what_is_stored, stripes_run

from ddm_framework import DDMError
from ddm_framework.answers.unlearning import Repair, repair_images, repair_on, request, retained, unlearn
from ddm_framework.api import Run
from ddm_framework.network.stacks import broadcast
from ddm_framework.report.blocks import Chart, Table
from ddm_framework.truth.retraining import retrained

STUDY = "{use: unlearning, clusters: 2, repair: 1}"


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


def test_the_cost_is_a_share_of_a_retraining_and_the_synset_stands_beside_it(run: Run, found: dict[str, Any]) -> None:
    cost = found["class"]["cost"]
    assert cost["epochs_share"] == pytest.approx(1 / 4)
    assert cost["seconds_share"] == pytest.approx(cost["seconds"] / found["seconds_retraining"])
    assert not {"seconds_share_interval", "epochs_share_interval"} & cost.keys()
    assert found["seconds_distillation_once"] == run.metrics["seconds"]["matching"]
    once = found["seconds_distillation_once"] / found["seconds_retraining"]
    assert found["seconds_distillation_in_retrainings"] == pytest.approx(once)
    assert f"as long as {once:,.1f} retrainings, once" in run.metrics["comparison"]["sentences"][0]


def test_the_repair_alone_trains_on_the_same_draw_as_ours(run: Run) -> None:
    """With half of the data, the arm is the network that the same half gives without the synset."""
    workspace, right = run.workspace, []
    report = study.run(workspace, clusters=0, repair=2, repair_share=0.5)
    for label in range(3):
        kept = retained(workspace, request(workspace, classes=[label]))
        drawn = repair_images(workspace, kept, 0.5)
        assert len(drawn) == round(len(kept) / 2)
        plain = repair_on(workspace, workspace.target, drawn, 2)
        test = workspace.data.test
        right.append(workspace.accuracy_of(plain, test.take((test.labels != label).nonzero()[:, 0])))
    arm = report.metrics["unlearning"]["class"]["arms"]["repair alone"]
    assert arm["others"] == pytest.approx(sum(right) / 3)


def test_a_class_without_test_images_is_refused_by_name(run: Run) -> None:
    workspace = run.workspace
    test = workspace.data.test
    data = replace(workspace.data, test=test.take((test.labels != 1).nonzero()[:, 0]))
    with pytest.raises(DDMError, match=r"no test image of class '1'; set dataset\.test_size larger"):
        study.run(replace(workspace, loaded_data=data), repair=1)


def test_the_verdict_follows_the_numbers(run: Run, found: dict[str, Any]) -> None:
    compared = run.metrics["comparison"]
    whole = found["class"]
    kept = whole["arms"][study.OURS]["forgotten"]
    assert f": {words._requirements(whole, found)}. This cost" in compared["sentences"][0]
    assert len(compared["sentences"]) <= 4
    assert f"leaves {kept:.1%} accuracy" in compared["sentences"][0]
    assert all(each["paper"] is None and each["ours"] is not None for each in compared["figures"])
    assert any("The paper gives no figure of unlearning" in sentence for sentence in compared["sentences"])


def test_the_report_shows_a_chart_and_a_table_of_each_kind(run: Run) -> None:
    report = run.workspace.recipe.study(run.workspace)
    assert any(isinstance(block, Chart) for block in report.sections[0].blocks)
    tables = [block for section in report.sections[1:] for block in section.blocks if isinstance(block, Table)]
    assert [len(table.rows) for table in tables] == [3, 2]


def test_single_clusters_can_be_left_out(run: Run) -> None:
    report = study.run(run.workspace, clusters=0, repair=1, classes=2)
    assert "cluster" not in report.metrics["unlearning"]
    assert report.metrics["unlearning"]["class"]["count"] == 2


@pytest.mark.parametrize("options", [{"classes": 1}, {"clusters": 1}], ids=str)
def test_one_of_a_kind_has_no_interval(run: Run, options: dict[str, int]) -> None:
    with pytest.raises(DDMError, match="intervals need at least two classes, and two clusters or none"):
        study.run(run.workspace, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "target", "told", "little"),
    [
        (
            (-0.05, 0.11),
            0.05,
            "not measurably different for a class (+0.03, -0.05 to +0.11)",
            False,
        ),
        ((0.02, 0.1), 0.05, "higher for a class (+0.06, +0.02 to +0.10)", False),
        ((-0.1, -0.02), 0.05, "lower for a class (-0.06, -0.10 to -0.02)", False),
        (
            (-0.05, 0.11),
            -0.1,
            "not measurably different for a class (+0.03, -0.05 to +0.11; as the target",
            True,
        ),
    ],
)
def test_an_attack_is_judged_beside_exact_retraining(
    ours: tuple[float, float], target: float, told: str, little: bool
) -> None:
    summary = {
        "advantage_beyond_exact": round(sum(ours) / 2, 3),
        "advantage_beyond_exact_interval": ours,
        "advantage_beyond_exact_target_interval": (target, 0.2),
    }
    sentence = words._attacked("class", summary)
    assert told in sentence
    assert sentence.endswith("this says little about unlearning)") == little


def measured(name: str, forgotten: dict[str, float], advantage: dict[str, float], decided: bool = True) -> study.Trial:
    figures = {
        arm: dict.fromkeys(study.COLUMNS, 0.9)
        | {"forgotten": forgotten.get(arm, 0.0), "advantage": advantage.get(arm, 0.3)}
        for arm in study.ARMS
    }
    counts = {"forgotten": 40, "forgotten_training": 100, "others": 360}
    return study.Trial(name, figures, counts, {"seconds": 2.0, "epochs_share": 0.1}, 0.02, decided)


def test_intervals_are_students_of_paired_differences_and_binomial_where_nothing_is_left() -> None:
    plain, ahead = [0.5, 0.8, 0.9], [0.1, 0.3, 0.2]
    found = [
        measured(str(row), {study.PLAIN: left}, {study.OURS: 0.3 + more})
        for row, (left, more) in enumerate(zip(plain, ahead, strict=True))
    ]
    summary = study._summary(found, 10.0)
    assert summary["arms"][study.OURS]["forgotten_interval"] == list(binomial_interval(0, 120))
    low, high = mean_interval(torch.tensor(plain))
    assert summary["arms"][study.PLAIN]["forgotten_interval"] == pytest.approx([low, 1])
    assert high > 1
    assert study._known("others", torch.ones(3), 360)["others_interval"] == list(binomial_interval(360, 360))
    same = torch.full((3,), 0.9, dtype=torch.float64)
    assert study._known("others", same, 360)["others_interval"] == list(binomial_interval(324, 360))
    assert study._counted(found, "others") == 360
    wanted = mean_interval(torch.tensor(ahead).double())
    assert summary["advantage_beyond_exact_interval"] == pytest.approx(wanted)
    assert summary["cost"]["seconds_share"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("plain", "alone", "verdict"),
    [
        ([0.5, 0.6, 0.7], [0.0, 0.0, 0.0], "it is the synset that makes the network forget."),
        ([0.5, 0.6, 0.7], [0.2, 0.2, 0.2], "the synset forgets more, but does not reach the required 5%."),
        ([0.5, 0.6, 0.7], [0.0, 0.0, 0.2], "forgets more; whether it reaches the required 5% is not told."),
        ([0.0, 0.0, 0.3], [0.0, 0.0, 0.0], "neither measurably forgets more."),
        ([0.0, 0.0, 0.1], [0.5, 0.6, 0.7], "the repair alone forgets more."),
    ],
)
def test_the_synset_gets_the_credit_only_where_the_repair_alone_leaves_more(
    plain: list[float], alone: list[float], verdict: str
) -> None:
    found = [measured("0", {study.PLAIN: one, study.ALONE: other}, {}) for one, other in zip(plain, alone, strict=True)]
    assert words._alone(study._summary(found, 1.0)).endswith(verdict)


def test_how_the_step_was_decided_is_said_as_it_was() -> None:
    some, none = [measured("0", {}, {}, True), measured("1", {}, {}, False)], [measured("0", {}, {}, False)] * 2
    assert "(its step size is chosen on validation images where a class has any)" in words._alone(
        study._summary(some, 1.0)
    )
    assert "(its step size is fixed, as there are no validation images)" in words._alone(study._summary(none, 1.0))
    assert "of a fixed size" in study._explained("class", none)
    assert "or the one that leaves the fewest where none does" in study._explained("class", some)


def test_where_nothing_could_be_attacked_no_attack_is_judged() -> None:
    assert not words._is_attacked({"advantage_beyond_exact": None})
    assert "Before a repair, the step is" in study._explained("class", [])


def test_what_is_said_follows_from_what_is_stored(run: Run) -> None:
    assert says_what_is_stored(words.findings, run.metrics)


@pytest.mark.parametrize(
    ("interval", "outcome"), [([0.1, 0.3], "holds"), ([-0.1, 0.1], "not told"), ([-0.3, -0.1], "does not hold")]
)
def test_that_the_synset_forgets_is_claimed_by_its_interval(
    found: dict[str, Any], interval: list[float], outcome: str
) -> None:
    first, _ = words.findings(
        {"unlearning": {**found, "class": {**found["class"], "repair_alone_leaves_more_interval": interval}}}
    ).claims
    assert first.outcome == outcome


@pytest.mark.parametrize(
    ("kept", "lost", "seconds", "told"),
    [
        ([0.0, 0.04], [-0.01, 0.02], [1.0, 2.0], "it meets the requirements"),
        ([0.06, 0.1], [-0.01, 0.02], [1.0, 2.0], "it misses the requirements"),
        ([0.0, 0.04], [0.04, 0.05], [1.0, 2.0], "it misses the requirements"),
        ([0.0, 0.04], [-0.01, 0.02], [5.0, 6.0], "it misses the requirements"),
        ([0.0, 0.1], [-0.01, 0.02], [1.0, 2.0], "the intervals do not tell whether it meets the requirements"),
    ],
)
def test_requirements_are_judged_by_intervals(
    kept: list[float], lost: list[float], seconds: list[float], told: str
) -> None:
    summary = {
        "arms": {study.OURS: {"forgotten_interval": kept}},
        "lost_interval": lost,
        "cost": {"epochs_share": 0.1, "seconds_interval": seconds},
    }
    assert words._requirements(summary, {"seconds_retraining": 10.0}) == told


@pytest.mark.parametrize(
    ("passes", "seconds", "outcome"),
    [
        (0.1, [1.0, 2.0], "holds"),
        (0.1, [8.0, 12.0], "not told"),
        (0.1, [11.0, 12.0], "does not hold"),
        (1.0, [1.0, 2.0], "does not hold"),
    ],
)
def test_that_unlearning_is_quick_is_claimed_by_its_interval(
    found: dict[str, Any], passes: float, seconds: list[float], outcome: str
) -> None:
    cost = {**found["class"]["cost"], "epochs_share": passes, "seconds_interval": seconds}
    stored = {**found, "seconds_retraining": 10.0, "class": {**found["class"], "cost": cost}}
    assert words.findings({"unlearning": stored}).claims[1].outcome == outcome

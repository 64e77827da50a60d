"""Table 7: Eq. 15 as mixed labels, a teacher that misleads, students that share what they can, and a tiny run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ddm_studies.transferability.distilling import (
    Undistilling,
    divergence_effects,
    logits_of,
    mixed_labels,
    student_accuracies,
    student_trajectory,
    undistillable,
    undistilling_loss,
)
from ddm_studies.transferability.study import findings
from study_runs import says_what_is_stored, stripes_run

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.api import Run
from ddm_framework.errors import RecipeError

STUDY = "{use: transferability, percentages: [20, 50], undistilling_epochs: 3, undistilling_weight: 0.1}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return stripes_run(tmp_path_factory.mktemp("transferability"), STUDY)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_mixed_labels_have_the_gradient_of_equation_15(alpha: float) -> None:
    images, weights, teacher = drawn(0, 7, 5), drawn(1, 5, 4).requires_grad_(), drawn(2, 7, 4)
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])

    def loss(student: torch.Tensor) -> torch.Tensor:
        divergence = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
        return (1 - alpha) * F.cross_entropy(student, labels) + alpha * divergence

    wanted = torch.autograd.grad(loss(images @ weights), weights)[0]
    mixed = mixed_labels(labels, teacher, alpha)
    found = torch.autograd.grad(F.cross_entropy(images @ weights, mixed), weights)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(mixed.sum(1), torch.ones(7, dtype=torch.float64))


def test_temperature_softens_the_teacher_alone() -> None:
    labels, teacher = torch.tensor([1, 0]), drawn(0, 2, 3)
    torch.testing.assert_close(mixed_labels(labels, teacher, 1.0, 4.0), (teacher / 4).softmax(1))
    hard = mixed_labels(labels, teacher, 0.0, 4.0)
    assert hard.argmax(1).tolist() == [1, 0]


def test_the_undistilling_loss_by_hand() -> None:
    logits, clean, labels = drawn(0, 6, 3), drawn(1, 6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    weight, temperature = 0.3, 4.0
    target, own = (clean / temperature).softmax(1), (logits / temperature).softmax(1)
    apart = (target * (target.log() - own.log())).sum(1).mean()
    wanted = F.cross_entropy(logits, labels) - weight * temperature**2 * apart
    found = undistilling_loss(logits, clean, labels, Undistilling(weight, temperature, 1, 0.1))
    torch.testing.assert_close(found, wanted)
    alone = undistilling_loss(logits, clean, labels, Undistilling(0.0, temperature, 1, 0.1))
    torch.testing.assert_close(alone, F.cross_entropy(logits, labels))


def test_the_weight_drives_the_teacher_away_from_the_clean_network_and_the_run_is_left_alone(run: Run) -> None:
    workspace, before = run.workspace, {name: each.clone() for name, each in run.workspace.target.items()}
    clean = logits_of(workspace, workspace.target, "train")

    def apart(weight: float) -> float:
        teacher = undistillable(workspace, Undistilling(weight, 4.0, 3, 1e-3))
        logits = logits_of(workspace, teacher, "train")
        return float(F.kl_div(logits.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True))

    assert apart(0.5) > apart(0.0)
    assert all(torch.equal(each, before[name]) for name, each in workspace.target.items())


def test_a_student_of_labels_alone_in_the_targets_order_is_the_target(run: Run) -> None:
    workspace = run.workspace
    labels = workspace.data.train.labels
    trajectory = student_trajectory(workspace, F.one_hot(labels, 3).float())
    assert sorted(trajectory) == sorted(workspace.trajectory)
    for epoch, each in trajectory.items():
        for name, wanted in workspace.trajectory[epoch].items():
            torch.testing.assert_close(each[name], wanted, rtol=1e-4, atol=1e-5)


def test_students_are_the_same_whatever_trains_beside_them(run: Run) -> None:
    workspace = run.workspace
    labels, count = workspace.data.train.labels, len(workspace.data.train)
    kept = torch.ones(4, count, dtype=torch.bool)
    kept[2:, : count // 2] = False
    numbers = [[0], [1], [0], [1]]
    found = student_accuracies(workspace, labels, kept, numbers)
    again = student_accuracies(workspace, labels, kept.flip(0), numbers[::-1]).flip(0)
    assert torch.equal(found, again)
    assert ((found >= 0) & (found <= 100)).all()


def test_effects_are_one_a_cluster_and_those_of_the_synset_of_this_student(run: Run) -> None:
    workspace = run.workspace
    lesson = mixed_labels(workspace.data.train.labels, logits_of(workspace, workspace.target, "train"), 0.9)
    found = divergence_effects(workspace, lesson)
    assert found.shape == (workspace.partition.num_clusters,)
    assert found.isfinite().all() and found.unique().numel() > 1
    assert torch.equal(found, divergence_effects(workspace, lesson))


def test_figures_of_a_tiny_run(run: Run) -> None:
    metrics: dict[str, Any] = run.metrics
    compared, found = metrics["comparison"], metrics["transferability"]
    assert compared["source"] == "Table 7"
    paper = {(each["row"], each["column"]): each["paper"] for each in compared["figures"]}
    assert paper["student of the undistillable teacher, all data", "accuracy"] == 94.1
    what = "accuracy of the undistillable teacher's student"
    assert paper["DDM", f"{what} without 20 %"] == 94.2
    assert paper["Random", f"{what} without 20 %"] == 88.7
    assert paper["DDM", f"{what} without 50 %"] is None
    assert paper["student of the clean teacher", "accuracy"] is None
    assert set(found["methods"]) == {"random", "ddm"}
    assert found["methods"]["random"]["accuracy"][0] == found["methods"]["ddm"]["accuracy"][0]
    assert found["percentages"] == [0, 20, 50]
    assert found["clean_teacher_accuracy"] == pytest.approx(100 * metrics["target"]["test_accuracy"])
    assert found["teachers_divergence"] > 0
    assert compared["sentences"][0].startswith(("As in the paper, the undist", "Unlike in the paper, the undist"))
    assert len(compared["sentences"]) == 4
    assert "not comparable" in compared["sentences"][-1]
    assert says_what_is_stored(findings, metrics)


@pytest.mark.parametrize(
    ("alone", "after", "outcome"),
    [
        ([96.0, 96.2], [96.0, 96.1], "holds"),
        ([96.0, 96.2], [90.0, 90.1], "does not hold"),
        ([96.0, 96.2], [93.0, 95.1], "not told"),
        ([90.0, 90.2], [96.0, 96.1], "cannot be tested at this size"),
    ],
)
def test_nothing_is_to_be_undone_where_the_teacher_does_no_harm(
    alone: list[float], after: list[float], outcome: str
) -> None:
    methods = {
        use: {"use": use, "accuracies": [[94.0, 94.2], after], "removed_share": [0, 0.1], "classes_lost": [0, 0]}
        for use in ("random", "ddm")
    }
    stored = {"percentages": [0, 10], "methods": methods, "student_alone": {"accuracies": alone}}
    told = findings({"transferability": stored})
    (claim,) = told.claims
    assert claim.outcome == outcome
    untested = outcome == "cannot be tested at this size"
    assert ("cannot be tested at this size" in told.sentences[0]) == untested
    assert ("the teacher helps its student" in claim.measured) == untested
    swapped = {**stored, "methods": {use: methods[use] for use in ("ddm", "random")}}
    assert findings({"transferability": swapped}) == told


def test_without_a_validation_split_no_divergence_can_be_measured(run: Run) -> None:
    workspace = run.workspace
    empty = workspace.data.validation.take(torch.zeros(0, dtype=torch.int64))
    data, workspace.data = (
        workspace.data,
        type(workspace.data)(workspace.data.train, empty, workspace.data.test, workspace.data.info),
    )
    with pytest.raises(DDMError, match=r"set dataset\.validation"):
        workspace.recipe.study(workspace)
    workspace.data = data


def test_a_target_from_elsewhere_has_no_training_that_students_could_take(run: Run, tmp_path: Path) -> None:
    workspace = run.workspace
    target = workspace.recipe.target.model_copy(update={"checkpoint": tmp_path / "elsewhere.pt"})
    other = replace(workspace, recipe=replace(workspace.recipe, target=target))
    with pytest.raises(DDMError, match=r"this one was trained elsewhere \(`target\.checkpoint`\)"):
        workspace.recipe.study(other)


@pytest.mark.parametrize("percentages", ["[]", "[0]"])
def test_some_data_must_be_deleted(run: Run, percentages: str) -> None:
    with pytest.raises(RecipeError, match="at least one percentage must be above 0"):
        ddm_framework.run(run.path / "recipe.yaml", [f"study.percentages={percentages}"], out=run.path / "again")

"""Deleting training data that prevent a student from learning from an undistillable teacher (Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ddm_framework import DDMError, Report, Section, Text, Workspace
from ddm_framework.network import Parameters
from ddm_studies.comparison.intervals import difference_interval, percent_interval
from ddm_studies.comparison.measured import Stored, between, outcome_of
from ddm_studies.comparison.options import AtLeastThree, Count, Positive
from ddm_studies.comparison.paper import Claim, Compared, Comparison, Findings, sizes
from ddm_studies.comparison.running import need_validation
from ddm_studies.removal.figures import accuracy_of, chart, compared, deleted_first, metrics_of, removals_of, table_of
from ddm_studies.removal.ranking import Percentages, Ranking, Removal, by_value, drawn_orders, removals_from, rows_of
from ddm_studies.removal.words import INTERVALS, against_chance, gaining, gains, points
from ddm_studies.transferability.distilling import (
    Undistilling,
    divergence_effects,
    logits_of,
    mixed_labels,
    student_accuracies,
    undistillable,
)

PAPER: dict[str, dict[float, float]] = {
    "random": {0: 94.1, 10: 93.5, 20: 88.7, 30: 87.3, 40: 85.8},
    "ddm": {0: 94.1, 10: 94.2, 20: 94.2, 30: 92.9, 40: 87.3},
}
"""Accuracy of the student in per cent, by method and percentage of the data deleted."""


def run(
    workspace: Workspace,
    /,
    *,
    percentages: Percentages = [0, 10, 20, 30, 40],  # noqa: B006
    replicates: AtLeastThree = 3,
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.9,
    temperature: Positive = 1.0,
    undistilling_weight: Annotated[float, Field(ge=0)] = 0.04,
    undistilling_temperature: Positive = 4.0,
    undistilling_epochs: Count = 10,
    undistilling_lr: Positive = 1e-3,
) -> Report:
    """Make the target an undistillable teacher, delete data, and distil students of the same architecture.

    The paper uses the KL divergence, summed over a set as in Eq. 14, but does not say between which networks. We use
    the divergence of the student from the clean network on the validation split; the clean network is the teacher
    before it was made undistillable. DDM's offline work is done for that student: its trajectory when it learns from
    all data under the mixed labels of Eq. 15, and a synset for each cluster. The clusters whose deletion lowers the
    divergence most are deleted first. (A divergence from the undistillable teacher itself would prefer the opposite,
    the student that has best learnt the misleading outputs.)

    Deleted data are removed from the student's training only; the teacher has seen them. The student has the target's
    architecture and training. Each student has its own initial weights and batch order.

    Args:
        workspace: the run; its target is the clean network.
        percentages: of the clusters to delete. At least one must be above 0, and each above 0 deletes at least one
            cluster. 0 is always added.
        replicates: of each student.
        alpha: α of Eq. 15, the share of the teacher.
        temperature: that softens the teacher's outputs for the student; Eq. 15 has none.
        undistilling_weight: ω of the undistillable teacher's loss; with 0 the target is only trained further.
        undistilling_temperature: T of that loss.
        undistilling_epochs: epochs of training with that loss.
        undistilling_lr: learning rate of Adam for that training.
    Raises:
        DDMError: if the validation split is empty, or the target was trained elsewhere.
    Source: Table 7, Sec. 9.3, Eq. 15; Ma et al. 2021.
    """
    need_validation(workspace, "no divergence can be measured")
    if workspace.recipe.target.checkpoint is not None:
        raise DDMError(
            "students need the training that made the target, but this one was trained elsewhere (`target.checkpoint`);"
            " let `training` train it"
        )
    steps = sorted({0.0, *percentages})
    settings = Undistilling(undistilling_weight, undistilling_temperature, undistilling_epochs, undistilling_lr)
    nasty, labels = undistillable(workspace, settings), workspace.data.train.labels
    lessons = [
        mixed_labels(labels, logits_of(workspace, each, "train"), alpha, temperature)
        for each in (workspace.target, nasty)
    ]
    teachers = _teachers(workspace, nasty, lessons[0], replicates)
    rankings = [
        Ranking("random", "random", drawn_orders(workspace, replicates)),
        by_value("ddm", "ddm", divergence_effects(workspace, lessons[1]), replicates),
    ]
    found = _students(workspace, rankings, steps, lessons[1])
    stored = {**teachers, **metrics_of(found, steps)}
    return Comparison(
        "Table 7",
        "deleting data from the distillation of an undistillable teacher",
        list(_figures(stored, found, steps)),
        findings({"transferability": stored}),
        f"{sizes(workspace)}; α = {alpha:g}, teacher softened by {temperature:g}",
    ).report(
        "transferability",
        stored,
        "Which training data prevent a student from learning from this teacher?",
        [chart(found, steps), table_of(found, steps)],
        [_procedure(replicates), _first(found[1].ranking)],
    )


def _teachers(workspace: Workspace, nasty: Parameters, lesson: Tensor, replicates: int) -> dict[str, Any]:
    """The teachers, and how well students learn from them without any deletion, as they stand in metrics.json.

    Accuracies are in per cent of the test split. `teachers_divergence` is the mean divergence of the undistillable
    teacher from the clean one there, in nats.
    """
    clean, other = (logits_of(workspace, each, "test") for each in (workspace.target, nasty))
    test, everything = workspace.data.test.labels, torch.ones(replicates, len(lesson), dtype=torch.bool)
    right = [100 * float((each.argmax(1) == test).double().mean()) for each in (clean, other)]
    apart = F.kl_div(other.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
    numbers = [[number] for number in range(replicates)]
    alone, of_clean = (
        student_accuracies(workspace, labels, everything, numbers) for labels in (workspace.data.train.labels, lesson)
    )
    return {
        "clean_teacher_accuracy": right[0],
        "undistillable_teacher_accuracy": right[1],
        "teachers_divergence": float(apart),
        "student_alone": {"accuracies": alone.tolist(), **_accuracy(alone)},
        "student_of_clean": _accuracy(of_clean),
    }


def _accuracy(accuracies: Tensor) -> dict[str, Any]:
    return {"accuracy": float(accuracies.mean()), "interval": list(percent_interval(accuracies))}


def _students(
    workspace: Workspace, rankings: Sequence[Ranking], percentages: Sequence[float], lesson: Tensor
) -> list[Removal]:
    """Students of the undistillable teacher without the data that each ranking deletes; equal ones are trained once."""
    rows, replicates = rows_of(rankings, percentages)
    wanted, place = torch.cat([replicates[:, None], rows.flatten(0, 2)], 1).unique(dim=0, return_inverse=True)
    kept = wanted[:, 1:].bool()[:, workspace.partition.clusters.cpu()]
    accuracy = student_accuracies(workspace, lesson, kept, wanted.int().tolist())[place]
    return removals_from(workspace.partition, rankings, rows, accuracy)


def _figures(stored: Stored, found: Sequence[Removal], percentages: Sequence[float]) -> Iterator[Compared]:
    yield Compared("clean teacher", "accuracy", stored["clean_teacher_accuracy"])
    yield Compared("undistillable teacher", "accuracy", stored["undistillable_teacher_accuracy"])
    for name, title in (
        ("student_alone", "student without a teacher"),
        ("student_of_clean", "student of the clean teacher"),
    ):
        yield Compared(title, "accuracy", stored[name]["accuracy"], None, tuple(stored[name]["interval"]))
    whole, title = accuracy_of(found[0].accuracy[0]), "student of the undistillable teacher, all data"
    yield Compared.measured(title, "accuracy", whole, PAPER["ddm"][0])
    what = "accuracy of the undistillable teacher's student"
    for each in found:
        for row, step in enumerate(percentages[1:], 1):
            yield compared(each, row, step, PAPER, what)


def findings(metrics: Stored) -> Findings:
    """The verdicts of Table 7, and what cannot be compared, from the entry of metrics.json."""
    stored = metrics["transferability"]
    by_use, percentages = {each.ranking.use: each for each in removals_of(stored)}, stored["percentages"]
    ours, chance = by_use["ddm"], by_use["random"]
    alone = torch.tensor(stored["student_alone"]["accuracies"], dtype=torch.float64)
    sentences = [
        _undistillable(alone, ours),
        gains(ours, percentages, PAPER["ddm"]),
        against_chance(ours, chance, percentages, PAPER),
        "Levels of accuracy are not comparable, only their course: the paper gives neither α nor the training of the"
        " student, nor how the teacher was made undistillable.",
    ]
    return Findings(sentences, list(_claims(alone, ours, percentages)))


def _claims(alone: Tensor, ours: Removal, percentages: Sequence[float]) -> Iterator[Claim]:
    """That deletions by DDM let a student learn from a teacher that harms it."""
    rows = gaining(percentages, PAPER["ddm"])
    if not rows:
        return
    row = rows[0]
    outcome = outcome_of(difference_interval(ours.accuracy[row], ours.accuracy[0]))
    measured = f"{points(ours.accuracy[row], ours.accuracy[0])} without {percentages[row]:g} %"
    low, high = difference_interval(ours.accuracy[0], alone)
    if high >= 0:
        outcome = "cannot be tested at this size"
        measured += f"; the teacher {_effect(low)} its student ({between((low, high), '+.1f')})"
    yield Claim("deleting data by DDM lets a student learn from an undistillable teacher", measured, outcome)


def _undistillable(alone: Tensor, ours: Removal) -> str:
    """Whether the teacher harms its student at all, so that deletions could help."""
    low, high = difference_interval(ours.accuracy[0], alone)
    apart = points(ours.accuracy[0], alone, ", {}")
    beside = f"(accuracy minus that of a student without a teacher: {apart})"
    if high < 0:
        return f"As in the paper, the undistillable teacher harms its student {beside}."
    return (
        f"Unlike in the paper, the undistillable teacher {_effect(low)} its student {beside}, so there is no measurable"
        " harm to undo, and whether deletions undo it cannot be tested at this size."
    )


def _effect(low: float) -> str:
    """What a teacher that does not clearly harm its student does to it, by the lower end of the interval."""
    return "helps" if low > 0 else "does not measurably harm"


def _procedure(replicates: int) -> Section:
    trained = (
        f"Each student was trained {replicates} times as the target was, each time with its own initial weights and"
        " batch order, on mixtures of the true label and the teacher's output. Random deletion drew other clusters each"
        " time."
    )
    ranked = (
        "DDM ranked the clusters by the effect of their deletion on the student's KL divergence from the clean network"
        " on the validation split, estimated with a synset of that student. A deleted sample's term is left out of its"
        " batch and nothing is rescaled."
    )
    return Section("How it was measured", [Text(trained), Text(INTERVALS), Text(ranked)])


def _first(ranking: Ranking) -> Section:
    note = Text("Values: effect of the deletion on the student's divergence from the clean network, in nats.")
    return Section("Deleted first by DDM", [note, deleted_first("deleted first", ranking)])

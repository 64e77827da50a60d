"""Which training data keep a student from learning from a teacher that does not want to teach (Table 7)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from ddm_framework import DDMError, Report, Section
from ddm_framework.network import Parameters
from ddm_framework.report import Clusters, Text
from ddm_framework.runs import Workspace
from ddm_studies.comparison.intervals import difference_interval, percent_interval
from ddm_studies.comparison.paper import Compared, Comparison, sizes
from ddm_studies.removal.figures import chart, compared, metrics_of, table_of
from ddm_studies.removal.ranking import Ranking, Removal, drawn_orders, perturbations_of, removed_and_lost, some_removed
from ddm_studies.removal.words import INTERVALS, against_chance, between, classes_lost, gains, scale
from ddm_studies.transferability.distilling import (
    Undistilling,
    divergence_effects,
    logits_of,
    mixed_labels,
    student_accuracies,
    undistillable,
)

Percentage = Annotated[float, Field(ge=0, lt=100)]
Positive = Annotated[float, Field(gt=0)]
PAPER: dict[str, dict[float, float]] = {
    "random": {0: 94.1, 10: 93.5, 20: 88.7, 30: 87.3, 40: 85.8},
    "ddm": {0: 94.1, 10: 94.2, 20: 94.2, 30: 92.9, 40: 87.3},
}
"""Accuracy of the student in per cent, by method and percentage of the data that is deleted."""


@dataclass(frozen=True, slots=True)
class Teachers:
    """What students learn from, and how well that goes without any deletion.

    Attributes:
        clean: test accuracy of the run's target, per cent.
        nasty: of the teacher that was made from it to be undistillable.
        apart: mean divergence of the second from the first on the test split, in nats.
        alone: students that learn from labels alone, per cent, float64 (R,).
        of_clean: students of the clean teacher, per cent, float64 (R,).
    """

    clean: float
    nasty: float
    apart: float
    alone: Tensor
    of_clean: Tensor


def run(
    workspace: Workspace,
    /,
    *,
    percentages: Annotated[list[Percentage], AfterValidator(some_removed)] = [0, 10, 20, 30, 40],  # noqa: B006
    replicates: Annotated[int, Field(ge=3)] = 3,
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.9,
    temperature: Positive = 1.0,
    undistilling_weight: Annotated[float, Field(ge=0)] = 0.04,
    undistilling_temperature: Positive = 4.0,
    undistilling_epochs: Annotated[int, Field(ge=1)] = 10,
    undistilling_lr: Positive = 1e-3,
) -> Report:
    """Make the target a teacher that cannot be distilled, delete data, and distil students of its own kind.

    The paper says that the KL divergence is the distance, summed over a set as in Eq. 14, and not whose divergence from
    whom. We read it so: the behaviour in question is that of the student to be, and it is wrong as far as it diverges
    on the validation split from the clean network, which the teacher was before it was made undistillable. DDM's
    offline work is done for that student: its trajectory, learning from all data under the mixed labels of Eq. 15, and
    a synset for each cluster. The clusters whose deletion lowers the divergence most are deleted first. (A divergence
    from the undistillable teacher itself would ask for the opposite: the student that has learnt its lies best.)

    Deleted data are missing from the student's training alone; the teacher has seen them. The student has the target's
    architecture and training. Each one starts from weights and goes in a batch order of its own.

    Args:
        workspace: the run; its target is the clean network.
        percentages: of the clusters that are deleted; one of them must be above 0, and then deletes one cluster at
            least. 0 is always added.
        replicates: of each student.
        alpha: α of Eq. 15, the share of the teacher.
        temperature: that the teacher's outputs are softened by for the student; Eq. 15 has none.
        undistilling_weight: ω of the undistillable teacher's loss; with 0 it is the target, trained on.
        undistilling_temperature: T of that loss.
        undistilling_epochs: of making it.
        undistilling_lr: of Adam.
    Raises:
        DDMError: if the validation split is empty, or the target was trained elsewhere.
    Source: Table 7, Sec. 9.3, Eq. 15; Ma et al. 2021.
    """
    if len(workspace.data.validation) == 0:
        raise DDMError("the validation split is empty, so no divergence can be measured; set dataset.validation")
    if workspace.recipe.target.checkpoint is not None:
        raise DDMError(
            "students need the training that made the target, and this one was trained elsewhere (`target.checkpoint`);"
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
    value = divergence_effects(workspace, lessons[1])
    rankings = [
        Ranking("random", "random", drawn_orders(workspace, replicates)),
        Ranking("ddm", "ddm", value.argsort(stable=True).expand(replicates, -1), value),
    ]
    found = _students(workspace, rankings, steps, lessons[1])
    comparison = Comparison(
        "Table 7",
        "deleting data from the distillation of an undistillable teacher",
        _figures(teachers, found, steps),
        _sentences(teachers, found, steps),
        f"{sizes(workspace)}; α = {alpha:g}, teacher softened by {temperature:g}",
    )
    return Report(
        sections=[
            comparison.section(chart(found, steps), table_of(found, steps)),
            _procedure(replicates),
            _first(found[1].ranking),
        ],
        metrics={**comparison.metrics(), "transferability": {**_metrics(teachers), **metrics_of(found, steps)}},
        question="Which training data keep a student from learning from this teacher?",
        answer=comparison.sentences[0],
    )


def _teachers(workspace: Workspace, nasty: Parameters, lesson: Tensor, replicates: int) -> Teachers:
    clean, other = (logits_of(workspace, each, "test") for each in (workspace.target, nasty))
    test, everything = workspace.data.test.labels, torch.ones(replicates, len(lesson), dtype=torch.bool)
    right = [100 * float((each.argmax(1) == test).double().mean()) for each in (clean, other)]
    apart = F.kl_div(other.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
    numbers = [[number] for number in range(replicates)]
    students = [
        student_accuracies(workspace, labels, everything, numbers) for labels in (workspace.data.train.labels, lesson)
    ]
    return Teachers(right[0], right[1], float(apart), *students)


def _students(
    workspace: Workspace, rankings: Sequence[Ranking], percentages: Sequence[float], lesson: Tensor
) -> list[Removal]:
    """Students of the undistillable teacher without what each ranking deletes; those without nothing are shared."""
    rows = torch.stack([perturbations_of(each.order, percentages) for each in rankings])
    numbers = torch.arange(rows.shape[2]).expand(rows.shape[:3]).flatten()
    wanted, place = torch.cat([numbers[:, None], rows.flatten(0, 2)], 1).unique(dim=0, return_inverse=True)
    kept = wanted[:, 1:].bool()[:, workspace.partition.clusters.cpu()]
    accuracy = student_accuracies(workspace, lesson, kept, wanted.int().tolist())[place].view(rows.shape[:3])
    return [
        Removal(ranking, each, *removed_and_lost(row, workspace.partition))
        for ranking, row, each in zip(rankings, rows, accuracy, strict=True)
    ]


def _figures(teachers: Teachers, found: Sequence[Removal], percentages: Sequence[float]) -> list[Compared]:
    whole, misled = found[0].accuracy[0], "student of the undistillable teacher, all data"
    figures = [
        Compared("clean teacher", "accuracy", teachers.clean),
        Compared("undistillable teacher", "accuracy", teachers.nasty),
        *(
            Compared(name, "accuracy", float(each.mean()), None, percent_interval(each))
            for name, each in (
                ("student without a teacher", teachers.alone),
                ("student of the clean teacher", teachers.of_clean),
            )
        ),
        Compared(misled, "accuracy", float(whole.mean()), PAPER["ddm"][0], percent_interval(whole)),
    ]
    for each in found:
        what = "accuracy of the undistillable teacher's student"
        figures += [compared(each, row, step, PAPER, what) for row, step in enumerate(percentages) if step]
    return figures


def _sentences(teachers: Teachers, found: Sequence[Removal], percentages: Sequence[float]) -> list[str]:
    chance, ours = found
    return [
        _undistillable(teachers, ours),
        *gains(ours, percentages, PAPER["ddm"]),
        against_chance(ours, chance, percentages, PAPER),
        *classes_lost(ours, chance, percentages),
        *scale(chance, percentages, PAPER["random"]),
        "The paper gives neither α nor the student's training nor how the teacher was made undistillable; the levels of"
        " accuracy cannot be compared, only their course.",
    ]


def _undistillable(teachers: Teachers, ours: Removal) -> str:
    """Whether there is a conflict at all that deletions could heal."""
    low, high = difference_interval(ours.accuracy[0], teachers.alone)
    told = (
        f"The undistillable teacher has an accuracy of {teachers.nasty:.1f} after {teachers.clean:.1f}, a divergence of"
        f" {teachers.apart:.2f} nats from what it was, and its student {ours.mean[0]:.1f} where one without a teacher"
        f" has {float(teachers.alone.mean()):.1f} (difference {between(low, high)}): "
    )
    if high < 0:
        return told + "it harms its student, as in the paper."
    if low > 0:
        return told + "it helps its student, so no deletion has any harm to undo; in the paper it harms."
    return told + "it does not measurably harm its student, so deletions have little to undo; in the paper it harms."


def _procedure(replicates: int) -> Section:
    return Section(
        "How it was measured",
        [
            Text(
                f"Each student was trained {replicates} times as the target was, from weights and in a batch order of"
                " its own, on labels mixed of the true one and the teacher's output; random deletion drew other"
                " clusters each time."
            ),
            Text(INTERVALS),
            Text(
                "DDM ranked the clusters by how much nearer their deletion brings the student to the clean network on"
                " the validation split, in KL divergence, by a synset of that student. A deleted sample's term is left"
                " out of its batch and nothing is rescaled."
            ),
        ],
    )


def _first(ranking: Ranking) -> Section:
    assert ranking.value is not None
    first = ranking.order[0, :8].tolist()
    note = Text("With the effect of the deletion on the student's divergence from the clean network, in nats.")
    return Section("Deleted first by DDM", [note, Clusters("deleted first", first, ranking.value[first].tolist())])


def _metrics(teachers: Teachers) -> Mapping[str, Any]:
    return {
        "clean_teacher_accuracy": teachers.clean,
        "undistillable_teacher_accuracy": teachers.nasty,
        "teachers_divergence": teachers.apart,
        "student_alone": {"accuracy": float(teachers.alone.mean()), "interval": list(percent_interval(teachers.alone))},
        "student_of_clean": {
            "accuracy": float(teachers.of_clean.mean()),
            "interval": list(percent_interval(teachers.of_clean)),
        },
    }

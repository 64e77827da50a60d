"""How well whole classes and single clusters are unlearned, compared with exact retraining (Sec. 4.3, 8.3)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import DDMError, Report
from ddm_framework.answers import (
    FORGOTTEN,
    STEP_BEFORE_REPAIR,
    Repair,
    Request,
    cost,
    forgotten,
    repair_images,
    repair_on,
    request,
    retained,
    unlearn,
    validation_images,
)
from ddm_framework.data import ImageSet
from ddm_framework.network import Parameters, take
from ddm_framework.online import leave_one_out
from ddm_framework.report import Block, Chart, Section, Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth import Bank, retrained
from ddm_studies.comparison.intervals import binomial_interval, mean_interval
from ddm_studies.comparison.measured import Measured
from ddm_studies.comparison.membership import advantage, losses
from ddm_studies.comparison.paper import Compared, Comparison, Findings, sizes
from ddm_studies.unlearning.words import ALONE, ARMS, EXACT, OURS, PLAIN, TARGET, epochs_of, findings

Count = Annotated[int, Field(ge=1)]
Kind = Literal["class", "cluster"]
COLUMNS = {
    "forgotten": "accuracy on what was to be forgotten",
    "others": "accuracy on other test images",
    "forgotten_training": "accuracy on its training images",
    "agreement": "predictions as after exact retraining",
    "advantage": "membership attack's advantage",
}
BOUNDS = dict.fromkeys(COLUMNS, (0.0, 1.0)) | {"advantage": (-1.0, 1.0), "seconds": (0.0, math.inf)}
"""The possible range of each figure, to which Student's interval is clipped."""
COMPARED = ("forgotten", "others", "advantage")
"""The columns of the comparison; the others are in metrics.json."""
OWN_IMAGES = ("forgotten", "forgotten_training")
"""Accuracies measured on other images for each class or cluster; the images of `others` are mostly the same for all."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The figures of each network for one class or cluster, and the cost of unlearning.

    Attributes:
        name: of the class or cluster.
        figures: by arm, then by the keys of `COLUMNS`.
        counts: number of images that an accuracy is measured on, by the keys of `COLUMNS`.
        cost: of unlearning by the synset with repair, as `unlearning.cost` gives it.
        step_size: of the synset's step without repair.
        decided: whether that step size was chosen on validation images.
    """

    name: str
    figures: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    cost: Mapping[str, float]
    step_size: float
    decided: bool


def run(
    workspace: Workspace,
    /,
    *,
    classes: Literal["all"] | Count = "all",
    clusters: Annotated[int, Field(ge=0)] = 10,
    repair: Count = 3,
    repair_share: Annotated[float, Field(gt=0, le=1)] = 1.0,
) -> Report:
    """Unlearn whole classes and single clusters, one at a time, and compare with exact retraining without each.

    Intervals are Student's, over classes or clusters. Where an accuracy is the same for all of them, such as 0, the
    interval is that of a binomial share over all of their images. Seconds are compared with one training from θ_0
    without the first class, timed once, without saving anything.

    Args:
        classes: number of classes to unlearn, the first ones; at least two, as intervals are over classes.
        clusters: number of single clusters to unlearn, drawn at random; 0 leaves them out.
        repair: epochs of training on the retained data.
        repair_share: share of the retained data used for the repair.
    Raises:
        DDMError: if fewer than two classes or a single cluster are requested, or a class has no test image.
    Source: Sec. 4.3, "DDM could be used as a quick unlearn method"; Sec. 8.3; Yeom et al. 2018 for the attack.
    """
    count = workspace.info.num_classes if classes == "all" else min(classes, workspace.info.num_classes)
    if count < 2 or clusters == 1:
        raise DDMError("intervals need at least two classes, and two clusters or none")
    mending, partition = Repair(repair, repair_share), workspace.partition
    drawn = torch.randperm(partition.num_clusters, generator=workspace.generator("unlearning", "clusters"))[:clusters]
    _check_tested(workspace, {*range(count), *partition.classes.cpu()[drawn].tolist()})
    by_class = _measured(workspace, "class", list(range(count)), mending)
    by_cluster = _measured(workspace, "cluster", sorted(drawn.tolist()), mending) if clusters else []
    groups: dict[str, list[Trial]] = {"class": by_class, **({"cluster": by_cluster} if by_cluster else {})}
    once = _once(workspace)
    summaries = {kind: _summary(each, once["seconds_retraining"]) for kind, each in groups.items()}
    stored = {**summaries, "repair_epochs": repair, "repair_share": repair_share, **once}
    told = findings({"unlearning": stored})
    comparison = _comparison(workspace, summaries, mending, told)
    return Report(
        sections=[comparison.section(_chart(by_class)), *(_section(kind, each) for kind, each in groups.items())],
        metrics={**comparison.metrics(), "unlearning": stored},
        question="Does a step on the synset make the network forget, and what does a short repair add?",
        answer=told.sentences[0],
    )


def _check_tested(workspace: Workspace, labels: set[int]) -> None:
    if missing := sorted(labels - set(workspace.data.test.labels.tolist())):
        raise DDMError(
            f"class {workspace.info.class_names[missing[0]]!r} has no test image, so its forgetting cannot be measured;"
            " set dataset.test_size larger"
        )


def _once(workspace: Workspace) -> dict[str, float]:
    """Seconds of one retraining, and the one-time cost of the synset in seconds and in retrainings."""
    images, initial = retained(workspace, request(workspace, classes=[0])), workspace.initial
    begun = time.monotonic()
    repair_on(workspace, initial, images, workspace.recipe.training.epochs)
    retraining, distillation = time.monotonic() - begun, workspace.folder.seconds().get("matching", 0.0)
    return {
        "seconds_retraining": retraining,
        "seconds_distillation_once": distillation,
        "seconds_distillation_in_retrainings": distillation / retraining,
    }


def _measured(workspace: Workspace, kind: Kind, chosen: Sequence[int], mending: Repair) -> list[Trial]:
    bank = _bank(workspace, kind, chosen)
    found = []
    with workspace.display.bar(f"unlearning ({kind} by {kind})", len(chosen)) as advance:
        for row, each in enumerate(chosen):
            asked = request(workspace, classes=[each]) if kind == "class" else request(workspace, [each])
            exact = take(bank.load(slice(row, row + 1)), 0)
            found.append(_one(workspace, _name(workspace, kind, each), asked, mending, exact))
            advance()
    return found


def _bank(workspace: Workspace, kind: Kind, chosen: Sequence[int]) -> Bank:
    if kind == "cluster":
        return retrained(workspace, leave_one_out(workspace.partition.num_clusters)[1:][list(chosen)])
    count = workspace.info.num_classes
    return retrained(workspace, leave_one_out(count)[1:][list(chosen)], partition=workspace.partition.class_wise(count))


def _name(workspace: Workspace, kind: Kind, each: int) -> str:
    names = workspace.info.class_names
    return names[each] if kind == "class" else f"{names[int(workspace.partition.classes[each])]} · cluster {each}"


def _one(workspace: Workspace, name: str, asked: Request, mending: Repair, exact: Parameters) -> Trial:
    done = unlearn(workspace, asked, mending)
    plain = repair_on(
        workspace,
        workspace.target,
        repair_images(workspace, retained(workspace, asked), mending.share),
        mending.epochs,
    )
    networks = dict(zip(ARMS, (workspace.target, plain, done.synset_alone, done.parameters, exact), strict=True))
    test, training = workspace.data.test, forgotten(workspace, asked)
    concerned = torch.isin(test.labels, training.labels.unique())
    sets = {"same": test.take(concerned.nonzero()[:, 0]), "training": training}
    sets["others"] = test.take((~concerned).nonzero()[:, 0]) if asked.classes else test
    truth = _predicted(workspace, exact, test)
    found = {
        arm: {
            **_accuracies(workspace, each, sets, asked),
            "agreement": float((_predicted(workspace, each, test) == truth).double().mean()),
            "advantage": _advantage(workspace, each, sets),
        }
        for arm, each in networks.items()
    }
    counts = {
        "forgotten": len(sets["same"] if asked.classes else training),
        "forgotten_training": len(training),
        "others": len(sets["others"]),
    }
    decided = bool(asked.classes) and validation_images(workspace, asked.classes) is not None
    return Trial(name, found, counts, cost(workspace, done, asked), done.step_size, decided)


def _accuracies(
    workspace: Workspace, parameters: Parameters, sets: Mapping[str, ImageSet], asked: Request
) -> dict[str, float]:
    correct = {
        name: float((_predicted(workspace, parameters, each) == each.labels).double().mean())
        for name, each in sets.items()
    }
    own = correct["same"] if asked.classes else correct["training"]
    return {"forgotten": own, "others": correct["others"], "forgotten_training": correct["training"]}


def _predicted(workspace: Workspace, parameters: Parameters, images: ImageSet) -> Tensor:
    return workspace.network.logits_of(parameters, images.images).argmax(1)


def _advantage(workspace: Workspace, parameters: Parameters, sets: Mapping[str, ImageSet]) -> float:
    """Advantage on forgotten training images against test images of their classes; NaN if either are too few."""
    members, others = (losses(workspace.network, parameters, sets[name]) for name in ("training", "same"))
    if min(len(members), len(others)) < 2:
        return float("nan")
    return advantage(members, others, workspace.generator("unlearning", "attack"))


def _summary(found: Sequence[Trial], retraining_seconds: float) -> dict[str, Any]:
    """Means over classes or clusters with intervals, by arm; differences between arms; and the cost."""
    arms: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    for arm, told in arms.items():
        for column in COLUMNS:
            told |= _known(column, _values(found, arm, column), _counted(found, column))
    seconds = [each.cost["seconds"] for each in found]
    shares = [each.cost["epochs_share"] for each in found]
    return {
        "arms": arms,
        "count": len(found),
        **_known("lost", _apart(found, TARGET, OURS, "others")),
        **_known("lost_synset_alone", _apart(found, TARGET, ALONE, "others")),
        **_known("repair_alone_leaves_more", _apart(found, PLAIN, ALONE, "forgotten")),
        **_known("advantage_beyond_exact", _apart(found, OURS, EXACT, "advantage")),
        **_known("advantage_beyond_exact_synset_alone", _apart(found, ALONE, EXACT, "advantage")),
        **_known("advantage_beyond_exact_target", _apart(found, TARGET, EXACT, "advantage")),
        "cost": {
            **_known("seconds", torch.tensor(seconds, dtype=torch.float64)),
            "seconds_share": sum(seconds) / len(seconds) / retraining_seconds,
            "epochs_share": sum(shares) / len(shares),
        },
        "step_sizes": [each.step_size for each in found],
        "steps_decided": sum(each.decided for each in found),
    }


def _values(found: Sequence[Trial], arm: str, column: str) -> Tensor:
    return torch.tensor([each.figures[arm][column] for each in found], dtype=torch.float64)


def _apart(found: Sequence[Trial], arm: str, other: str, column: str) -> Tensor:
    """One network's figure minus another's, for each class or cluster."""
    return _values(found, arm, column) - _values(found, other, column)


def _counted(found: Sequence[Trial], column: str) -> int | None:
    """Number of different images behind an accuracy, over all classes or clusters; None for other figures."""
    counts = [each.counts[column] for each in found if column in each.counts]
    if not counts:
        return None
    return sum(counts) if column in OWN_IMAGES else max(counts)


def _known(name: str, values: Tensor, count: int | None = None) -> dict[str, Any]:
    """Mean and interval of the known values, as they stand in `metrics.json`; None where fewer than two are known.

    Args:
        name: of the figure.
        values: float64 (G,), NaN where unknown.
        count: number of images, for an accuracy.
    """
    values = values[~values.isnan()]
    if len(values) < 2:
        return Measured(None).metrics(name)
    mean = float(values.mean())
    if count is not None and bool((values == values[0]).all()):  # the same for all, such as 0
        return Measured(mean, binomial_interval(round(mean * count), count)).metrics(name)
    low, high = mean_interval(values)
    least, most = BOUNDS.get(name, (-math.inf, math.inf))
    return Measured(mean, (max(low, least), min(high, most))).metrics(name)


def _comparison(
    workspace: Workspace, summaries: Mapping[str, dict[str, Any]], mending: Repair, told: Findings
) -> Comparison:
    return Comparison(
        "Sec. 8.3",
        "machine unlearning, compared with exact retraining",
        list(_compared(summaries)),
        told,
        f"{sizes(workspace)}; repair of {epochs_of(mending)} on {mending.share:.0%} of the retained data",
    )


def _compared(summaries: Mapping[str, dict[str, Any]]) -> Iterator[Compared]:
    for kind, summary in summaries.items():
        for arm, found in summary["arms"].items():
            for column in COMPARED:
                if found[column] is not None:
                    yield Compared.measured(f"{kind}: {arm}", COLUMNS[column], Measured.read(found, column))
        beyond = Measured.read(summary, "advantage_beyond_exact")
        if beyond.value is not None:
            yield Compared.measured(f"{kind}: {OURS}", "advantage beyond exact retraining's", beyond)
        for key, title in (("seconds_share", "seconds"), ("epochs_share", "passes over data")):
            yield Compared(f"{kind}: {OURS}", f"{title}, share of a retraining", summary["cost"][key])


def _chart(found: Sequence[Trial]) -> Block:
    series = {arm: [each.figures[arm]["forgotten"] for each in found] for arm in ARMS}
    names = [each.name for each in found]
    return Chart(
        "bar",
        series,
        "class",
        "accuracy on its test images",
        names,
        "Accuracy on the class that was to be forgotten",
    )


def _section(kind: str, found: Sequence[Trial]) -> Section:
    columns = [kind, "step", *(f"{short}: {arm}" for short in ("own", "others") for arm in ARMS[2:])]
    rows: list[list[str | int | float | None]] = []
    for each in found:
        own, others = ([each.figures[arm][key] for arm in ARMS[2:]] for key in ("forgotten", "others"))
        rows.append([each.name, each.step_size, *own, *others])
    return Section(f"{kind.capitalize()} by {kind}", [Text(_explained(kind, found)), Table(columns, rows)])


def _explained(kind: str, found: Sequence[Trial]) -> str:
    if kind == "cluster":
        return (
            "The recipe's step on the cluster's synset, whose size is set for ranking effects, not for reaching the"
            " retrained network. `own` is accuracy on the cluster's training images, `others` on all test images. The"
            " retrained network can still be right on images of a deleted cluster if its class has other clusters."
        )
    decided = sum(each.decided for each in found)
    rule = "of a fixed size, as there are no validation images of the classes"
    if decided:
        where = " where there are any" if decided < len(found) else ""
        rule = (
            f"whose size is chosen on validation images of the class{where}: the smallest tried that leaves at most"
            f" {FORGOTTEN:.0%} of them recognised, or the one that leaves the fewest where none does"
        )
    return (
        f"One step on the class-wise synset, {rule}. Before a repair, the step is {STEP_BEFORE_REPAIR} times as long."
        " `own` is accuracy on test images of the class, `others` on the other test images."
    )

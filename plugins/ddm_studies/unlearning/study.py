"""How well whole classes and single clusters are unlearned, compared with exact retraining (Sec. 4.3, 8.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import Chart, DDMError, ImageSet, Report, Section, Table, Text, Workspace, retrains
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
from ddm_framework.network import Parameters, take
from ddm_studies.comparison.intervals import binomial_interval, clipped, mean_interval
from ddm_studies.comparison.measured import Measured
from ddm_studies.comparison.membership import advantage, losses
from ddm_studies.comparison.options import Count
from ddm_studies.comparison.paper import Compared, Comparison, sizes
from ddm_studies.comparison.running import (
    cluster_name,
    images_of_classes,
    predictions,
    seconds_of,
    tracked,
    without_each,
)
from ddm_studies.unlearning.words import ALONE, ARMS, EXACT, OURS, PLAIN, TARGET, epochs_of, findings

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
DIFFERENCES = {
    "lost": (TARGET, OURS, "others"),
    "lost_synset_alone": (TARGET, ALONE, "others"),
    "repair_alone_leaves_more": (PLAIN, ALONE, "forgotten"),
    "advantage_beyond_exact": (OURS, EXACT, "advantage"),
    "advantage_beyond_exact_synset_alone": (ALONE, EXACT, "advantage"),
    "advantage_beyond_exact_target": (TARGET, EXACT, "advantage"),
}
"""A figure of one arm minus that of another."""
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


@retrains(
    lambda options, clusters, classes: (
        min(clusters, options["clusters"]) + (classes if options["classes"] == "all" else options["classes"])
    )
)
def run(
    workspace: Workspace,
    /,
    *,
    classes: Literal["all"] | Count = "all",
    clusters: Annotated[int, Field(ge=0, le=1_000_000)] = 10,
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
    images_of_classes(workspace, sorted({*range(count), *partition.classes.cpu()[drawn].tolist()}))
    groups = {"class": _measured(workspace, "class", list(range(count)), mending)}
    if clusters:
        groups["cluster"] = _measured(workspace, "cluster", sorted(drawn.tolist()), mending)
    once = _once(workspace)
    summaries = {kind: _summary(each, once["seconds_retraining"]) for kind, each in groups.items()}
    stored = {**summaries, "repair_epochs": repair, "repair_share": repair_share, **once}
    return Comparison(
        "Sec. 8.3",
        "machine unlearning, compared with exact retraining",
        list(_compared(summaries)),
        findings({"unlearning": stored}),
        f"{sizes(workspace)}; repair of {epochs_of(mending)} on {mending.share:.0%} of the retained data",
    ).report(
        "unlearning",
        stored,
        "Does a step on the synset make the network forget, and what does a short repair add?",
        [_chart(groups["class"])],
        [_section(kind, each) for kind, each in groups.items()],
    )


def _once(workspace: Workspace) -> dict[str, float]:
    """Seconds of one retraining, and the one-time cost of the synset in seconds and in retrainings."""
    images, initial = retained(workspace, request(workspace, classes=[0])), workspace.initial
    retraining = seconds_of(lambda: repair_on(workspace, initial, images, workspace.recipe.training.epochs))
    distillation = workspace.folder.seconds().get("matching", 0.0)
    return {
        "seconds_retraining": retraining,
        "seconds_distillation_once": distillation,
        "seconds_distillation_in_retrainings": distillation / retraining,
    }


def _measured(workspace: Workspace, kind: Kind, chosen: Sequence[int], mending: Repair) -> list[Trial]:
    partition, found = workspace.partition, []
    if kind == "class":
        partition = partition.class_wise(workspace.info.num_classes)
    bank = without_each(workspace, partition, chosen)
    for row, each in enumerate(tracked(workspace, f"unlearning ({kind} by {kind})", chosen, len(chosen))):
        asked = request(workspace, classes=[each]) if kind == "class" else request(workspace, [each])
        exact = take(bank.load(slice(row, row + 1)), 0)
        name = workspace.info.class_names[each] if kind == "class" else cluster_name(workspace, each)
        found.append(_one(workspace, name, asked, mending, exact))
    return found


def _one(workspace: Workspace, name: str, asked: Request, mending: Repair, exact: Parameters) -> Trial:
    done = unlearn(workspace, asked, mending)
    images = repair_images(workspace, retained(workspace, asked), mending.share)
    plain = repair_on(workspace, workspace.target, images, mending.epochs)
    networks = dict(zip(ARMS, (workspace.target, plain, done.synset_alone, done.parameters, exact), strict=True))
    test, training = workspace.data.test, forgotten(workspace, asked)
    concerned = torch.isin(test.labels, training.labels.unique())
    same = test.take(concerned.nonzero()[:, 0])
    others = test.take((~concerned).nonzero()[:, 0]) if asked.classes else test
    columns = {"forgotten": same if asked.classes else training, "others": others, "forgotten_training": training}
    truth = predictions(workspace, exact, test)
    found = {
        arm: {
            **{name: _share(predictions(workspace, each, images) == images.labels) for name, images in columns.items()},
            "agreement": _share(predictions(workspace, each, test) == truth),
            "advantage": _advantage(workspace, each, training, same),
        }
        for arm, each in networks.items()
    }
    counts = {name: len(images) for name, images in columns.items()}
    decided = bool(asked.classes) and validation_images(workspace, asked.classes) is not None
    return Trial(name, found, counts, cost(workspace, done, asked), done.step_size, decided)


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _advantage(workspace: Workspace, parameters: Parameters, training: ImageSet, same: ImageSet) -> float:
    """Advantage on forgotten training images against test images of their classes; NaN if either are too few."""
    members, others = (losses(workspace.network, parameters, each) for each in (training, same))
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
        **_differences(found),
        "cost": {
            **_known("seconds", torch.tensor(seconds, dtype=torch.float64)),
            "seconds_share": sum(seconds) / len(seconds) / retraining_seconds,
            "epochs_share": sum(shares) / len(shares),
        },
        "step_sizes": [each.step_size for each in found],
        "steps_decided": sum(each.decided for each in found),
    }


def _differences(found: Sequence[Trial]) -> dict[str, Any]:
    """One network's figure minus another's, for each class or cluster."""
    known: dict[str, Any] = {}
    for name, (arm, other, column) in DIFFERENCES.items():
        known |= _known(name, _values(found, arm, column) - _values(found, other, column))
    return known


def _values(found: Sequence[Trial], arm: str, column: str) -> Tensor:
    return torch.tensor([each.figures[arm][column] for each in found], dtype=torch.float64)


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
    bounds = BOUNDS.get(name, (-math.inf, math.inf))
    return Measured(mean, clipped(mean_interval(values), *bounds)).metrics(name)


def _compared(summaries: Mapping[str, dict[str, Any]]) -> Iterator[Compared]:
    for kind, summary in summaries.items():
        for arm, found in summary["arms"].items():
            for column in COMPARED:
                if found[column] is not None:
                    yield Compared.read(f"{kind}: {arm}", COLUMNS[column], found, column)
        if summary["advantage_beyond_exact"] is not None:
            title = "advantage beyond exact retraining's"
            yield Compared.read(f"{kind}: {OURS}", title, summary, "advantage_beyond_exact")
        for key, title in (("seconds_share", "seconds"), ("epochs_share", "passes over data")):
            yield Compared(f"{kind}: {OURS}", f"{title}, share of a retraining", summary["cost"][key])


def _chart(found: Sequence[Trial]) -> Chart:
    series = {arm: [each.figures[arm]["forgotten"] for each in found] for arm in ARMS}
    names, caption = [each.name for each in found], "Accuracy on the class that was to be forgotten"
    return Chart("bar", series, "class", "accuracy on its test images", names, caption)


def _section(kind: str, found: Sequence[Trial]) -> Section:
    columns = [kind, "step", *(f"{short}: {arm}" for short in ("own", "others") for arm in ARMS[2:])]
    cells = [[each.figures[arm][key] for key in ("forgotten", "others") for arm in ARMS[2:]] for each in found]
    table = Table(columns, [[each.name, each.step_size, *row] for each, row in zip(found, cells, strict=True)])
    return Section(f"{kind.capitalize()} by {kind}", [Text(_explained(kind, found)), table])


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

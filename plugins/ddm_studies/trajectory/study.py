"""Whether fine-tuning on the synset leads the target back to its start (Table 4, Eq. 12, 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from ddm_framework import Chart, DDMError, Report, Section, Table, Text, Workspace
from ddm_framework.network import Parameters
from ddm_framework.report import Block
from ddm_studies.comparison.forward_matching import Labels, labels_in_words, ordinary_match
from ddm_studies.comparison.measured import Stored, bootstrapped
from ddm_studies.comparison.options import AtLeastTwo, Positive, Resamples
from ddm_studies.comparison.paper import Compared, Comparison, noted, sizes
from ddm_studies.comparison.running import need_validation, predictions
from ddm_studies.trajectory.accumulated import error_figures, error_section
from ddm_studies.trajectory.walks import Walk, uphill, walks
from ddm_studies.trajectory.words import PAPER, findings, other_classes

Rates = Annotated[list[Positive], Field(min_length=1)]

SOUGHT = "learning rate chosen for an accuracy near that of θ_0"


def run(
    workspace: Workspace,
    /,
    *,
    steps: AtLeastTwo = 200,
    rates: Rates = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],  # noqa: B006 - pydantic copies it
    labels: Labels = "hard",
    points: AtLeastTwo = 11,
    column: Literal["mnist", "cifar10", "cifar100", "tinyimagenet"] | None = None,
    resamples: Resamples = 2000,
) -> Report:
    """Fine-tune the target θ_τ on the whole synset, and θ_0 on an ordinarily matched synset, and measure both ends.

    Args:
        steps: of gradient descent on the mean loss of all synthetic images.
        rates: learning rates to choose from on the validation split. From θ_τ, the rate is chosen whose final accuracy
            is nearest to that of θ_0. From θ_0, the rate with the highest final accuracy is chosen.
        labels: of the ordinarily matched images.
        points: number of points of each walk that are measured, including both ends.
        column: the data set whose rows of Table 4 are shown beside ours; by default the recipe's, if the table has it.
        resamples: of each bootstrap interval, over test images or clusters.
    Raises:
        DDMError: if there is no validation split, or no trajectory because the target was trained elsewhere.
    Source: Table 4; Sec. 6.3, Eq. 12, 13.
    """
    need_validation(workspace, "no learning rate can be chosen")
    if len(workspace.trajectory) < 2:
        raise DDMError(
            "only the last checkpoint of the target is known, so there is no start to go back to; name earlier ones in"
            " target.trajectory"
        )
    forward = ordinary_match(workspace, labels)
    back = walks(workspace, workspace.synset, workspace.target, workspace.initial, rates, steps, points)
    on = walks(workspace, forward.synset, workspace.initial, workspace.target, rates, steps, points)
    start = workspace.accuracy_of(workspace.initial, workspace.data.validation)
    ddm = min(back, key=lambda walk: abs(walk.validation[-1] - start))
    match = max(on, key=lambda walk: walk.validation[-1])
    curves = _curves(workspace, ddm, match)
    found = {
        **_measured(workspace, ddm, match, resamples),
        "grid": _grid(workspace, back, on),
        "lowest": _lowest(workspace, back, resamples),
        "uphill": _uphill(workspace, resamples),
        "errors": error_figures(workspace, forward, resamples),
    }
    named = column or workspace.recipe.dataset.name
    stored = {**found, "curves": curves, "column": named, "num_clusters": workspace.partition.num_clusters}
    return Comparison(
        "Table 4",
        "accuracy at both ends of the trajectory",
        list(_compared(found, named)),
        findings({"trajectory": stored}),
        f"{sizes(workspace)}; {steps} steps on all synthetic images; DDM-match with {labels_in_words(labels)}",
    ).report(
        "trajectory",
        stored,
        "Does the synset lead the target back to where its training began?",
        _charts(curves, ddm, match),
        [_grid_section(found["grid"]), error_section(found["errors"])],
    )


def _accuracy(workspace: Workspace, parameters: Parameters, name: str, resamples: int) -> dict[str, Any]:
    """Test accuracy in per cent under a name, with its interval over test images."""
    test = workspace.data.test
    correct = 100 * (predictions(workspace, parameters, test) == test.labels).double().cpu()
    random = workspace.generator("bootstrap", "trajectory", name)
    return bootstrapped(correct, random, resamples=resamples).metrics(name)


def _measured(workspace: Workspace, ddm: Walk, match: Walk, resamples: int) -> dict[str, Any]:
    """Test accuracy in per cent at both ends of each method, with intervals over test images; distances; chance."""
    ends = {
        "normal training": (workspace.initial, workspace.target),
        "DDM-match": (match.points[0], match.points[-1]),
        "DDM": (ddm.points[-1], ddm.points[0]),
    }
    test = workspace.data.test
    methods = {
        method: _accuracy(workspace, first, "theta_0", resamples) | _accuracy(workspace, last, "theta_tau", resamples)
        for method, (first, last) in ends.items()
    }
    shares = test.labels.bincount(minlength=workspace.info.num_classes).double() / len(test)
    return {
        "methods": methods,
        "chance": 100 / workspace.info.num_classes,
        "test_images": len(test),
        "rarest_class": 100 * float(shares.min()),
        "ddm_rate": ddm.rate,
        "match_rate": match.rate,
        "ddm_distance_to_start": ddm.distances[-1],
        "ddm_least_distance_to_start": min(ddm.distances),
        "match_distance_to_target": match.distances[-1],
        "ddm_predicts_most": _most_predicted(workspace, ddm.points[-1]),
    }


def _most_predicted(workspace: Workspace, parameters: Parameters) -> float:
    """Share of the test images, in per cent, that get the class that a network predicts most often."""
    predicted = predictions(workspace, parameters, workspace.data.test)
    return 100 * float(predicted.bincount().max()) / len(predicted)


def _curves(workspace: Workspace, ddm: Walk, match: Walk) -> dict[str, list[float]]:
    """Test accuracy in per cent along each path from θ_0 (left) to θ_τ (right); DDM walks from right to left."""
    epochs, count = sorted(workspace.trajectory), len(ddm.points)
    wanted = [epochs[-1] * index / (count - 1) for index in range(count)]
    nearest = [min(epochs, key=lambda epoch, at=at: abs(epoch - at)) for at in wanted]  # type: ignore[misc]
    networks = {
        "normal training": [workspace.trajectory[epoch] for epoch in nearest],
        "DDM-match, on from θ_0": list(match.points),
        "DDM, back from θ_τ": list(reversed(ddm.points)),
    }
    test = workspace.data.test
    return {name: [100 * workspace.accuracy_of(each, test) for each in way] for name, way in networks.items()}


def _grid(workspace: Workspace, back: Sequence[Walk], on: Sequence[Walk]) -> list[dict[str, Any]]:
    """The results of every learning rate."""
    test = workspace.data.test
    return [
        {
            "method": method,
            "rate": walk.rate,
            "validation_at_end": 100 * walk.validation[-1],
            "test_at_end": 100 * workspace.accuracy_of(walk.points[-1], test),
            "validation_lowest": 100 * walk.validation[walk.lowest],
            "distance_at_end": walk.distances[-1],
            "distance_least": min(walk.distances),
        }
        for method, found in (("DDM", back), ("DDM-match", on))
        for walk in found
    ]


def _lowest(workspace: Workspace, back: Sequence[Walk], resamples: int) -> dict[str, Any]:
    """The lowest accuracy on any way back: chosen on the validation split, measured on the test split."""
    walk = min(back, key=lambda each: each.validation[each.lowest])
    return {"rate": walk.rate, **_accuracy(workspace, walk.points[walk.lowest], "accuracy", resamples)}


def _uphill(workspace: Workspace, resamples: int) -> dict[str, Any]:
    """Accuracy after steps up the loss of real images, at the point of lowest validation accuracy."""
    walk = uphill(workspace)
    return {
        **_accuracy(workspace, walk.points[walk.lowest], "accuracy", resamples),
        "validation": [100 * each for each in walk.validation],
        "predicts_most": _most_predicted(workspace, walk.points[-1]),
        "distance_to_start": walk.distances[-1],
    }


def _compared(found: Stored, column: str) -> Iterator[Compared]:
    known, other = PAPER.get(column, {}), other_classes(found, column)
    ends = {"theta_0": "accuracy (θ_0), %", "theta_tau": "accuracy (θ_τ), %"}
    for method, figured in found["methods"].items():
        for place, (name, title) in enumerate(ends.items()):
            paper = known[method][place] if method in known else None
            sought = SOUGHT if (method, name) == ("DDM", "theta_0") else ""
            yield Compared.read(method, title, figured, name, paper, noted(sought, other))
    for row, each in (("DDM", found["lowest"]), ("up the loss of real images", found["uphill"])):
        note = "where validation accuracy is lowest"
        yield Compared.read(row, "lowest accuracy on the way back, %", each, "accuracy", note=note)
    left, least, note = found["ddm_distance_to_start"], found["ddm_least_distance_to_start"], "1 at its beginning, θ_τ"
    yield Compared("DDM", "distance left to θ_0, share", left, note=note)
    yield Compared("DDM", "least of it on the way, share", least, note=note)
    errors = found["errors"]
    for name, row in (("eq_12", "Eq. 12 (DDM)"), ("eq_13", "Eq. 13 (DDM-match)")):
        for kind, title in (("raw", "accumulated error, raw"), ("fitted", "accumulated error, best factor")):
            yield Compared.read(row, title, errors, f"{name}_{kind}")
        yield Compared(row, "error of one cluster at one checkpoint, relative", errors[f"{name}_fitted_relative"])


def _charts(curves: Mapping[str, Sequence[float]], ddm: Walk, match: Walk) -> list[Block]:
    count = len(ddm.points)
    share: list[float | str] = [index / (count - 1) for index in range(count)]
    distances = {"DDM to θ_0": list(ddm.distances), "DDM-match to θ_τ": list(match.distances)}
    caption = "Accuracy (DDM: from right to left)"
    return [
        Chart("line", curves, "from θ_0 (0) to θ_τ (1)", "test accuracy, %", share, caption),
        Chart("line", distances, "share of the steps", "distance, share", share, "Distance to the intended end"),
    ]


def _grid_section(grid: Sequence[Stored]) -> Section:
    columns = ["method", "rate", "validation %", "test %", "lowest validation %", "distance left", "least distance"]
    told = (
        "The rates were chosen on the validation split: from θ_τ for the accuracy nearest to that of θ_0, from θ_0 for"
        " the highest accuracy."
    )
    return Section("Learning rates", [Text(told), Table(columns, [list(each.values()) for each in grid])])

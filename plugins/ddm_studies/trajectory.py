"""Does fine-tuning on the synset lead back to the start, and ordinary matching on from it (Table 4, Eq. 12, 13)?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import DDMError, Report, figures
from ddm_framework.data import ImageSet
from ddm_framework.images import Images
from ddm_framework.matching import Synset
from ddm_framework.networks import Gradient, Network, Parameters, broadcast, norms, scaled, take
from ddm_framework.reports import Block, Chart, Section, Table, Text
from ddm_framework.workspace import Workspace
from ddm_studies.accumulated import error_figures, error_section
from ddm_studies.ordinary import Labels, ordinary_match
from ddm_studies.paper import Compared, Comparison, sizes

Rates = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
PAPER: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "mnist": {"normal training": (12.5, 95.7), "DDM-match": (12.6, 85.0), "DDM": (0.6, 95.7)},
    "cifar10": {"normal training": (12.6, 85.0), "DDM-match": (12.6, 40.2), "DDM": (15.5, 85.0)},
    "cifar100": {"normal training": (2.2, 56.1), "DDM-match": (2.2, 23.5), "DDM": (0.8, 56.1)},
    "tinyimagenet": {"normal training": (1.4, 37.5), "DDM-match": (1.4, 7.8), "DDM": (0.1, 37.5)},
}
"""Table 4: accuracy in per cent at θ_0 and at θ_τ."""
BATCH = 256
"""Images whose gradient is taken at a time."""
UPHILL_STEPS, UPHILL_SHARE, UPHILL_IMAGES = 20, 0.2, 1000
"""Of the walk up the loss of real training images, which shows what a reversed gradient itself does to accuracy: how
many steps, how long it is as a share of the way to θ_0, and how many images are used at most."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk through weight space.

    Attributes:
        rate: the learning rate.
        points: networks at equal distances in steps, the first where it starts.
        validation: accuracy on the validation split at its end.
        distances: of each point to the far end, as shares of ‖θ_τ − θ_0‖.
    """

    rate: float
    points: Sequence[Parameters]
    validation: float
    distances: Sequence[float]


def run(
    workspace: Workspace,
    /,
    *,
    steps: Annotated[int, Field(ge=2)] = 200,
    rates: Rates = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],  # noqa: B006 - pydantic copies it
    labels: Labels = "hard",
    points: Annotated[int, Field(ge=2)] = 11,
    column: Literal["mnist", "cifar10", "cifar100", "tinyimagenet"] | None = None,
    resamples: Annotated[int, Field(ge=50)] = 2000,
) -> Report:
    """Fine-tune the target on the whole synset, and the start on an ordinarily matched one, and measure both ends.

    Args:
        workspace: the run.
        steps: of gradient descent on the mean loss of all synthetic images.
        rates: learning rates; the validation split decides. Back from θ_τ it takes the one whose end has the accuracy
            nearest to that of θ_0, on from θ_0 the one whose end is most accurate.
        labels: of the ordinarily matched images.
        points: of each walk that are measured, both ends included.
        column: the data set whose rows of Table 4 to set beside; by default that of this name, if there is one.
        resamples: of each bootstrap interval, over test images or clusters.
    Raises:
        DDMError: if there is no validation split.
    Source: Table 4; Sec. 6.3, Eq. 12, 13.
    """
    if len(workspace.data.validation) == 0:
        raise DDMError("the validation split is empty, so no learning rate can be decided; set dataset.validation")
    forward = ordinary_match(workspace, labels)
    back = _walks(workspace, workspace.synset, workspace.target, workspace.initial, rates, steps, points)
    on = _walks(workspace, forward.synset, workspace.initial, workspace.target, rates, steps, points)
    start = workspace.accuracy_of(workspace.initial, workspace.data.validation)
    ddm = min(back, key=lambda walk: abs(walk.validation - start))
    match = max(on, key=lambda walk: walk.validation)
    curves = _curves(workspace, ddm, match)
    found = _measured(workspace, ddm, match, resamples)
    found["grid"] = _grid(workspace, back, on)
    found["uphill"] = _uphill(workspace)
    found["errors"] = error_figures(workspace, forward, resamples)
    known = PAPER.get(column or workspace.recipe.dataset.name, {})
    comparison = Comparison(
        "Table 4",
        "accuracy at both ends of the trajectory",
        list(_compared(found, known)),
        list(_sentences(workspace, found, known, labels)),
        f"{sizes(workspace)}; {steps} steps on all synthetic images",
    )
    return Report(
        sections=[
            comparison.section(*_charts(curves, ddm, match)),
            _grid_section(found["grid"]),
            error_section(found["errors"]),
        ],
        metrics={**comparison.metrics(), "trajectory": {**found, "curves": curves}},
        question="Does the synset lead the target back to where its training began?",
        answer=comparison.sentences[0],
    )


def _walks(
    workspace: Workspace,
    synset: Synset,
    start: Parameters,
    end: Parameters,
    rates: Sequence[float],
    steps: int,
    points: int,
) -> list[Walk]:
    """One walk down the loss of a synset for each learning rate; those that leave the finite numbers are left out."""
    images, labels = synset.images.flatten(0, 1), synset.labels.flatten(0, 1)

    def downhill(stack: Parameters) -> Gradient:
        return mean_gradient(workspace.network, stack, images, labels)

    length, found = _distance(start, end), []
    with workspace.display.bar("walking on synthetic images (points)", points) as advance:
        reached = []
        for stack in descent(start, downhill, torch.tensor(rates, device=workspace.device), steps, points):
            reached.append(stack)
            advance()
    for row, rate in enumerate(rates):
        way = [take(stack, row) for stack in reached]
        distances = [_distance(each, end) / length for each in way]
        if all(distance < float("inf") for distance in distances):
            found.append(Walk(rate, way, workspace.accuracy_of(way[-1], workspace.data.validation), distances))
    if not found:
        raise DDMError(f"no learning rate of {list(rates)} keeps the weights finite; name lower ones in study.rates")
    return found


def descent(
    start: Parameters, gradient: Callable[[Parameters], Gradient], rates: Tensor, steps: int, points: int
) -> Iterator[Parameters]:
    """Plain gradient descent of a stack of networks from one start, each at its own rate (R,).

    Yields `points` stacks, evenly over the steps, the start and the end among them.
    """
    wanted = [round(index * steps / (points - 1)) for index in range(points)]
    stack = broadcast(start, len(rates))
    for step in range(steps + 1):
        for _ in range(wanted.count(step)):
            yield stack
        if step < steps:
            slope = scaled(gradient(stack), rates)
            stack = {name: each - slope[name] for name, each in stack.items()}


def mean_gradient(network: Network, stack: Parameters, images: Images, labels: Tensor) -> Gradient:
    """Gradients of the mean cross entropy of a stack of networks on the same images (N, C, H, W).

    Labels are class ids (N,) or probabilities (N, classes).
    """
    total, count = {name: torch.zeros_like(each) for name, each in stack.items()}, len(next(iter(stack.values())))
    for part in torch.arange(len(labels), device=labels.device).split(BATCH):
        weights = images[part].new_full((count, len(part)), 1 / len(labels))
        found = network.gradients(stack, images[part], labels[part], weights)
        total = {name: each + found[name] for name, each in total.items()}
    return total


def _distance(one: Parameters, other: Parameters) -> float:
    return float(norms({name: (one[name] - each)[None] for name, each in other.items()})[0])


def _correct(workspace: Workspace, parameters: Parameters, images: ImageSet) -> Tensor:
    """Whether each image is classified correctly, float64 (N,)."""
    logits = workspace.network.logits_of(parameters, images.images)
    return (logits.argmax(1) == images.labels).double().cpu()


def _measured(workspace: Workspace, ddm: Walk, match: Walk, resamples: int) -> dict[str, Any]:
    """Test accuracy in per cent at both ends of each method, with intervals over test images; distances; chance."""
    ends = {
        "normal training": (workspace.initial, workspace.target),
        "DDM-match": (match.points[0], match.points[-1]),
        "DDM": (ddm.points[-1], ddm.points[0]),
    }
    random, test = workspace.generator("bootstrap", "trajectory"), workspace.data.test
    found: dict[str, Any] = {"methods": {}}
    for method, pair in ends.items():
        figured: dict[str, Any] = {}
        for name, parameters in zip(("theta_0", "theta_tau"), pair, strict=True):
            correct = 100 * _correct(workspace, parameters, test)
            figured[name] = float(correct.mean())
            figured[f"{name}_interval"] = list(figures.bootstrap_interval(correct, random, resamples=resamples))
        found["methods"][method] = figured
    shares = test.labels.bincount(minlength=workspace.info.num_classes).double() / len(test)
    return {
        **found,
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
    """Share of the test images, in per cent, that are given the class which a network predicts most."""
    predicted = workspace.network.logits_of(parameters, workspace.data.test.images).argmax(1)
    return 100 * float(predicted.bincount().max()) / len(predicted)


def _curves(workspace: Workspace, ddm: Walk, match: Walk) -> dict[str, list[float]]:
    """Test accuracy in per cent along each way from θ_0 (left) to θ_τ (right); DDM walks from right to left."""
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
    """Every learning rate that was tried; the lowest test accuracy tells whether a walk ever falls below chance."""
    test, found = workspace.data.test, []
    for method, walks in (("DDM", back), ("DDM-match", on)):
        for walk in walks:
            accuracies = [100 * workspace.accuracy_of(each, test) for each in walk.points]
            found.append(
                {
                    "method": method,
                    "rate": walk.rate,
                    "validation_at_end": 100 * walk.validation,
                    "test_at_end": accuracies[-1],
                    "test_lowest": min(accuracies),
                    "distance_at_end": walk.distances[-1],
                    "distance_least": min(walk.distances),
                }
            )
    return found


def _uphill(workspace: Workspace) -> dict[str, Any]:
    """Up the loss of real training images in equal steps, for a share of the way to θ_0."""
    length = _distance(workspace.target, workspace.initial) * UPHILL_SHARE / UPHILL_STEPS
    chosen = torch.arange(min(UPHILL_IMAGES, len(workspace.data.train)), device=workspace.device)
    images = workspace.data.train.take(chosen)
    parameters, found = workspace.target, [100 * workspace.accuracy("test")]
    for _ in range(UPHILL_STEPS):
        slope = mean_gradient(workspace.network, broadcast(parameters, 1), images.images, images.labels)
        step = take(scaled(slope, length / norms(slope).clamp_min(torch.finfo(torch.float32).tiny)), 0)
        parameters = {name: each + step[name] for name, each in parameters.items()}
        found.append(100 * workspace.accuracy_of(parameters, workspace.data.test))
    return {
        "accuracy": found,
        "lowest": min(found),
        "predicts_most": _most_predicted(workspace, parameters),
        "distance_to_start": _distance(parameters, workspace.initial) / _distance(workspace.target, workspace.initial),
    }


def _compared(found: Mapping[str, Any], known: Mapping[str, tuple[float, float]]) -> Iterator[Compared]:
    for method, figured in found["methods"].items():
        for place, (name, title) in enumerate((("theta_0", "accuracy (θ_0), %"), ("theta_tau", "accuracy (θ_τ), %"))):
            paper = known[method][place] if method in known else None
            yield Compared(method, title, figured[name], paper, tuple(figured[f"{name}_interval"]))
    for title, key in (("distance left to θ_0", "ddm_distance_to_start"), ("least of it on the way", "")):
        value = found[key] if key else found["ddm_least_distance_to_start"]
        yield Compared("DDM", f"{title}, share", value, note="1 is where it began, at θ_τ")
    errors = found["errors"]
    for name, row in (("eq_12", "Eq. 12 (DDM)"), ("eq_13", "Eq. 13 (DDM-match)")):
        for kind, title in (("raw", "accumulated error, raw"), ("fitted", "accumulated error, best factor")):
            interval = tuple(errors[f"{name}_{kind}_interval"])
            yield Compared(row, title, errors[f"{name}_{kind}"], interval=interval)
        yield Compared(row, "error of one cluster at one checkpoint, relative", errors[f"{name}_fitted_relative"])


def _sentences(
    workspace: Workspace, found: Mapping[str, Any], known: Mapping[str, tuple[float, float]], labels: str
) -> Iterator[str]:
    yield _back(found)
    yield _below(found)
    if known:
        yield _against_paper(found, known)
    yield _accumulated(workspace, found["errors"])
    yield (
        "Eq. 13 as printed subtracts the gradient of cluster κ from that of every other cluster's synset; it is read"
        " here as each cluster's own. DDM-match was matched under "
        + ("the classes' own labels." if labels == "hard" else "learned labels.")
    )


def _back(found: Mapping[str, Any]) -> str:
    ddm, begun = found["methods"]["DDM"], found["methods"]["normal training"]
    least = found["ddm_least_distance_to_start"]
    way = "ends farther from it than it began" if found["ddm_distance_to_start"] > 1 else "comes hardly nearer to it"
    if least < 0.5:
        way = "comes more than half the way back to it"
    return (
        f"Fine-tuned on the whole synset, the target falls from {ddm['theta_tau']:.1f}% to {ddm['theta_0']:.1f}%"
        f" (the random start has {begun['theta_0']:.1f}%), but it does not return to θ_0: it {way}"
        f" ({found['ddm_distance_to_start']:.2f} of the distance at the end, {least:.2f} at the least)."
        " What comes near is an accuracy, not the network; the class that it predicts most there takes"
        f" {found['ddm_predicts_most']:.0f}% of the test images."
    )


def _below(found: Mapping[str, Any]) -> str:
    walks = [each for each in found["grid"] if each["method"] == "DDM"]
    lowest, uphill = min(each["test_lowest"] for each in walks), found["uphill"]
    return (
        f"Accuracy on the synset's way back {_beside_chance(found, lowest)}, {lowest:.1f}% at the lowest over all"
        " learning rates that were tried. Straight up the loss of the real training images it"
        f" {_beside_chance(found, uphill['lowest'])}, {uphill['lowest']:.1f}%, and θ_0 is"
        f" {uphill['distance_to_start']:.2f} times as far at the end, where {uphill['predicts_most']:.0f}% of the"
        " test images are given one class: reversed gradients lead away from the labels, and not to a random start."
    )


def _beside_chance(found: Mapping[str, Any], accuracy: float) -> str:
    """Below what the rarest class would give as a constant prediction, by more than sampling explains."""
    rarest = found["rarest_class"]
    room = 1.96 * (rarest * (100 - rarest) / found["test_images"]) ** 0.5
    return "falls below chance" if accuracy < rarest - room else "does not fall below chance"


def _against_paper(found: Mapping[str, Any], known: Mapping[str, tuple[float, float]]) -> str:
    paper, match = known["DDM"][0], found["methods"]["DDM-match"]
    chance, ours = found["chance"], found["methods"]["DDM"]["theta_0"]
    read = (
        f"The paper gives {paper:g}% for DDM at θ_0, below the chance of {chance:g}%: what it recovers is no random"
        " start, whose predictions know nothing of the labels, but a network whose predictions avoid them; ours has"
        f" {ours:.1f}%."
        if paper < chance
        else f"The paper gives {paper:g}% for DDM at θ_0, above the chance of {chance:g}%; ours has {ours:.1f}%."
    )
    lost = found["methods"]["normal training"]["theta_tau"] - match["theta_tau"]
    theirs = known["normal training"][1] - known["DDM-match"][1]
    return (
        f"{read} DDM-match ends {lost:.1f} points below normal training here and {theirs:.1f} in the paper; DDM's own"
        " accuracy at θ_τ is the target's by construction, in the paper as here, and proves no match."
    )


def _accumulated(workspace: Workspace, errors: Mapping[str, Any]) -> str:
    holds = errors["eq_12_fitted"] < errors["eq_13_fitted"]
    one, other = errors["eq_12_fitted_relative"], errors["eq_13_fitted_relative"]
    others = workspace.partition.num_clusters - 1
    return (
        f"Eq. 12 is {'smaller' if holds else 'not smaller'} than Eq. 13 here ({errors['eq_12_fitted']:.3g} against"
        f" {errors['eq_13_fitted']:.3g}), but Eq. 13 sums over the {others} other clusters, since ordinary matching"
        " trains on all that stay while reverse matching takes back one. For one cluster at one checkpoint the reversed"
        f" match is {'closer' if one < other else 'worse'}: {one:.2f} of the real gradient's length against {other:.2f}"
        f" ({errors['eq_12_own_pairs_fitted_relative']:.2f} at the pairs that it was matched at)."
    )


def _charts(curves: Mapping[str, Sequence[float]], ddm: Walk, match: Walk) -> list[Block]:
    count = len(ddm.points)
    share: list[float | str] = [index / (count - 1) for index in range(count)]
    distances = {"DDM to θ_0": list(ddm.distances), "DDM-match to θ_τ": list(match.distances)}
    return [
        Chart(
            "line", curves, "from θ_0 (0) to θ_τ (1)", "test accuracy, %", share, "Accuracy; DDM is read right to left"
        ),
        Chart("line", distances, "share of the steps", "distance, share", share, "Distance to the end that is sought"),
    ]


def _grid_section(grid: Sequence[Mapping[str, Any]]) -> Section:
    columns = ["method", "rate", "validation %", "test %", "lowest test %", "distance left", "least distance"]
    asked = Text(
        "The validation split decides: back from θ_τ for the accuracy nearest to that of θ_0, on from θ_0 for the"
        " highest."
    )
    return Section("Learning rates", [asked, Table(columns, [list(each.values()) for each in grid])])

"""What is said of Table 4, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ddm_studies.comparison.measured import Outcome, Stored, between, outcome_of
from ddm_studies.comparison.paper import Claim, Findings

PAPER: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "mnist": {"normal training": (12.5, 95.7), "DDM-match": (12.6, 85.0), "DDM": (0.6, 95.7)},
    "cifar10": {"normal training": (12.6, 85.0), "DDM-match": (12.6, 40.2), "DDM": (15.5, 85.0)},
    "cifar100": {"normal training": (2.2, 56.1), "DDM-match": (2.2, 23.5), "DDM": (0.8, 56.1)},
    "tinyimagenet": {"normal training": (1.4, 37.5), "DDM-match": (1.4, 7.8), "DDM": (0.1, 37.5)},
}
"""Table 4: accuracy in per cent at θ_0 and at θ_τ."""
CLASSES = {"mnist": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200}
"""Number of classes of the paper's data sets; chance is one divided by it."""
CLOSE, HALF = 0.1, 0.5
"""Shares of the distance between θ_τ and θ_0 below which a walk has led back, and covers more than half of the way."""
NEAR = 5.0
"""Points of accuracy within which the recovered start counts as near the random one."""


def findings(metrics: Stored) -> Findings:
    """The verdicts of Table 4, and what cannot be compared, from the entry of metrics.json."""
    found = metrics["trajectory"]
    return Findings(list(_sentences(found, found["column"], found["num_clusters"])), list(_claims(found)))


def _claims(found: Stored) -> Iterator[Claim]:
    """That the synset leads back to θ_0, and where the paper has it so, to an accuracy below chance."""
    least = found["ddm_least_distance_to_start"]
    measured = f"{least:.2f} of the distance in weights is left at the closest point of one walk"
    led: Outcome = "holds" if least < CLOSE else "does not hold" if least >= HALF else "not told"
    yield Claim("fine-tuning on the synset leads the target back to θ_0", measured, led)
    column = found["column"]
    if column in PAPER and PAPER[column]["DDM"][0] < 100 / CLASSES[column]:
        lowest, rarest = found["lowest"], found["rarest_class"]
        low, high = lowest["accuracy_interval"]
        measured = f"lowest {lowest['accuracy']:.1f} % ({between((low, high), '.1f')}), rarest class {rarest:.1f} %"
        yield Claim("accuracy falls below chance on the way back", measured, outcome_of((rarest - high, rarest - low)))


def _sentences(found: Stored, column: str, num_clusters: int) -> Iterator[str]:
    yield back(found)
    yield below(found, column)
    if column in PAPER:
        yield _match_in_paper(found, column)
    yield accumulated(found["errors"], num_clusters)


def back(found: Stored) -> str:
    """Whether fine-tuning on the whole synset leads back to θ_0."""
    ddm, begun = found["methods"]["DDM"], found["methods"]["normal training"]
    least, left = found["ddm_least_distance_to_start"], found["ddm_distance_to_start"]
    verdict = (
        "leads back close to θ_0"
        if least < CLOSE
        else "covers more than half of the way back to θ_0"
        if least < HALF
        else "covers only a part of the way back to θ_0"
        if least < 0.9
        else "does not lead back to θ_0"
    )
    after = ", and ends farther from θ_0 than it began" if left > 1 else ""
    near = least >= HALF and abs(ddm["theta_0"] - begun["theta_0"]) < NEAR
    return (
        f"In weights, fine-tuning the target on the whole synset {verdict}{after}: {left:.2f} of the distance is left"
        f" at the end, {least:.2f} at the closest point."
        + (" Only the accuracy is near that of θ_0, and the learning rate was chosen for this." if near else "")
    )


def below(found: Stored, column: str) -> str:
    """Whether accuracy falls below chance on the way back, beside the paper's accuracy at θ_0 where it gives one.

    Below chance means below that of always predicting the rarest class, by more than the interval over test images.
    """
    ddm, uphill = found["lowest"], found["uphill"]
    fell = [each["accuracy_interval"][1] < found["rarest_class"] for each in (ddm, uphill)]
    verdicts = ["falls below chance" if each else "does not measurably fall below chance" for each in fell]
    return (
        f"{_start_in_paper(column)}Here, accuracy on the way back {verdicts[0]} (lowest: {ddm['accuracy']:.1f}%, chance"
        f" {found['chance']:.3g}%), and on a walk up the loss of real training images it {verdicts[1]}"
        f" ({uphill['accuracy']:.1f}%)."
    )


def _start_in_paper(column: str) -> str:
    if column not in PAPER:
        return ""
    paper, chance = PAPER[column]["DDM"][0], 100 / CLASSES[column]
    if paper < chance:
        return (
            f"The paper's {paper:g}% for DDM at θ_0 is below its chance of {chance:g}%, so that network would not be"
            " a random start: its predictions would avoid the labels. "
        )
    return f"The paper's {paper:g}% for DDM at θ_0 is above its chance of {chance:g}%. "


def _match_in_paper(found: Stored, column: str) -> str:
    lost = found["methods"]["normal training"]["theta_tau"] - found["methods"]["DDM-match"]["theta_tau"]
    theirs = PAPER[column]["normal training"][1] - PAPER[column]["DDM-match"][1]
    return (
        f"DDM-match ends {abs(lost):.1f} points {'below' if lost >= 0 else 'above'} normal training here and"
        f" {theirs:.1f} points below in the paper. DDM's accuracy at θ_τ is the target's own by construction, here and"
        " in the paper, so it cannot be compared with that of DDM-match."
    )


def other_classes(found: Stored, column: str) -> str:
    """The note beside each figure of the paper whose data set has another number of classes."""
    ours = round(100 / found["chance"])
    return "" if CLASSES.get(column, ours) == ours else f"not comparable: the paper's is of {CLASSES[column]} classes"


def accumulated(errors: Stored, num_clusters: int) -> str:
    """Whether Eq. 12 is smaller than Eq. 13, and why the two sums are not comparable."""
    holds = errors["eq_12_fitted"] < errors["eq_13_fitted"]
    one, other = errors["eq_12_fitted_relative"], errors["eq_13_fitted_relative"]
    return (
        f"Eq. 12 is {'smaller' if holds else 'not smaller'} than Eq. 13 here, but they are not comparable: Eq. 13 sums"
        f" over {num_clusters - 1} clusters (its terms read as each cluster's own gradient), Eq. 12 over one. For one"
        f" cluster at one checkpoint the reversed match is {'closer' if one < other else 'worse'}: its error is"
        f" {one:.2f} of the real gradient's length, that of the ordinary match {other:.2f}."
    )

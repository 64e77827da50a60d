"""What Table 4 says beside the paper's, in sentences that are computed from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PAPER: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "mnist": {"normal training": (12.5, 95.7), "DDM-match": (12.6, 85.0), "DDM": (0.6, 95.7)},
    "cifar10": {"normal training": (12.6, 85.0), "DDM-match": (12.6, 40.2), "DDM": (15.5, 85.0)},
    "cifar100": {"normal training": (2.2, 56.1), "DDM-match": (2.2, 23.5), "DDM": (0.8, 56.1)},
    "tinyimagenet": {"normal training": (1.4, 37.5), "DDM-match": (1.4, 7.8), "DDM": (0.1, 37.5)},
}
"""Table 4: accuracy in per cent at θ_0 and at θ_τ."""
CLASSES = {"mnist": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200}
"""Of the paper's data sets: a guess is right as often as one of them."""
NEAR = 5.0
"""Points of accuracy within which the recovered start is said to come near the random one."""


def sentences(found: Mapping[str, Any], column: str, num_clusters: int, labels: str) -> Iterator[str]:
    """What is to be said beside Table 4.

    Args:
        found: the study's figures.
        column: of the paper; one that it does not have gives no comparison.
        num_clusters: K.
        labels: under which DDM-match was matched.
    """
    yield back(found)
    yield below(found)
    if column in PAPER:
        yield _start_in_paper(found, column)
        yield _match_in_paper(found, column)
    yield accumulated(found["errors"], num_clusters)
    yield (
        "Eq. 13 as printed subtracts the gradient of cluster κ from that of every other cluster's synset; it is read"
        " here as each cluster's own. DDM-match was matched under "
        + ("the classes' own labels." if labels == "hard" else "learned labels.")
    )


def back(found: Mapping[str, Any]) -> str:
    """Where fine-tuning on the whole synset leads."""
    ddm, begun = found["methods"]["DDM"], found["methods"]["normal training"]
    least, left = found["ddm_least_distance_to_start"], found["ddm_distance_to_start"]
    way = (
        "comes near to it"
        if least < 0.1
        else "comes more than half of the way back to it"
        if least < 0.5
        else "comes a part of the way back to it"
        if least < 0.9
        else "comes hardly nearer to it"
    )
    after = ", but ends farther from it than it began" if left > 1 else ""
    near = least >= 0.5 and abs(ddm["theta_0"] - begun["theta_0"]) < NEAR
    return (
        "Fine-tuned on the whole synset, at the learning rate whose end is on the validation split nearest to the"
        f" random start's accuracy, the target goes from {ddm['theta_tau']:.1f}% to {ddm['theta_0']:.1f}% (the random"
        f" start θ_0 has {begun['theta_0']:.1f}%). In weights it {way}{after}: {left:.2f} of the distance is left at"
        f" the end, {least:.2f} at the least."
        + (" What comes near is an accuracy, which was sought, and not the network." if near else "")
        + f" The class that it predicts most there takes {found['ddm_predicts_most']:.0f}% of the test images."
    )


def below(found: Mapping[str, Any]) -> str:
    """Whether accuracy falls below chance on the way."""
    ddm, uphill = found["lowest"], found["uphill"]
    fell = [_falls_below_chance(found, each["accuracy"]) for each in (ddm, uphill)]
    verdicts = ["falls below chance" if each else "does not fall below chance" for each in fell]
    drawn = (
        "a reversed gradient leads to predictions that avoid the labels, which those of a random start do not."
        if any(fell)
        else "neither shows here how an accuracy below chance comes about."
    )
    return (
        f"Accuracy on the synset's way back {verdicts[0]}: {ddm['accuracy']:.1f}% where the validation split has it"
        f" lowest, over all learning rates and points. Straight up the loss of real training images it {verdicts[1]}:"
        f" {uphill['accuracy']:.1f}% where the validation split has it lowest; at the end, at"
        f" {uphill['distance_to_start']:.2f} of the distance to θ_0, {uphill['predicts_most']:.0f}% of the test images"
        f" are given one class: {drawn}"
    )


def _falls_below_chance(found: Mapping[str, Any], accuracy: float) -> bool:
    """Below what the rarest class would give as a constant prediction, by more than sampling explains."""
    rarest = found["rarest_class"]
    return bool(accuracy < rarest - 1.96 * (rarest * (100 - rarest) / found["test_images"]) ** 0.5)


def _start_in_paper(found: Mapping[str, Any], column: str) -> str:
    paper, ours = PAPER[column]["DDM"][0], found["methods"]["DDM"]["theta_0"]
    chance = 100 / CLASSES[column]
    read = (
        f"The paper gives {paper:g}% for DDM at θ_0, below its chance of {chance:g}%: what it recovers would be no"
        " random start, whose predictions know nothing of the labels, but a network whose predictions avoid them."
        if paper < chance
        else f"The paper gives {paper:g}% for DDM at θ_0, above its chance of {chance:g}%."
    )
    return f"{read} Ours has {ours:.1f}%, with a chance of {found['chance']:g}%."


def _match_in_paper(found: Mapping[str, Any], column: str) -> str:
    lost = found["methods"]["normal training"]["theta_tau"] - found["methods"]["DDM-match"]["theta_tau"]
    theirs = PAPER[column]["normal training"][1] - PAPER[column]["DDM-match"][1]
    return (
        f"DDM-match ends {abs(lost):.1f} points {'below' if lost >= 0 else 'above'} normal training here and"
        f" {theirs:.1f} below in the paper; DDM's own accuracy at θ_τ is the target's by construction, in the paper as"
        " here, and proves no match."
    )


def other_classes(found: Mapping[str, Any], column: str) -> str:
    """For the note beside each figure of the paper: that it is of another number of classes."""
    ours = round(100 / found["chance"])
    return "" if CLASSES.get(column, ours) == ours else f"not comparable: the paper's is of {CLASSES[column]} classes"


def accumulated(errors: Mapping[str, Any], num_clusters: int) -> str:
    """Which of Eq. 12 and 13 is the smaller, and what that is worth."""
    holds = errors["eq_12_fitted"] < errors["eq_13_fitted"]
    one, other = errors["eq_12_fitted_relative"], errors["eq_13_fitted_relative"]
    return (
        f"Eq. 12 is {'smaller' if holds else 'not smaller'} than Eq. 13 here ({errors['eq_12_fitted']:.3g} against"
        f" {errors['eq_13_fitted']:.3g}), but Eq. 13 sums over the {num_clusters - 1} other clusters, since ordinary"
        " matching trains on all that stay while reverse matching takes back one. For one cluster at one checkpoint the"
        f" reversed match is {'closer' if one < other else 'worse'}: {one:.2f} of the real gradient's length against"
        f" {other:.2f} ({errors['eq_12_own_pairs_fitted_relative']:.2f} at the pairs that it was matched at)."
    )

"""The sentences about Tables 3, 6 and 7, computed from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ddm_studies.comparison.intervals import difference_interval
from ddm_studies.removal.ranking import CEILING, Removal

TITLES = {3: "removing the training data of least value", 6: "removing noisy training data"}
PAPER: dict[int, dict[str, dict[float, float]]] = {
    3: {
        "random": {0: 95.7, 1: 95.8, 10: 92.8, 20: 74.6, 50: 65.9},
        "koh": {0: 95.7, 1: 95.9, 10: 93.7, 20: 81.5, 50: 74.3},
        "fastif": {0: 95.7, 1: 95.5, 10: 94.1, 20: 79.6, 50: 74.0},
        "arnoldi": {0: 95.7, 1: 96.0, 10: 95.2, 20: 82.9, 50: 73.3},
        "ddm": {0: 95.7, 1: 96.2, 10: 95.9, 20: 85.4, 50: 79.3},
    },
    6: {
        "random": {0: 78.4, 10: 70.5, 20: 68.8, 30: 61.3, 40: 55.7},
        "ddm": {0: 78.4, 10: 82.0, 20: 79.3, 30: 73.6, 40: 70.1},
    },
}
"""Test accuracy in per cent, by table, method and percentage of the training data removed."""

INTERVALS = (
    "Intervals are over the replicates, on the same test split. For a method that ranks, all replicates use one ranking"
    " from one trained network: its interval covers the randomness of training, but not that of the network or the"
    " validation split behind the ranking. For random removal it also covers the choice of clusters. A difference is"
    " clear where its 95 % Welch interval excludes 0."
)


def sentences(
    table: int, found: Sequence[Removal], percentages: Sequence[float], not_comparable: str = ""
) -> list[str]:
    """The verdicts of Table 3 or 6, and what cannot be compared.

    Args:
        table: of the paper.
        found: the methods.
        percentages: of the clusters.
        not_comparable: a reason of this run, which replaces the general one.
    """
    by_use = {each.ranking.use: each for each in reversed(found)}
    ours, chance = by_use.get("ddm"), by_use.get("random")
    told = []
    if ours:
        told.append(gains(ours, percentages, PAPER[table]["ddm"]))
        if chance:
            told.append(against_chance(ours, chance, percentages, PAPER[table]))
        told += against_rivals(ours, found, percentages, "koh" in PAPER[table])
    if not_comparable:
        told.append(not_comparable)
    elif table == 6:
        told.append(
            "Levels of accuracy are not comparable, only their course: the paper names neither the data set nor the"
            " network of Table 6, and puts its noise both on each image and on 20 % of the data."
        )
    elif chance:
        told += scale(chance, percentages, PAPER[table]["random"])
    return told or [f"{len(found)} methods removed up to {percentages[-1]:g} % of the clusters; see below."]


def gains(ours: Removal, percentages: Sequence[float], paper: Mapping[float, float]) -> str:
    """Whether DDM's removal improves the network at the percentages where the paper's does, else at the first one."""
    steps = [each for each in percentages if each and paper.get(each, 0.0) > paper[0]] or list(percentages[1:2])
    parts = []
    for percentage in steps:
        after, before = ours.accuracy[list(percentages).index(percentage)], ours.accuracy[0]
        low, high = difference_interval(after, before)
        verdict = (
            "improves accuracy" if low > 0 else "lowers accuracy" if high < 0 else "does not measurably change accuracy"
        )
        theirs = f"; paper: {paper[percentage] - paper[0]:+.1f}" if percentage in paper else ""
        change = rounded(float(after.mean() - before.mean()))
        parts.append(f"at {percentage:g} % {verdict} ({change:+.1f} points, {between(low, high)}{theirs})")
    return f"Removing data by DDM {listed(parts)}."


def against_chance(
    ours: Removal, chance: Removal, percentages: Sequence[float], paper: Mapping[str, Mapping[float, float]]
) -> str:
    """DDM's accuracy minus that of random removal, where this is clear, and whether DDM removes whole classes."""
    parts: list[str] = []
    clear = []
    for row, percentage in enumerate(percentages):
        if not percentage:
            continue
        low, high = difference_interval(ours.accuracy[row], chance.accuracy[row])
        gap, theirs = ours.mean[row] - chance.mean[row], _gap(paper, percentage)
        unit, beside = "" if parts else " points", "" if theirs is None else f" (paper {theirs:+.1f})"
        parts.append(f"{rounded(gap):+.1f}{unit} at {percentage:g} %{beside}")
        if low > 0 or high < 0:
            clear.append(f"{percentage:g} %")
    beyond = f"the difference is clear at {listed(clear)}" if clear else "no difference is clear"
    return (
        f"DDM's accuracy minus that of random removal is {', '.join(parts)}; {beyond}."
        f"{_classes_lost(ours, chance, percentages)}"
    )


def _classes_lost(ours: Removal, chance: Removal, percentages: Sequence[float]) -> str:
    """Where DDM's order removes whole classes; effects of single deletions cannot predict this loss."""
    row = int((ours.lost > 0).double().argmax())
    if not ours.lost[row]:
        return ""
    return (
        f" From {percentages[row]:g} % on, DDM's order removes whole classes ({float(ours.lost[-1]):.0f} at"
        f" {percentages[-1]:g} %; random: {float(chance.lost[-1]):.1f}), which effects of single deletions cannot"
        " predict."
    )


def _gap(paper: Mapping[str, Mapping[float, float]], percentage: float) -> float | None:
    if percentage not in paper["ddm"]:
        return None
    return paper["ddm"][percentage] - paper["random"][percentage]


def against_rivals(ours: Removal, found: Sequence[Removal], percentages: Sequence[float], in_paper: bool) -> list[str]:
    """Which of the methods that rank is clearly ahead of every other."""
    ranked = [ours, *(each for each in found if each.ranking.use not in {"random", CEILING} and each is not ours)]
    if len(ranked) == 1:
        return []
    ahead: dict[str, list[str]] = {}
    unclear: list[str] = []
    for row, percentage in enumerate(percentages):
        if percentage:
            first = _ahead(ranked, row)
            places = ahead.setdefault(first.ranking.title, []) if first else unclear
            places.append(f"{percentage:g} %")
    leads = ", ".join(
        f"{title}{'' if number else ' has clearly the highest accuracy'} at {listed(places)}"
        for number, (title, places) in enumerate(ahead.items())
    )
    if not leads:
        told = "none is clearly ahead of all others at any percentage"
    else:
        told = leads + (f"; at {listed(unclear)} none is clearly ahead of all others" if unclear else "")
    theirs = "; in the paper DDM is ahead at every percentage" if in_paper else ""
    return [f"Of the methods that rank, {told}{theirs}."]


def _ahead(ranked: Sequence[Removal], row: int) -> Removal | None:
    """The method with the highest mean at one percentage, if its difference from each other has an interval above 0."""
    best = max(ranked, key=lambda each: each.mean[row])
    others = [each for each in ranked if each is not best]
    clear = all(difference_interval(best.accuracy[row], each.accuracy[row])[0] > 0 for each in others)
    return best if clear else None


def scale(chance: Removal, percentages: Sequence[float], paper: Mapping[float, float]) -> list[str]:
    """Whether losing much data at random costs as much here as in the paper, so that levels can be compared."""
    last = max((each for each in percentages if each in paper), default=0.0)
    if not last:
        return []
    here, there = chance.mean[0] - chance.mean[list(percentages).index(last)], paper[0] - paper[last]
    alike = "about as much" if abs(here - there) <= there / 2 else "so levels of accuracy are not comparable"
    return [f"Removing {last:g} % at random costs {here:.1f} points here and {there:.1f} in the paper, {alike}."]


def rounded(points: float) -> float:
    """To one decimal, without a minus before a zero."""
    return round(points, 1) + 0.0


def between(low: float, high: float) -> str:
    """The interval of a difference."""
    return f"{low:+.1f} to {high:+.1f}"


def listed(parts: Sequence[str]) -> str:
    """`1 %, 10 % and 20 %`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last

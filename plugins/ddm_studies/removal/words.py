"""What is said of Tables 3, 6 and 7, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ddm_studies.comparison.intervals import difference_interval
from ddm_studies.comparison.paper import Claim, Findings, Outcome, listed, outcome_of
from ddm_studies.removal.figures import removals_of
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


def findings(metrics: Mapping[str, Any]) -> Findings:
    """The verdicts of Table 3 or 6, and what cannot be compared, from the entry of metrics.json."""
    stored = metrics["removal"]
    found, percentages = removals_of(stored), stored["percentages"]
    table, why = stored["table"], stored["not_comparable"]
    return Findings(_sentences(table, found, percentages, why), list(_claims(table, found, percentages)))


def _sentences(
    table: int, found: Sequence[Removal], percentages: Sequence[float], not_comparable: str = ""
) -> list[str]:
    """Gains, differences from chance and from every other method, harm, and what cannot be compared.

    Args:
        table: of the paper.
        found: the methods.
        percentages: of the clusters.
        not_comparable: a reason of this run, which replaces the general one.
    """
    by_use = {each.ranking.use: each for each in reversed(found)}
    ours, chance, ceiling = (by_use.get(use) for use in ("ddm", "random", CEILING))
    told = []
    if ours:
        told.append(gains(ours, percentages, PAPER[table]["ddm"]))
        if chance:
            told[0] += f" {against_chance(ours, chance, percentages, PAPER[table])}"
        told += against_rivals(ours, found, percentages, "koh" in PAPER[table])
    if ceiling:
        told.append(harm(ceiling, percentages))
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


def _claims(table: int, found: Sequence[Removal], percentages: Sequence[float]) -> Iterator[Claim]:
    """That removal by DDM improves the network, and leaves it better than removal by any other method."""
    by_use = {each.ranking.use: each for each in reversed(found)}
    ours, ceiling = by_use.get("ddm"), by_use.get(CEILING)
    if not ours:
        return
    paper = PAPER[table]["ddm"]
    gaining = [each for each in percentages if each and paper.get(each, 0.0) > paper[0]]
    if gaining:
        # The largest share that still improves the paper's network.
        last = list(percentages).index(gaining[-1])
        interval = difference_interval(ours.accuracy[last], ours.accuracy[0])
        outcome, measured = outcome_of(interval), f"{_change(ours, last)} at {gaining[-1]:g} %"
        if ceiling and not _heals(ceiling, percentages):
            outcome = "cannot be tested at this size"
            measured += "; even without the most corrupted clusters no accuracy is measurably higher"
        what = "removing the data of least value by DDM improves accuracy"
        yield Claim(what if table == 3 else "removing data by DDM heals a corrupted network", measured, outcome)
    others = [each for each in found if each is not ours and each.ranking.use in PAPER[table]]
    if others:
        yield Claim("removal by DDM leaves a higher accuracy than by any other method", *_against(ours, others))


def _against(ours: Removal, others: Sequence[Removal]) -> tuple[str, Outcome]:
    """DDM's clear wins and losses over all other methods and percentages, and the outcome: one clear loss refutes."""
    outcomes = [
        outcome_of(difference_interval(ours.accuracy[row], each.accuracy[row]))
        for each in others
        for row in range(1, len(ours.accuracy))
    ]
    ahead, behind = outcomes.count("holds"), outcomes.count("does not hold")
    measured = f"of {len(outcomes)} differences {ahead} are clearly in favour of DDM and {behind} against it"
    if behind:
        return measured, "does not hold"
    return measured, "holds" if ahead == len(outcomes) else "not told"


def _change(removal: Removal, row: int) -> str:
    """The change of accuracy with its interval."""
    low, high = difference_interval(removal.accuracy[row], removal.accuracy[0])
    change = rounded(float(removal.accuracy[row].mean() - removal.accuracy[0].mean()))
    return f"{change:+.1f} points ({between(low, high)})"


def _heals(ceiling: Removal, percentages: Sequence[float]) -> bool:
    """Whether removing the most corrupted clusters improves accuracy measurably at any percentage."""
    rows = [row for row, percentage in enumerate(percentages) if percentage]
    return any(difference_interval(ceiling.accuracy[row], ceiling.accuracy[0])[0] > 0 for row in rows)


def harm(ceiling: Removal, percentages: Sequence[float]) -> str:
    """Whether the corruption costs accuracy, so that a removal could heal the network."""
    rows = [row for row, percentage in enumerate(percentages) if percentage]
    best = max(rows, key=lambda row: ceiling.mean[row])
    told = f"{_change(ceiling, best)} without {percentages[best]:g} %"
    if _heals(ceiling, percentages):
        return f"Removing the most corrupted clusters first improves accuracy, by up to {told}."
    return (
        f"Even removing the most corrupted clusters first does not measurably improve accuracy ({told}): the corruption"
        " does no measurable harm here, so nothing can be healed."
    )


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
    """Which methods that rank DDM is clearly behind and ahead of, and how well each detects corruption."""
    rivals = [each for each in found if each.ranking.use not in {"random", CEILING} and each is not ours]
    if not rivals:
        return []
    told = []
    for sign, words in ((-1, "behind"), (1, "ahead of")):
        parts = [part for each in rivals if (part := _clear(ours, each, percentages, sign))]
        if parts:
            told.append(f"clearly {words} {listed(parts)}")
    if not told:
        told.append("not told from any other method that ranks at any percentage")
    theirs = "; in the paper DDM is ahead at every percentage" if in_paper else ""
    return [f"DDM is {'; '.join(told)}{theirs}.{_detection([ours, *rivals])}"]


def _clear(ours: Removal, rival: Removal, percentages: Sequence[float], sign: int) -> str:
    """`Koh et al. at 10 % and 20 % (by 1.2 to 3.4 points)`, the percentages at which the difference is clear."""
    rows = [
        row
        for row, percentage in enumerate(percentages)
        if percentage and sign * _nearer_end(ours.accuracy[row], rival.accuracy[row], sign) > 0
    ]
    if not rows:
        return ""
    gaps = [abs(ours.mean[row] - rival.mean[row]) for row in rows]
    reach = f"{min(gaps):.1f}" + (f" to {max(gaps):.1f}" if len(rows) > 1 else "")
    return f"{rival.ranking.title} at {listed([f'{percentages[row]:g} %' for row in rows])} (by {reach} points)"


def _nearer_end(ours: Tensor, theirs: Tensor, sign: int) -> float:
    """The end of the interval of a difference that is nearer to the other sign."""
    low, high = difference_interval(ours, theirs)
    return low if sign > 0 else high


def _detection(ranked: Sequence[Removal]) -> str:
    """The AUC of finding corrupted samples; each is of one order, so it has no interval."""
    known = [f"{each.ranking.title} {float(each.auc.mean()):.2f}" for each in ranked if each.auc is not None]
    return f" Corrupted samples are detected with an AUC of: {', '.join(known)}." if known else ""


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

"""What is said of Tables 3, 6 and 7, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddm_studies.comparison.intervals import difference_interval
from ddm_studies.comparison.measured import Outcome, outcome_of
from ddm_studies.comparison.paper import Claim, Findings, listed
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
AUC_INTERVALS = (
    "The AUC is of finding the corrupted training images by the order in which their clusters are removed. Its interval"
    " and those of its differences leave out each cluster in turn (jackknife) and keep the order of the others; for"
    " random removal it is over the orders."
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
    """That removal by DDM improves the network, and leaves it better than removal by the paper's other methods."""
    by_use = {each.ranking.use: each for each in reversed(found)}
    ours, ceiling = by_use.get("ddm"), by_use.get(CEILING)
    if not ours:
        return
    paper = PAPER[table]["ddm"]
    gaining = [row for row, each in enumerate(percentages) if each and paper.get(each, 0.0) > paper[0]]
    if gaining:
        last = gaining[-1]  # the largest share that still improves the paper's network
        told = f"{_change(ours, last)} without {percentages[last]:g} %"
        improved = outcome_of(difference_interval(ours.accuracy[last], ours.accuracy[0]))
        if table == 6:
            yield _healing(ours, ceiling, percentages, told, improved)
        else:
            yield Claim(f"removing {percentages[last]:g} % by DDM improves accuracy", told, improved)
    others = [each for each in found if each is not ours and each.ranking.use in PAPER[table]]
    if others:
        rivals = "every other method's" if "koh" in PAPER[table] else "random removal"
        yield Claim(f"DDM's removal is ahead of {rivals}", *_against(ours, others))


def _healing(
    ours: Removal, ceiling: Removal | None, percentages: Sequence[float], told: str, improved: Outcome
) -> Claim:
    """That DDM's order finds the noise, and that removal by it improves accuracy; either can refute the claim."""
    if ceiling is None:
        improved, told = "cannot be tested at this size", f"{told}; nothing is corrupted"
    elif not _heals(ceiling, percentages):
        improved, told = "cannot be tested at this size", f"{told}; the corruption does no measurable harm"
    outcomes: list[Outcome] = [improved]
    if ours.auc is not None:
        told += f"; AUC of finding the corrupted images {_auc(ours)}"
        if ours.auc_interval is not None:
            outcomes.append(outcome_of(ours.auc_interval, 0.5))
    order: tuple[Outcome, ...] = ("does not hold", "cannot be tested at this size", "not told", "holds")
    claim = "removing what DDM ranks lowest finds the noise and improves accuracy"
    return Claim(claim, told, min(outcomes, key=order.index))


def _auc(removal: Removal) -> str:
    """The AUC of finding corrupted samples, with its interval where it is known."""
    assert removal.auc is not None
    told = f"{float(removal.auc.mean()):.2f}"
    if removal.auc_interval is None:
        return told
    low, high = removal.auc_interval
    return f"{told} ({low:.2f} to {high:.2f})"


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
        " does no measurable harm here, so the paper's claim cannot be tested at this size."
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
    for row, percentage in enumerate(percentages):
        if not percentage:
            continue
        gap, theirs = ours.mean[row] - chance.mean[row], _gap(paper, percentage)
        unit, beside = "" if parts else " points", "" if theirs is None else f" (paper {theirs:+.1f})"
        parts.append(f"{rounded(gap):+.1f}{unit} at {percentage:g} %{beside}")
    clear = {
        words: [f"{percentages[row]:g} %" for row in _clear_rows(ours, chance, percentages, sign)]
        for sign, words in ((-1, "lower"), (1, "higher"))
    }
    told = [f"clearly {words} at {listed(at)}" for words, at in clear.items() if at]
    beyond = f"it is {' and '.join(told)}" if told else "no difference is clear"
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
    """Which methods that rank DDM is clearly behind and ahead of, losses first, and how well it finds corruption."""
    rivals = [each for each in found if each.ranking.use not in {"random", CEILING} and each is not ours]
    told = [part for sign in (-1, 1) for part in _clear(ours, rivals, percentages, sign)]
    if not told:
        told.append("not told from any other method that ranks at any percentage")
    theirs = "; in the paper DDM is ahead at every percentage" if in_paper else ""
    parts = [f"DDM is {'; '.join(told)}{theirs}."] if rivals else []
    if ours.auc is not None:
        parts.append(_detection(ours, rivals))
    return [" ".join(parts)] if parts else []


def _clear(ours: Removal, rivals: Sequence[Removal], percentages: Sequence[float], sign: int) -> Iterator[str]:
    """`clearly behind Koh et al. and FASTIF at 10 %, by 9.1 points (7.2 to 11.0) and more`, by equal percentages."""
    groups: dict[tuple[int, ...], list[Removal]] = {}
    for each in rivals:
        groups.setdefault(tuple(_clear_rows(ours, each, percentages, sign)), []).append(each)
    for rows, alike in groups.items():
        if rows:
            pairs = [(each, row) for each in alike for row in rows]
            rival, row = min(pairs, key=lambda pair: abs(ours.mean[pair[1]] - pair[0].mean[pair[1]]))
            low, high = sorted(sign * end for end in difference_interval(ours.accuracy[row], rival.accuracy[row]))
            least = f"{abs(ours.mean[row] - rival.mean[row]):.1f} points ({low:.1f} to {high:.1f})"
            yield (
                f"clearly {'ahead of' if sign > 0 else 'behind'} {listed([each.ranking.title for each in alike])} at"
                f" {listed([f'{percentages[row]:g} %' for row in rows])}, by {least}{' and more' * (len(pairs) > 1)}"
            )


def _clear_rows(ours: Removal, other: Removal, percentages: Sequence[float], sign: int) -> list[int]:
    """Where the interval of the difference lies wholly above 0 (sign 1) or below 0 (sign -1)."""
    wanted = "holds" if sign > 0 else "does not hold"
    return [
        row
        for row, percentage in enumerate(percentages)
        if percentage and outcome_of(difference_interval(ours.accuracy[row], other.accuracy[row])) == wanted
    ]


def _detection(ours: Removal, rivals: Sequence[Removal]) -> str:
    """DDM's AUC of finding corrupted samples beside chance and each other method, losses first."""
    if ours.auc_interval is None or any(each.auc_behind_ddm is None for each in rivals):
        areas = listed([f"{each.ranking.title} {_auc(each)}" for each in (ours, *rivals)])
        return f"Corrupted samples are found with an AUC of: {areas}; without intervals, their order is not told."
    outcomes = {"chance (0.5)": outcome_of(ours.auc_interval, 0.5)}
    for each in rivals:
        if each.auc is not None and each.auc_behind_ddm is not None:
            outcomes[f"{each.ranking.title} ({float(each.auc.mean()):.2f})"] = outcome_of(each.auc_behind_ddm)
    told = []
    for wanted, verdict in (("does not hold", "behind"), ("holds", "ahead of"), ("not told", "told from")):
        parts = [name for name, outcome in outcomes.items() if outcome == wanted]
        if parts:
            told.append(f"{'not' if wanted == 'not told' else 'clearly'} {verdict} {listed(parts)}")
    return f"DDM finds corrupted samples with an AUC of {_auc(ours)}: {'; '.join(told)}."


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

"""What is said of Tables 3, 6 and 7, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from ddm_studies.comparison.intervals import difference_interval
from ddm_studies.comparison.measured import Measured, Outcome, Stored, between, outcome_of
from ddm_studies.comparison.paper import Claim, Findings, listed, outcome_of_all, standing
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


def findings(metrics: Stored) -> Findings:
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
    ours, chance, ceiling = (_first(found, use) for use in ("ddm", "random", CEILING))
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


def _first(found: Sequence[Removal], use: str) -> Removal | None:
    """The first method by an attributor."""
    return next((each for each in found if each.ranking.use == use), None)


def _claims(table: int, found: Sequence[Removal], percentages: Sequence[float]) -> Iterator[Claim]:
    """That removal by DDM improves the network, and leaves it better than removal by the paper's other methods."""
    ours, ceiling = _first(found, "ddm"), _first(found, CEILING)
    if not ours:
        return
    paper = PAPER[table]["ddm"]
    if rows := gaining(percentages, paper):
        last = rows[-1]  # the largest share that still improves the paper's network
        told = f"{points(ours.accuracy[last], ours.accuracy[0])} without {percentages[last]:g} %"
        improved = outcome_of(difference_interval(ours.accuracy[last], ours.accuracy[0]))
        if table == 6:
            yield _healing(ours, ceiling, told, improved)
        else:
            yield Claim(f"removing {percentages[last]:g} % by DDM improves accuracy", told, improved)
    others = [each for each in found if each is not ours and each.ranking.use in PAPER[table]]
    if others:
        rivals = "every other method's" if "koh" in PAPER[table] else "random removal"
        yield Claim(f"DDM's removal is ahead of {rivals}", *_against(ours, others))


def _healing(ours: Removal, ceiling: Removal | None, told: str, improved: Outcome) -> Claim:
    """That DDM's order finds the noise, and that removal by it improves accuracy; either can refute the claim."""
    if ceiling is None or not _heals(ceiling):
        why = "nothing is corrupted" if ceiling is None else "the corruption does no measurable harm"
        improved, told = "cannot be tested at this size", f"{told}; {why}"
    outcomes = [improved]
    if ours.auc is not None:
        told += f"; AUC of finding the corrupted images {_auc(ours)}"
        if ours.auc_interval is not None:
            outcomes.append(outcome_of(ours.auc_interval, 0.5))
    claim = "removing what DDM ranks lowest finds the noise and improves accuracy"
    return Claim(claim, told, outcome_of_all(outcomes))


def _auc(removal: Removal) -> str:
    """The AUC of finding corrupted samples, with its interval where it is known."""
    assert removal.auc is not None
    return Measured(float(removal.auc.mean()), removal.auc_interval).words(".2f")


def _against(ours: Removal, others: Sequence[Removal]) -> tuple[str, Outcome]:
    """DDM's clear wins and losses over all other methods and percentages, and the outcome: one clear loss refutes."""
    outcomes = [
        outcome_of(difference_interval(ours.accuracy[row], each.accuracy[row]))
        for each in others
        for row in range(1, len(ours.accuracy))
    ]
    ahead, behind = outcomes.count("holds"), outcomes.count("does not hold")
    measured = f"of {len(outcomes)} differences {ahead} are clearly in favour of DDM and {behind} against it"
    return measured, outcome_of_all(outcomes)


def _heals(ceiling: Removal) -> bool:
    """Whether removing the most corrupted clusters improves accuracy measurably at any percentage."""
    changes = (difference_interval(after, ceiling.accuracy[0]) for after in ceiling.accuracy[1:])
    return any(outcome_of(each) == "holds" for each in changes)


def harm(ceiling: Removal, percentages: Sequence[float]) -> str:
    """Whether the corruption costs accuracy, so that a removal could heal the network."""
    best = max(range(1, len(percentages)), key=lambda row: ceiling.mean[row])
    told = f"{points(ceiling.accuracy[best], ceiling.accuracy[0])} without {percentages[best]:g} %"
    if _heals(ceiling):
        return f"Removing the most corrupted clusters first improves accuracy, by up to {told}."
    return (
        f"Even removing the most corrupted clusters first does not measurably improve accuracy ({told}): the corruption"
        " does no measurable harm here, so the paper's claim cannot be tested at this size."
    )


def gaining(percentages: Sequence[float], paper: Mapping[float, float]) -> list[int]:
    """The rows of the percentages whose removal improves the paper's network."""
    return [row for row, each in enumerate(percentages) if each and paper.get(each, 0.0) > paper[0]]


def gains(ours: Removal, percentages: Sequence[float], paper: Mapping[float, float]) -> str:
    """Whether DDM's removal improves the network at the percentages where the paper's does, else at the first one."""
    verdict = {"holds": "improves", "does not hold": "lowers", "not told": "does not measurably change"}
    parts = []
    for row in gaining(percentages, paper) or [1]:
        percentage, after, before = percentages[row], ours.accuracy[row], ours.accuracy[0]
        said = verdict[outcome_of(difference_interval(after, before))]
        theirs = f"; paper: {paper[percentage] - paper[0]:+.1f}" if percentage in paper else ""
        parts.append(f"at {percentage:g} % {said} accuracy ({points(after, before, ', {}')}{theirs})")
    return f"Removing data by DDM {listed(parts)}."


def against_chance(
    ours: Removal, chance: Removal, percentages: Sequence[float], paper: Mapping[str, Mapping[float, float]]
) -> str:
    """DDM's accuracy minus that of random removal, where this is clear, and whether DDM removes whole classes."""
    parts: list[str] = []
    for row, percentage in enumerate(percentages[1:], 1):
        gap, theirs = ours.mean[row] - chance.mean[row], _gap(paper, percentage)
        unit, beside = "" if parts else " points", "" if theirs is None else f" (paper {theirs:+.1f})"
        parts.append(f"{rounded(gap):+.1f}{unit} at {percentage:g} %{beside}")
    clear = {"lower": _clear_rows(ours, chance, "does not hold"), "higher": _clear_rows(ours, chance, "holds")}
    told = [f"clearly {words} at {_at(rows, percentages)}" for words, rows in clear.items() if rows]
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
    told = [*_clear(ours, rivals, percentages, "does not hold"), *_clear(ours, rivals, percentages, "holds")]
    if not told:
        told.append("not told from any other method that ranks at any percentage")
    theirs = "; in the paper DDM is ahead at every percentage" if in_paper else ""
    parts = [f"DDM is {'; '.join(told)}{theirs}."] if rivals else []
    if ours.auc is not None:
        parts.append(_detection(ours, rivals))
    return [" ".join(parts)] if parts else []


def _clear(ours: Removal, rivals: Sequence[Removal], percentages: Sequence[float], wanted: Outcome) -> Iterator[str]:
    """`clearly behind Koh et al. and FASTIF at 10 %, by 9.1 points (7.2 to 11.0) and more`, by equal percentages."""
    groups: dict[tuple[int, ...], list[Removal]] = {}
    for each in rivals:
        groups.setdefault(tuple(_clear_rows(ours, each, wanted)), []).append(each)
    sign, words = (1, "ahead of") if wanted == "holds" else (-1, "behind")
    for rows, alike in groups.items():
        if rows:
            pairs = [(each, row) for each in alike for row in rows]
            rival, row = min(pairs, key=lambda pair: abs(ours.mean[pair[1]] - pair[0].mean[pair[1]]))
            interval = sorted(sign * end for end in difference_interval(ours.accuracy[row], rival.accuracy[row]))
            least = f"{abs(ours.mean[row] - rival.mean[row]):.1f} points ({between(interval, '.1f')})"
            them, where = listed([each.ranking.title for each in alike]), _at(rows, percentages)
            yield f"clearly {words} {them} at {where}, by {least}{' and more' * (len(pairs) > 1)}"


def _clear_rows(ours: Removal, other: Removal, wanted: Outcome) -> list[int]:
    """Where the claim that DDM is ahead of another method has an outcome."""
    outcomes = [outcome_of(difference_interval(*pair)) for pair in zip(ours.accuracy, other.accuracy, strict=True)]
    return [row for row in range(1, len(outcomes)) if outcomes[row] == wanted]


def _at(rows: Sequence[int], percentages: Sequence[float]) -> str:
    """`10 % and 20 %`."""
    return listed([f"{percentages[row]:g} %" for row in rows])


def _detection(ours: Removal, rivals: Sequence[Removal]) -> str:
    """DDM's AUC of finding corrupted samples beside chance and each other method, losses first."""
    if ours.auc_interval is None or any(each.auc_behind_ddm is None for each in rivals):
        areas = listed([f"{each.ranking.title} {_auc(each)}" for each in (ours, *rivals)])
        return f"Corrupted samples are found with an AUC of: {areas}; without intervals, their order is not told."
    outcomes = [(outcome_of(ours.auc_interval, 0.5), "chance (0.5)")]
    for each in rivals:
        if each.auc is not None and each.auc_behind_ddm is not None:
            name = f"{each.ranking.title} ({float(each.auc.mean()):.2f})"
            outcomes.append((outcome_of(each.auc_behind_ddm), name))
    return f"DDM finds corrupted samples with an AUC of {_auc(ours)}: {'; '.join(standing(outcomes))}."


def scale(chance: Removal, percentages: Sequence[float], paper: Mapping[float, float]) -> list[str]:
    """Whether losing much data at random costs as much here as in the paper, so that levels can be compared."""
    last = max((each for each in percentages if each in paper), default=0.0)
    if not last:
        return []
    here, there = chance.mean[0] - chance.mean[list(percentages).index(last)], paper[0] - paper[last]
    alike = "about as much" if abs(here - there) <= there / 2 else "so levels of accuracy are not comparable"
    return [f"Removing {last:g} % at random costs {here:.1f} points here and {there:.1f} in the paper, {alike}."]


def points(after: Tensor, before: Tensor, interval: str = " ({})") -> str:
    """`+1.2 points (+0.3 to +2.1)`: how much higher one mean is than another, with Welch's interval.

    Args:
        after: accuracies in per cent, float64 (R,).
        before: those that are subtracted, float64 (S,).
        interval: how the interval stands behind the difference.
    """
    between_them = between(difference_interval(after, before), "+.1f")
    return f"{rounded(float(after.mean() - before.mean())):+.1f} points{interval.format(between_them)}"


def rounded(value: float) -> float:
    """To one decimal, without a minus before a zero."""
    return round(value, 1) + 0.0

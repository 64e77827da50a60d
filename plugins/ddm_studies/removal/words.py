"""What removals say beside the paper's, in sentences that are computed from the figures."""

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
"""Test accuracy in per cent, by table, method and percentage of the training data that is removed."""

INTERVALS = (
    "Intervals are over these replicates, on one and the same test split. Those of methods that rank are of one"
    " ranking, made from one trained network: they hold what training leaves to chance, but not how another network or"
    " validation split would rank. Those of random choice also hold which clusters are drawn. A difference is clear, or"
    " more than chance, where its 95 % interval by Welch lies on one side of 0."
)


def sentences(table: int, found: Sequence[Removal], percentages: Sequence[float], balanced: bool = False) -> list[str]:
    """What is to be said beside Table 3 or 6; `balanced` where each class loses the same share."""
    by_use = {each.ranking.use: each for each in reversed(found)}
    told = []
    if ours := by_use.get("ddm"):
        told += gains(ours, percentages, PAPER[table]["ddm"])
        if chance := by_use.get("random"):
            told.append(against_chance(ours, chance, percentages, PAPER[table]))
        told += classes_lost(ours, by_use.get("random"), percentages)
        told += against_rivals(ours, found, percentages, "koh" in PAPER[table])
    if chance := by_use.get("random"):
        told += scale(chance, percentages, PAPER[table]["random"])
    told += detection(found, balanced)
    if table == 6:
        told.append(
            "The paper does not say which data and network Table 6 is of, and says of its noise both that it is on each"
            " image and that it is on 20 % of the data; the levels of accuracy cannot be compared, only their course."
        )
    return told or [f"{len(found)} methods removed up to {percentages[-1]:g} % of the clusters; see below."]


def gains(ours: Removal, percentages: Sequence[float], paper: Mapping[float, float]) -> list[str]:
    """Whether removing by value improves the network, where the paper says that it does; else at the first step."""
    steps = [each for each in percentages if each and paper.get(each, 0.0) > paper[0]] or list(percentages[1:2])
    told = []
    for percentage in steps:
        after, before = ours.accuracy[list(percentages).index(percentage)], ours.accuracy[0]
        low, high = difference_interval(after, before)
        verdict = (
            "improves accuracy here"
            if low > 0
            else "does not improve accuracy here, it lowers it"
            if high < 0
            else "does not measurably change accuracy here"
        )
        theirs = f"; paper: {paper[percentage]} after {paper[0]}" if percentage in paper else ""
        told.append(
            f"Removing {percentage:g} % by DDM {verdict} ({float(after.mean()):.1f} after {float(before.mean()):.1f},"
            f" difference {between(low, high)}{theirs})."
        )
    return told


def against_chance(
    ours: Removal, chance: Removal, percentages: Sequence[float], paper: Mapping[str, Mapping[float, float]]
) -> str:
    """What DDM leaves beside random removal, and where that is more than chance."""
    parts: list[str] = []
    clear = []
    for row, percentage in enumerate(percentages):
        if not percentage:
            continue
        low, high = difference_interval(ours.accuracy[row], chance.accuracy[row])
        gap, theirs = ours.mean[row] - chance.mean[row], _gap(paper, percentage)
        unit, beside = "" if parts else " points of accuracy", "" if theirs is None else f" (paper {theirs:+.1f})"
        rounded = round(gap, 1) + 0.0  # no minus before a zero
        parts.append(f"{rounded:+.1f}{unit} at {percentage:g} %{beside}")
        if low > 0 or high < 0:
            clear.append(f"{percentage:g} %")
    beyond = f"the two differ by more than chance at {listed(clear)}" if clear else "none of it is more than chance"
    return f"Beside random removal, DDM leaves {', '.join(parts)}; {beyond}."


def classes_lost(ours: Removal, chance: Removal | None, percentages: Sequence[float]) -> list[str]:
    """Where DDM's order leaves nothing of some classes, which effects of single deletions do not foresee."""
    row = int((ours.lost > 0).double().argmax())
    if not ours.lost[row]:
        return []
    last = len(percentages) - 1
    gone = "class is gone" if round(float(ours.lost[last])) == 1 else "classes are gone"
    beside = f" (random order: {float(chance.lost[last]):.1f})" if chance is not None else ""
    return [
        f"From {percentages[row]:g} % on, DDM's order removes whole classes; at {percentages[last]:g} %"
        f" {float(ours.lost[last]):.0f} {gone}{beside}: an effect is that of one deletion, and does not foresee what"
        " losing all clusters of a class does."
    ]


def _gap(paper: Mapping[str, Mapping[float, float]], percentage: float) -> float | None:
    if percentage not in paper["ddm"]:
        return None
    return paper["ddm"][percentage] - paper["random"][percentage]


def against_rivals(ours: Removal, found: Sequence[Removal], percentages: Sequence[float], in_paper: bool) -> list[str]:
    """Which of the methods that rank is ahead of every other by more than chance."""
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
        f"{title}{'' if number else ' leaves the highest accuracy'} at {listed(places)}"
        for number, (title, places) in enumerate(ahead.items())
    )
    if not leads:
        told = "none is clearly ahead of every other at any percentage"
    else:
        told = leads + (f"; at {listed(unclear)} none is clearly ahead of every other" if unclear else "")
    theirs = "; in the paper DDM is ahead at every percentage" if in_paper else ""
    return [f"Of the methods that rank, {told}{theirs}."]


def _ahead(ranked: Sequence[Removal], row: int) -> Removal | None:
    """The method of the highest mean at one percentage, if its difference from each other has an interval above 0."""
    best = max(ranked, key=lambda each: each.mean[row])
    others = [each for each in ranked if each is not best]
    clear = all(difference_interval(best.accuracy[row], each.accuracy[row])[0] > 0 for each in others)
    return best if clear else None


def scale(chance: Removal, percentages: Sequence[float], paper: Mapping[float, float]) -> list[str]:
    """What losing much data at random costs, which says how far the two settings are alike."""
    last = max((each for each in percentages if each in paper), default=0.0)
    if not last:
        return []
    here, there = chance.mean[0] - chance.mean[list(percentages).index(last)], paper[0] - paper[last]
    alike = "about as much" if abs(here - there) <= there / 2 else "so the two are on different scales"
    return [f"Losing {last:g} % at random costs {here:.1f} points here and {there:.1f} in the paper, {alike}."]


def detection(found: Sequence[Removal], balanced: bool = False) -> list[str]:
    """How well each order finds corrupted samples, beside the order that only we can know."""
    scored = [(each.ranking, float(each.auc.mean())) for each in found if each.auc is not None]
    if not scored:
        return []
    parts = ", ".join(f"{each.title} {auc:.2f}" for each, auc in scored if each.use != CEILING)
    ceiling = next(auc for each, auc in scored if each.use == CEILING)
    best = (
        f"removing the most corrupted clusters of each class first reaches {ceiling:.2f}, as clusters mix both and each"
        " class must lose the same share"
        if balanced
        else f"as clusters mix both, no order of them exceeds {ceiling:.2f}"
    )
    return [f"Corrupted samples are told from clean ones with an AUC of {parts} (0.5 is chance); {best}."]


def between(low: float, high: float) -> str:
    """An interval of a difference."""
    return f"{low:+.1f} to {high:+.1f}"


def listed(parts: Sequence[str]) -> str:
    """`1 %, 10 % and 20 %`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last

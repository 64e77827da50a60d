"""What Tables 1 and 2 say beside the paper's, in sentences that are computed from the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ddm_framework.truth import bootstrap_interval
from ddm_studies.comparison.judging import SCALE, Verdict, on_run_clusters
from ddm_studies.influence_tables.published import LOWEST_DIST_3, PAPERS_QUERIES, RANDOM, TITLES, Figures, PaperTable

RESAMPLES = 2000
CLOSE = 0.01
"""Values of Dist_3 nearer than this are said to differ little."""
FORWARD = {
    "initial": "DDM-match trains from θ_0 on the synsets of the clusters that stay, as distilled data are meant to be"
    " used",
    "target": "DDM-match takes a step from θ_τ up the loss of the deleted cluster's synset",
}


class Pair(NamedTuple):
    """Two rows in the paper's order."""

    above: str
    below: str


class Orders(NamedTuple):
    """Pairs of rows that the paper orders: as we do, the other way round, or not told apart by our queries."""

    agree: list[Pair]
    reversed: list[Pair]
    undecided: list[Pair]

    def __len__(self) -> int:
        return sum(map(len, self[:]))


def sentences(
    table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures], num_queries: int
) -> Iterator[str]:
    """What is to be said beside Table 1 or 2, the paper's figures known for a column or not."""
    ours = _ours(table, found)
    yield _share(table, ours)
    if known:
        for place, figure in enumerate(table.figures):
            if figure != "dist_3":
                yield from _orders(table, found, told(known, place), figure)
        yield from _times_random(table, ours, known)
        yield from _same_in_paper(table, found, known)
    else:
        yield f"The paper's {table.source} has no column for this data set, so none of its figures stands beside ours."
    if "dist_3" in table.figures:
        yield _dist_3(on_run_clusters(found), known)
    yield _scale(on_run_clusters(found))
    yield _few_queries(table, ours, num_queries)
    yield from _settings(table, found)


def _ours(table: PaperTable, found: Sequence[Verdict]) -> Verdict:
    return next((each for each in found if each.method == table.rows[table.own]), found[-1])


def _share(table: PaperTable, ours: Verdict) -> str:
    figures = ours.figures
    low, high = figures["recovered_share_interval"]
    return (
        f"{table.row(ours)} reaches a Dist_1 of {figures['dist_1']:.3g} (×{SCALE}),"
        f" {figures['recovered_share']:.0%} ({low:.0%} to {high:.0%}) of the way from a random cluster"
        f" ({figures['dist_1_floor']:.3g}) to the best one ({figures['dist_1_oracle']:.3g})."
    )


def measured(table: PaperTable, found: Sequence[Verdict], figure: str) -> dict[str, Tensor]:
    """What was measured of each query (N,), by row."""
    rows = {table.row(each): each.chosen[figure] for each in found}
    return {RANDOM: on_run_clusters(found).random[figure], **rows}


def told(known: Mapping[str, Figures], place: int) -> dict[str, float]:
    """The paper's figures in one column, of the rows that have one."""
    return {row: value for row, each in known.items() if (value := each[place]) is not None}


def orders(ours: Mapping[str, Tensor], paper: Mapping[str, float]) -> Orders:
    """Sort the paper's pairs of rows by what the same queries say of their difference.

    Args:
        ours: what was measured of each query, float64 (N,), by row.
        paper: figures by row; rows with the same figure are in no order.
    Returns:
        Pairs are undecided where the 95 % bootstrap interval of the mean difference, query by query, holds 0.
    """
    found = Orders([], [], [])
    generator = torch.Generator().manual_seed(0)
    for one, other in combinations([row for row in paper if row in ours], 2):
        if paper[one] == paper[other]:
            continue
        pair = Pair(one, other) if paper[one] > paper[other] else Pair(other, one)
        low, high = bootstrap_interval(ours[pair.above] - ours[pair.below], generator, resamples=RESAMPLES)
        (found.agree if low > 0 else found.reversed if high < 0 else found.undecided).append(pair)
    return found


def _orders(table: PaperTable, found: Sequence[Verdict], paper: Mapping[str, float], figure: str) -> Iterator[str]:
    """How many of the paper's orders hold, and those with its own method or random that do not."""
    ours = measured(table, found, figure)
    sorted_out = orders(ours, paper)
    if not len(sorted_out):
        return
    yield (
        f"Of the {len(sorted_out)} orders of two rows that the paper gives by {TITLES[figure]},"
        f" {len(sorted_out.agree)} hold here; reversed: {len(sorted_out.reversed)}; not told by these queries:"
        f" {len(sorted_out.undecided)}."
    )
    for above, below in sorted_out.reversed:
        if {above, below} & {RANDOM, table.own}:
            yield (
                f"The paper has {above} above {below} by {TITLES[figure]} ({paper[above]:g} to {paper[below]:g});"
                f" here {below} is above {above} ({float(ours[below].mean()):.3g} to {float(ours[above].mean()):.3g})."
            )
    own = [pair for pair in sorted_out.undecided if table.own in pair]
    if own:
        listed = ", ".join(pair.below if pair.above == table.own else pair.above for pair in own)
        end = "" if listed.endswith(".") else "."
        yield f"Not told from {table.own} by {TITLES[figure]}, as the difference may be 0: {listed}{end}"


def _settings(table: PaperTable, found: Sequence[Verdict]) -> Iterator[str]:
    """What each method was run with, and which of the two ways to use ordinary matching."""
    listed = "; ".join(f"{table.row(each)}: {each.settings}" for each in found)
    yield f"Run with: {listed}. Where several settings were tried, a validation bank decided, never these queries."
    for each in found:
        if (way := FORWARD.get(str(each.options.get("start")))) and each.method == "ddm_match":
            yield f"{way}; its synset has learned labels, as DDM's has."


def _times_random(table: PaperTable, ours: Verdict, known: Mapping[str, Figures]) -> Iterator[str]:
    own, random = known.get(table.row(ours), (None,))[0], known[RANDOM][0]
    floor = ours.figures["dist_1_floor"]
    if own is not None and random is not None and floor > 0:
        yield (
            f"The Dist_1 of {table.row(ours)} is {own / random:.1f} times that of a random cluster in the paper"
            f" and {ours.figures['dist_1'] / floor:.1f} times here."
        )


def _same_in_paper(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> Iterator[str]:
    """Methods to which the paper gives the very figures of its own."""
    own = known.get(table.own)
    ours = {table.row(each): each.figures["dist_1"] for each in found}
    for row, theirs in known.items():
        if row != table.own and theirs == own and row in ours and table.own in ours:
            yield (
                f"The paper gives {row} and {table.own} one and the same figures here; measured, their Dist_1 is"
                f" {ours[row]:.3g} and {ours[table.own]:.3g}."
            )


def _dist_3(first: Verdict, known: Mapping[str, Figures]) -> str:
    low, high = first.figures["dist_3_floor"], first.figures["dist_3_oracle"]
    said = (
        f"By Eq. 10, Dist_3 = 1/(1 + Dist_1) lies between {LOWEST_DIST_3:.2f} and 1; here a random cluster has"
        f" {low:.4f} and the best {high:.4f}"
        + (", which differ so little that the rank is what tells methods apart." if high - low < CLOSE else ".")
    )
    values = [each[2] for each in known.values() if len(each) > 2 and each[2] is not None]
    if not values:
        return said
    outside = [each for each in values if not LOWEST_DIST_3 <= each <= 1]
    said += f" Of the paper's {len(values)} figures for Dist_3 ({min(values):g} to {max(values):g})"
    said += f" {len(outside) or 'none'} lie outside of that range"
    shift, stays = known[RANDOM][0], known[RANDOM][2]
    if shift is not None and stays is not None:
        least = 1 / (1 + shift / SCALE)
        # The mean of a convex function is at least the function of the mean.
        said += (
            f"; its random cluster's Dist_1 of {shift:g} (×{SCALE}) would make its Dist_3 {least:.3f} at the least,"
            f" and the paper has {stays:g}. They cannot come from its Eq. 10 and are not comparable"
            if stays < least or stays > 1
            else ""
        )
    return said + "."


def _scale(first: Verdict) -> str:
    low, high = first.figures["dist_1_floor"], first.figures["dist_1_oracle"]
    return (
        "Dist_1 depends on the scale of predictions, on the size of clusters and on how far training has come; it is"
        f" measured on probabilities here, which puts a random cluster at {low:.3g} and the best one at {high:.3g}"
        f" (×{SCALE}). A figure of the paper compares with ours by its place between those two, and the paper gives no"
        " best one."
    )


def _few_queries(table: PaperTable, ours: Verdict, num_queries: int) -> str:
    low, high = ours.figures["dist_1_interval"]
    reach = (high - low) / 2 * math.sqrt(num_queries / PAPERS_QUERIES)
    return (
        f"The paper averages over {PAPERS_QUERIES} queries without an interval; with so few, the Dist_1 of"
        f" {table.row(ours)} would be known to about ±{reach:.2g}, with the {num_queries} here to"
        f" ±{(high - low) / 2:.2g}."
    )

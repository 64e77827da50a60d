"""The sentences about Tables 1 and 2, computed from the figures."""

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
"""Difference below which two values of Dist_3 are called almost equal."""


class Pair(NamedTuple):
    """Two rows in the paper's order."""

    above: str
    below: str


class Orders(NamedTuple):
    """Pairs of rows that the paper orders, by what our queries say: the same order, the reverse, or undecided."""

    agree: list[Pair]
    reversed: list[Pair]
    undecided: list[Pair]

    def __len__(self) -> int:
        return sum(map(len, self[:]))


def sentences(
    table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures], num_queries: int
) -> Iterator[str]:
    """The verdicts of Table 1 or 2, and what cannot be compared.

    Args:
        table: the paper's table.
        found: the methods.
        known: the paper's figures for the data set, by row; empty where the table has no such column.
        num_queries: N.
    """
    ours = _ours(table, found)
    yield _share(table, ours)
    if known:
        places = [place for place, figure in enumerate(table.figures) if figure != "dist_3"]
        yield from _orders(table, found, {table.figures[place]: told(known, place) for place in places})
        yield f"{_scale()} {_few_queries(table, ours, num_queries)}"
    else:
        yield f"The paper's {table.source} has no column for this data set, so none of its figures can be compared."
    if "dist_3" in table.figures:
        yield _dist_3(on_run_clusters(found), known)


def _ours(table: PaperTable, found: Sequence[Verdict]) -> Verdict:
    return next((each for each in found if each.method == table.rows[table.own]), found[-1])


def _share(table: PaperTable, ours: Verdict) -> str:
    low, high = ours.figures["recovered_share_interval"]
    return (
        f"By Dist_1, {table.row(ours)} recovers {ours.figures['recovered_share']:.0%} ({low:.0%} to {high:.0%}) of the"
        " way from a random cluster to the best one."
    )


def measured(table: PaperTable, found: Sequence[Verdict], figure: str) -> dict[str, Tensor]:
    """The measured value of each query (N,), by row."""
    rows = {table.row(each): each.chosen[figure] for each in found}
    return {RANDOM: on_run_clusters(found).random[figure], **rows}


def told(known: Mapping[str, Figures], place: int) -> dict[str, float]:
    """The paper's figures in one column, for the rows that have one."""
    return {row: value for row, each in known.items() if (value := each[place]) is not None}


def orders(ours: Mapping[str, Tensor], paper: Mapping[str, float]) -> Orders:
    """Sort the paper's pairs of rows by whether the same queries confirm their order.

    Args:
        ours: the measured value of each query, float64 (N,), by row.
        paper: figures by row; rows with the same figure are in no order.
    Returns:
        Pairs are undecided where the 95 % bootstrap interval of the mean difference, query by query, contains 0.
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


def _orders(table: PaperTable, found: Sequence[Verdict], paper: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """How many of the paper's orders of two rows are confirmed, and which against its own method are not.

    Args:
        table: the paper's table.
        found: the methods.
        paper: figures by distance and row.
    """
    counted, exceptions = [], []
    for figure, rows in paper.items():
        sorted_out = orders(measured(table, found, figure), rows)
        if not len(sorted_out):
            continue
        title = TITLES[figure]
        counted.append(
            f"by {title}, {len(sorted_out.agree)} of {len(sorted_out)} are confirmed, {len(sorted_out.reversed)}"
            f" reversed and {len(sorted_out.undecided)} undecided"
        )
        exceptions += [
            f"{below} is above {above} by {title}"
            for above, below in sorted_out.reversed
            if {above, below} & {RANDOM, table.own}
        ]
    if counted:
        said = f"Of the paper's orders of two rows, {'; '.join(counted)}."
        yield said + (f" Contradicted: {', '.join(exceptions)}." if exceptions else "")


def _dist_3(first: Verdict, known: Mapping[str, Figures]) -> str:
    low, high = first.figures["dist_3_floor"], first.figures["dist_3_oracle"]
    said = f"By Eq. 10, Dist_3 = 1/(1 + Dist_1) lies between {LOWEST_DIST_3:.2f} and 1"
    said += "; here its values are almost equal, so methods are compared by the rank" if high - low < CLOSE else ""
    values = [each[2] for each in known.values() if len(each) > 2 and each[2] is not None]
    if not values:
        return said + "."
    outside = [each for each in values if not LOWEST_DIST_3 <= each <= 1]
    said += f". {len(outside) or 'None'} of the paper's {len(values)} figures ({min(values):g} to {max(values):g})"
    said += f" {'lie' if len(outside) > 1 else 'lies'} outside this range"
    shift, stays = known[RANDOM][0], known[RANDOM][2]
    if shift is not None and stays is not None:
        least = 1 / (1 + shift / SCALE)
        # The mean of a convex function is at least the function of the mean.
        joined = "and" if outside else "but"
        said += (
            f", {joined} its Dist_1 of {shift:g} (×{SCALE}) for a random cluster implies a Dist_3 of at least"
            f" {least:.3f}, not {stays:g}: its Dist_3 does not follow its Eq. 10 and is not comparable"
            if stays < least or stays > 1
            else ""
        )
    return said + "."


def _scale() -> str:
    return (
        "Values of Dist_1 are not comparable with the paper's, as they depend on the scale of the predictions, the size"
        " of the clusters and the progress of training; only the position between a random cluster and the best one is"
        " comparable, and the paper gives no best one."
    )


def _few_queries(table: PaperTable, ours: Verdict, num_queries: int) -> str:
    low, high = ours.figures["dist_1_interval"]
    reach = (high - low) / 2 * math.sqrt(num_queries / PAPERS_QUERIES)
    return (
        f"The paper averages over {PAPERS_QUERIES} queries without an interval: with so few, the Dist_1 of"
        f" {table.row(ours)} here would have an uncertainty of about ±{reach:.2g}, with all {num_queries} it has"
        f" ±{(high - low) / 2:.2g}."
    )

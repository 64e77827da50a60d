"""What is said of Tables 1 and 2, made from the stored figures alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from ddm_studies.comparison.judging import SCALE, Verdict, apart, on_run_clusters
from ddm_studies.comparison.measured import Stored, between, in_words, outcome_of
from ddm_studies.comparison.paper import Claim, Findings, outcome_of_all, standing
from ddm_studies.influence_tables.published import (
    LOWEST_DIST_3,
    PAPERS_QUERIES,
    RANDOM,
    TABLES,
    TITLES,
    Figures,
    PaperTable,
)

CLOSE = 0.01
"""Difference below which two values of Dist_3 are called almost equal."""


def findings(metrics: Stored) -> Findings:
    """The verdicts of Table 1 or 2, and what cannot be compared, from the entry of metrics.json."""
    stored = metrics["table_1"] if "table_1" in metrics else metrics["table_2"]
    table = TABLES[stored["table"]]
    known = table.paper.get(stored["column"] or "", {})
    return Findings(list(_sentences(table, stored, known)), list(_claims(table, stored, known)))


def _sentences(table: PaperTable, stored: Stored, known: Mapping[str, Figures]) -> Iterator[str]:
    yield f"{_share(stored)} {_against_others(stored)}".strip()
    if known:
        yield from _orders(stored["pairs"])
        yield f"{_scale()} {_few_queries(stored)}"
    else:
        yield f"The paper's {table.source} has no column for this data set, so none of its figures can be compared."
    if "dist_3" in table.figures:
        yield _dist_3(stored, known)


def _claims(table: PaperTable, stored: Stored, known: Mapping[str, Figures]) -> Iterator[Claim]:
    """That the paper's own method is above every other of its table, and above ordinary matching."""
    by_row = {each["row"]: each for each in stored["against_own"]}
    others = [by_row[row] for row in known if row in by_row and row != RANDOM]
    if others:
        outcome = outcome_of_all(outcome_of(each["interval"]) for each in others)
        yield Claim(f"{stored['own']} moves predictions more than {_rivals(table)}", _told(others), outcome)
    ordinary = by_row.get("DDM-match")
    if ordinary and _paper_orders(known, stored["own"], "DDM-match"):
        claim = "reverse matching moves predictions more than ordinary matching"
        yield Claim(claim, _told([ordinary]), outcome_of(ordinary["interval"]))


def _rivals(table: PaperTable) -> str:
    return "its ablations and the baselines" if table.source == "Table 1" else "influence functions"


def _paper_orders(known: Mapping[str, Figures], above: str, below: str) -> bool:
    """Whether the paper's Dist_1 of one row is above that of another."""
    one, other = (known.get(row, (None,))[0] for row in (above, below))
    return one is not None and other is not None and one > other


def _told(others: Sequence[Stored]) -> str:
    return f"difference of Dist_1 ×{SCALE}: " + "; ".join(f"{each['row']} {_difference(each)}" for each in others)


def _difference(each: Stored) -> str:
    return f"{each['difference'] + 0.0:+.2f} ({between(each['interval'], '+.2f')})"


def _share(stored: Stored) -> str:
    """The share of DDM, over all queries and over the misread ones."""
    ours = stored[stored["own_method"]]
    share = in_words(ours, "recovered_share", ".0%")
    said = f"By Dist_1, {stored['own']} recovers {share} of the way from a random cluster to the best one"
    if "misread_share" in ours:
        said += (
            f", and {in_words(ours, 'misread_share', '.0%')} for the {ours['num_misread']} of {stored['num_queries']}"
            " queries that the network misreads"
        )
    return said + "."


def _against_others(stored: Stored) -> str:
    """Which methods the paper's own is clearly behind, clearly ahead of, and not told from."""
    rivals = [(outcome_of(each["interval"]), each) for each in stored["against_own"]]
    parts = standing(
        (outcome, each["row"] if outcome == "not told" else f"{each['row']} {_difference(each)}")
        for outcome, each in rivals
    )
    return f"{stored['own']} is {'; '.join(parts)}." if parts else ""


def measured(table: PaperTable, found: Sequence[Verdict], figure: str) -> dict[str, Tensor]:
    """The measured value of each query (N,), by row."""
    rows = {table.row(each): each.chosen[figure] for each in found}
    return {RANDOM: on_run_clusters(found).random[figure], **rows}


def told(known: Mapping[str, Figures], place: int) -> dict[str, float]:
    """The paper's figures in one column, for the rows that have one."""
    return {row: value for row, each in known.items() if (value := each[place]) is not None}


def pairs(figure: str, ours: Mapping[str, Tensor], paper: Mapping[str, float]) -> list[dict[str, Any]]:
    """The paper's pairs of rows by one distance, with what the same queries say of their order.

    Args:
        figure: the distance.
        ours: the measured value of each query, float64 (N,), by row.
        paper: figures by row; rows with the same figure are in no order.
    Returns:
        For each pair the row that the paper has above, the one below, and our difference with its 95 % bootstrap
        interval, query by query.
    """
    found = []
    for one, other in combinations([row for row in paper if row in ours], 2):
        if paper[one] != paper[other]:
            above, below = (one, other) if paper[one] > paper[other] else (other, one)
            found.append({"figure": figure, "above": above, "below": below, **_compared(ours[above], ours[below])})
    return found


def against_own(own: str, ours: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Dist_1 of the paper's own method minus that of every other row, with its 95 % interval over queries."""
    return [{"row": row, **_compared(ours[own], each)} for row, each in ours.items() if row != own]


def _compared(one: Tensor, other: Tensor) -> dict[str, Any]:
    """The mean difference of two rows on the same queries."""
    difference = apart(one, other)
    return {"difference": difference.value, "interval": list(difference.interval or ())}


def _orders(listed_pairs: Sequence[Stored]) -> Iterator[str]:
    """How many of the paper's orders of two rows are confirmed, reversed and undecided."""
    counted = []
    for figure, title in TITLES.items():
        outcomes = [outcome_of(each["interval"]) for each in listed_pairs if each["figure"] == figure]
        if outcomes:
            counted.append(
                f"by {title}, {outcomes.count('holds')} of {len(outcomes)} are confirmed,"
                f" {outcomes.count('does not hold')} reversed and {outcomes.count('not told')} undecided"
            )
    if counted:
        yield f"Of the paper's orders of two rows, {'; '.join(counted)}."


def _dist_3(stored: Stored, known: Mapping[str, Figures]) -> str:
    low, high = stored["random"]["dist_3"], stored["oracle"]["dist_3"]
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


def _few_queries(stored: Stored) -> str:
    (low, high), num_queries = stored[stored["own_method"]]["dist_1_interval"], stored["num_queries"]
    reach = (high - low) / 2 * math.sqrt(num_queries / PAPERS_QUERIES)
    return (
        f"The paper averages over {PAPERS_QUERIES} queries without an interval: with so few, the Dist_1 of"
        f" {stored['own']} here would have an uncertainty of about ±{reach:.2g}, with all {num_queries} it has"
        f" ±{(high - low) / 2:.2g}."
    )

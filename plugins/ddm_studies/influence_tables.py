"""Tables 1 and 2: how far the prediction moves without the cluster that each method names first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import Field

from ddm_framework import Report, Section
from ddm_framework.perturbations import leave_one_out
from ddm_framework.reports import Chart, Table, Text
from ddm_framework.signatures import ChoicesOf
from ddm_framework.workspace import Workspace
from ddm_studies.grids import decided, grid_section, judge_each
from ddm_studies.judging import SCALE, Judge, Verdict
from ddm_studies.paper import Compared, Comparison, sizes

Count = Annotated[int, Field(ge=2)]
Methods = Annotated[list[dict[str, Any]], ChoicesOf("attributor")]
Column = Literal["mnist", "cifar10", "cifar100"]
Figures = tuple[float | None, ...]
RANDOM, BEST = "Random Select", "best cluster (oracle)"
TITLES = {"dist_1": f"Dist_1 ×{SCALE}", "dist_2": "Dist_2", "dist_3": "Dist_3"}
LOWEST_DIST_3 = 1 / 3
"""Two distributions over classes are never farther apart than √2, so 1 / (1 + Dist_1) is never lower."""
PAPERS_QUERIES = 20


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        source: `Table 1`.
        title: what it shows.
        rows: attributors by the paper's name of the row; the last is the paper's own method.
        figures: of the distances, in the order of the columns.
        paper: figures by data set and row.
    """

    source: str
    title: str
    rows: Mapping[str, str]
    figures: Sequence[str]
    paper: Mapping[str, Mapping[str, Figures]]

    @property
    def own(self) -> str:
        """The row of the distilled datamodel."""
        return list(self.rows)[-1]

    def row(self, method: str) -> str:
        """The paper's name for an attributor; its own where the paper has none."""
        return next((row for row, name in self.rows.items() if name == method), method)


TABLE_1 = PaperTable(
    "Table 1",
    "what retraining without the cluster named first really does",
    {
        "Predict-based": "prediction",
        "Clustering-based": "clustering",
        "DDM w/o cluster": "ddm_sequential",
        "DDM-match": "ddm_match",
        "DDM-full": "ddm",
    },
    ("dist_1", "dist_2", "dist_3"),
    {
        "mnist": {
            RANDOM: (3.3, 0.43, 0.07),
            "Predict-based": (5.5, None, None),
            "Clustering-based": (6.2, None, None),
            "DDM w/o cluster": (9.1, 0.55, 0.11),
            "DDM-match": (10.8, 0.73, 0.13),
            "DDM-full": (10.8, 0.73, 0.13),
        },
        "cifar10": {
            RANDOM: (2.7, 0.34, 0.54),
            "Predict-based": (3.1, None, None),
            "Clustering-based": (2.5, None, None),
            "DDM w/o cluster": (5.9, 0.57, 0.78),
            "DDM-match": (5.8, 0.76, 0.81),
            "DDM-full": (6.8, 0.81, 0.92),
        },
        "cifar100": {
            RANDOM: (2.3, 0.54, 0.8),
            "Predict-based": (3.9, None, None),
            "Clustering-based": (3.6, None, None),
            "DDM w/o cluster": (3.5, 0.77, 1.2),
            "DDM-match": (4.8, 0.71, 1.6),
            "DDM-full": (5.3, 0.88, 1.6),
        },
    },
)
TABLE_2 = PaperTable(
    "Table 2",
    "Dist_1 of the cluster named first, beside influence functions",
    {"Koh et al.": "koh", "FASTIF": "fastif", "Scaleup": "arnoldi", "DDM": "ddm"},
    ("dist_1",),
    {
        "mnist": {RANDOM: (3.3,), "Koh et al.": (10.0,), "FASTIF": (9.8,), "Scaleup": (10.4,), "DDM": (10.8,)},
        "cifar10": {RANDOM: (2.7,), "Koh et al.": (5.6,), "FASTIF": (6.5,), "Scaleup": (6.5,), "DDM": (6.8,)},
        "cifar100": {RANDOM: (2.3,), "Koh et al.": (2.6,), "FASTIF": (2.4,), "Scaleup": (3.9,), "DDM": (5.3,)},
    },
)
TABLES = {1: TABLE_1, 2: TABLE_2}


def run(
    workspace: Workspace,
    /,
    *,
    table: Literal[1, 2] = 1,
    methods: Methods = [],  # noqa: B006 - pydantic copies it
    column: Column | None = None,
    queries: Literal["all"] | Count = 1000,
    validation_masks: Annotated[int, Field(ge=3)] = 20,
    deleted: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    resamples: Annotated[int, Field(ge=50)] = 2000,
) -> Report:
    """Judge methods by exact retraining, the paper's figures beside ours.

    Args:
        workspace: the run.
        table: 1 for the parts of the distilled datamodel by all three distances, 2 for influence functions by Dist_1.
        methods: each `{use: attributor, option: value}`; an option given as a list is a grid, whose best combination
            by cluster LDS on the validation bank is judged. Left out, those of the table, with their defaults.
        column: the paper's column to set beside; by default that of the data set's name, if there is one.
        queries: all test images, or the first so many; the paper takes 20 of its validation set.
        validation_masks: networks that decide between the settings of a grid; none are retrained without one.
        deleted: share of the clusters that each of them lacks.
        resamples: of each bootstrap interval, over queries.
    Raises:
        DDMError: if a grid is asked for and there is no validation split.
    Source: Tables 1 and 2, Eq. 10.
    """
    papers = TABLES[table]
    asked = workspace.queries_of("test", None if queries == "all" else queries)
    judge = Judge(workspace, asked, leave_one_out(workspace.partition.num_clusters)[:0], resamples)
    settled = decided(workspace, methods or [{"use": name} for name in papers.rows.values()], validation_masks, deleted)
    found = judge_each(judge, settled)
    known = papers.paper.get(column or workspace.recipe.dataset.name, {})
    comparison = Comparison(
        papers.source,
        papers.title,
        list(_compared(papers, found, known)),
        list(_sentences(papers, found, known, len(asked))),
        f"{sizes(workspace)}, {len(asked)} queries",
    )
    grids = [grid_section(settled)] if any(each.grid for each in settled) else []
    return Report(
        sections=[comparison.section(_chart(papers, found, known)), _settings_section(papers, found), *grids],
        metrics={**comparison.metrics(), papers.source.lower().replace(" ", "_"): _metrics(papers, found, known)},
        question="How far does the prediction really move without the cluster that each method names first?",
        answer=comparison.sentences[0],
    )


def _common(found: Sequence[Verdict]) -> Verdict:
    """A method that ranked the run's own clusters, whose floor and ceiling are the table's."""
    return next((each for each in found if not each.note), found[0])


def _compared(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> Iterator[Compared]:
    for place, figure in enumerate(table.figures):
        yield from _of_figure(table, found, {row: each[place] for row, each in known.items()}, figure)
    if "dist_3" in table.figures:
        yield from _ranks(table, found)


def _of_figure(
    table: PaperTable, found: Sequence[Verdict], paper: Mapping[str, float | None], figure: str
) -> Iterator[Compared]:
    """Random cluster, every method, best cluster, in one distance."""
    title, first = TITLES[figure], _common(found).figures
    note = "not comparable, see below" if figure == "dist_3" and paper else ""

    def compared(row: str, figures: Mapping[str, Any], name: str, said: str) -> Compared:
        told = "; ".join(each for each in (said, note) if each)
        return Compared(row, title, figures[name], paper.get(row), tuple(figures[f"{name}_interval"]), told)

    yield compared(RANDOM, first, f"{figure}_floor", "exact mean over clusters")
    for each in found:
        yield compared(table.row(each.name), each.figures, figure, _own_bounds(each, figure))
    yield compared(BEST, first, f"{figure}_oracle", "")


def _own_bounds(verdict: Verdict, figure: str) -> str:
    """Floor and ceiling of a method whose clusters are not the run's."""
    if not verdict.note:
        return ""
    low, high = verdict.figures[f"{figure}_floor"], verdict.figures[f"{figure}_oracle"]
    return f"clusters of its own: random {low:.3g}, best {high:.3g}"


def _ranks(table: PaperTable, found: Sequence[Verdict]) -> Iterator[Compared]:
    first, title = _common(found).figures, "Dist_3: rank, 1 = least influential"
    interval = tuple(first["dist_3_random_rank_interval"])
    yield Compared(RANDOM, title, first["dist_3_random_rank"], interval=interval)
    for each in found:
        interval = tuple(each.figures["dist_3_rank_interval"])
        yield Compared(table.row(each.name), title, each.figures["dist_3_rank"], interval=interval)


def _sentences(
    table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures], num_queries: int
) -> Iterator[str]:
    ours = _ours(table, found)
    yield _share(table, ours)
    if known:
        for place, figure in enumerate(table.figures):
            if figure != "dist_3":
                yield from _orders(table, found, _told(known, place), figure)
        yield from _times_random(table, ours, known)
        yield from _same_in_paper(table, found, known)
    else:
        yield f"The paper's {table.source} has no column for this data set, so none of its figures stands beside ours."
    if "dist_3" in table.figures:
        yield _dist_3(_common(found), known)
    yield _scale(_common(found))
    yield _few_queries(table, ours, num_queries)


def _ours(table: PaperTable, found: Sequence[Verdict]) -> Verdict:
    return next((each for each in found if each.name == table.rows[table.own]), found[-1])


def _share(table: PaperTable, ours: Verdict) -> str:
    figures = ours.figures
    low, high = figures["recovered_share_interval"]
    return (
        f"{table.row(ours.name)} reaches a Dist_1 of {figures['dist_1']:.3g} (×{SCALE}),"
        f" {figures['recovered_share']:.0%} ({low:.0%} to {high:.0%}) of the way from a random cluster"
        f" ({figures['dist_1_floor']:.3g}) to the best one ({figures['dist_1_oracle']:.3g})."
    )


def _values(table: PaperTable, found: Sequence[Verdict], figure: str) -> dict[str, tuple[float, list[float]]]:
    """What we measured by row, with the interval."""
    first = _common(found).figures
    values = {RANDOM: (first[f"{figure}_floor"], first[f"{figure}_floor_interval"])}
    return values | {table.row(v.name): (v.figures[figure], v.figures[f"{figure}_interval"]) for v in found}


def _told(known: Mapping[str, Figures], place: int) -> dict[str, float]:
    """The paper's figures in one column, of the rows that have one."""
    return {row: value for row, each in known.items() if (value := each[place]) is not None}


def _orders(table: PaperTable, found: Sequence[Verdict], paper: Mapping[str, float], figure: str) -> Iterator[str]:
    """How many of the paper's orders hold, and each that does not among those with its own method or random."""
    ours = _values(table, found, figure)
    agree, of, against = _order(ours, paper)
    if of:
        yield f"Of the {of} orders of two rows that the paper gives by {TITLES[figure]}, {agree} hold here."
    for above, below in against:
        if {above, below} & {RANDOM, table.own}:
            (low, low_interval), (high, high_interval) = ours[above], ours[below]
            touching = "; their intervals overlap" if high_interval[0] <= low_interval[1] else ""
            yield (
                f"The paper has {above} above {below} by {TITLES[figure]} ({paper[above]:g} to {paper[below]:g});"
                f" here {below} is above {above} ({high:.3g} to {low:.3g}{touching})."
            )


def _order(
    ours: Mapping[str, tuple[float, list[float]]], paper: Mapping[str, float]
) -> tuple[int, int, list[tuple[str, str]]]:
    """Pairs of rows that the paper orders as we do, all that it orders, and those (its upper, its lower) we reverse."""
    agree, against = 0, []
    for one, other in combinations([row for row in paper if row in ours], 2):
        if paper[one] == paper[other]:
            continue
        above, below = (one, other) if paper[one] > paper[other] else (other, one)
        if ours[above][0] > ours[below][0]:
            agree += 1
        else:
            against.append((above, below))
    return agree, agree + len(against), against


def _times_random(table: PaperTable, ours: Verdict, known: Mapping[str, Figures]) -> Iterator[str]:
    own, random = known.get(table.row(ours.name), (None,))[0], known[RANDOM][0]
    floor = ours.figures["dist_1_floor"]
    if own is not None and random is not None and floor > 0:
        yield (
            f"The Dist_1 of {table.row(ours.name)} is {own / random:.1f} times that of a random cluster in the paper"
            f" and {ours.figures['dist_1'] / floor:.1f} times here."
        )


def _same_in_paper(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> Iterator[str]:
    """Methods to which the paper gives the very figures of its own."""
    own = known.get(table.own)
    ours = {table.row(each.name): each.figures["dist_1"] for each in found}
    for row, figures in known.items():
        if row != table.own and figures == own and row in ours and table.own in ours:
            yield (
                f"The paper gives {row} and {table.own} one and the same figures here; measured, their Dist_1 is"
                f" {ours[row]:.3g} and {ours[table.own]:.3g}."
            )


def _dist_3(first: Verdict, known: Mapping[str, Figures]) -> str:
    low, high = first.figures["dist_3_floor"], first.figures["dist_3_oracle"]
    said = (
        f"By Eq. 10, Dist_3 = 1/(1 + Dist_1) lies between {LOWEST_DIST_3:.2f} and 1; here a random cluster has"
        f" {low:.4f} and the best {high:.4f}, which differ so little that the rank is what tells methods apart."
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
        f" {table.row(ours.name)} would be known to about ±{reach:.2g}, with the {num_queries} here to"
        f" ±{(high - low) / 2:.2g}."
    )


def _chart(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> Chart:
    ours = {row: value for row, (value, _) in _values(table, found, "dist_1").items()}
    series = {"ours": list(ours.values())}
    if known:
        told = [known.get(row, (None,))[0] for row in ours]
        series = {"paper": [math.nan if value is None else value for value in told], **series}
    best = _common(found).figures["dist_1_oracle"]
    caption = f"The cluster named first; the best one would have {best:.3g} here"
    return Chart("bar", series, "method", TITLES["dist_1"], list(ours), caption)


def _settings_section(table: PaperTable, found: Sequence[Verdict]) -> Section:
    rows = [
        [
            table.row(each.name),
            each.figures["recovered_share"],
            each.figures["spearman"],
            each.figures["seconds_offline"],
            each.figures["seconds_online"],
            each.settings,
        ]
        for each in found
    ]
    columns = ["method", "share of the oracle", "Spearman", "seconds once", "for all queries", "settings"]
    notes = [Text(f"{table.row(each.name)}: {each.note}.") for each in found if each.note]
    caption = "Share of the way from a random cluster to the best one by Dist_1; rank correlation of all clusters"
    return Section("Settings and costs", [Table(columns, rows, caption), *notes])


def _metrics(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> dict[str, Any]:
    first = _common(found).figures
    orders = {}
    for place, figure in enumerate(table.figures):
        agree, of, _ = _order(_values(table, found, figure), _told(known, place))
        if of and figure != "dist_3":
            orders[figure] = {"agree": agree, "of": of}
    return {
        **{each.name: each.figures for each in found},
        "random": {figure: first[f"{figure}_floor"] for figure in table.figures},
        "oracle": {figure: first[f"{figure}_oracle"] for figure in table.figures},
        "orders": orders,
    }

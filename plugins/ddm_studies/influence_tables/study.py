"""Tables 1 and 2: how far the prediction moves without the cluster that each method ranks first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from ddm_framework import Chart, ComponentOf, Grid, Report, Section, Table, Text, Workspace, retrains
from ddm_framework.plugin import choose_grid
from ddm_studies.comparison.grids import decided, grid_section, judge_each, validation_networks
from ddm_studies.comparison.judging import Judge, Verdict, bounds, on_run_clusters
from ddm_studies.comparison.measured import Stored
from ddm_studies.comparison.options import AtLeastThree, AtLeastTwo, Resamples, Share
from ddm_studies.comparison.paper import Compared, Comparison, noted, sizes
from ddm_studies.comparison.running import first_test_images
from ddm_studies.influence_tables.published import BEST, RANDOM, TABLES, TITLES, Figures, PaperTable
from ddm_studies.influence_tables.words import against_own, findings, measured, pairs, told

Methods = Annotated[list[Grid], ComponentOf("attributor")]
Column = Literal["mnist", "cifar10", "cifar100"]


@retrains(lambda options, clusters, _: (3 - options["table"]) * clusters + validation_networks(options))
def run(
    workspace: Workspace,
    /,
    *,
    table: Literal[1, 2] = 1,
    methods: Methods = [],  # noqa: B006 - pydantic copies it
    column: Column | None = None,
    queries: Literal["all"] | AtLeastTwo = 1000,
    validation_masks: AtLeastThree = 20,
    deleted: Share = 0.2,
    resamples: Resamples = 2000,
    by_logits: bool = False,
) -> Report:
    """Judge methods by exact retraining and compare the figures with the paper's.

    Args:
        table: 1 for the parts of the distilled datamodel by all three distances, 2 for influence functions by Dist_1.
        methods: each `{use: attributor, option: value}`. An option given as a list is a grid, whose best combination by
            cluster LDS on the validation bank is judged. By default the methods of the table with their defaults.
        column: the paper's column to compare with; by default that of the recipe's data set, if the table has it.
        queries: all test images, or a number to take only the first ones; the paper takes 20 of its validation set.
        validation_masks: number of networks for choosing between the settings of a grid; without a grid none are
            retrained.
        deleted: share of the clusters that each of these networks lacks.
        resamples: of each bootstrap interval, over queries.
        by_logits: also judge linear methods by their estimate of every logit, on which Dist_1 itself is measured,
            beside the margin of the prediction that they rank clusters by. It costs one question for each class.
    Raises:
        DDMError: if a method has a grid and there is no validation split.
    Source: Tables 1 and 2, Eq. 10.
    """
    papers = TABLES[table]
    asked = first_test_images(workspace, queries)
    judge = Judge(workspace, asked, resamples=resamples, by_logits=by_logits)
    asked_of = methods or [choose_grid(workspace.registry, "attributor", name) for name in papers.rows.values()]
    settled = decided(workspace, asked_of, validation_masks, deleted)
    found = judge_each(judge, settled)
    named = column or workspace.recipe.dataset.name
    known = papers.paper.get(named, {})
    key = papers.source.lower().replace(" ", "_")
    stored = {"table": table, "column": named if known else None, "num_queries": len(asked)}
    stored |= _metrics(papers, found, known)
    grids = [grid_section(settled)] if any(each.grid for each in settled) else []
    return Comparison(
        papers.source,
        papers.title,
        list(_compared(papers, found, known)),
        findings({key: stored}),
        f"{sizes(workspace)}, {len(asked)} queries{_settings(papers, found)}",
    ).report(
        key,
        stored,
        "How far does the prediction really move without the cluster that each method ranks first?",
        [_chart(papers, found, known)],
        [_settings_section(papers, found), *grids],
    )


def _settings(table: PaperTable, found: Sequence[Verdict]) -> str:
    """The settings other than defaults, in words; those of a grid were chosen on the validation bank."""
    return "".join(f"; {table.row(each)}: {each.settings}" for each in found if each.settings != "defaults")


def _compared(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> Iterator[Compared]:
    for place, figure in enumerate(table.figures):
        yield from _of_figure(table, found, {row: each[place] for row, each in known.items()}, figure)
    if "dist_3" in table.figures:
        yield from _ranks(table, found)
    yield from _misread(table, found)


def _of_figure(
    table: PaperTable, found: Sequence[Verdict], paper: Mapping[str, float | None], figure: str
) -> Iterator[Compared]:
    """The figures of a random cluster, every method and the best cluster, by one distance."""
    title, first = TITLES[figure], on_run_clusters(found).figures
    note = "not comparable, see below" if figure == "dist_3" and paper else ""

    def compared(row: str, figures: Stored, name: str, said: str) -> Compared:
        return Compared.read(row, title, figures, name, paper.get(row), noted(said, note))

    yield compared(RANDOM, first, f"{figure}_floor", "exact mean over clusters")
    for each in found:
        yield compared(table.row(each), each.figures, figure, _own_bounds(each, figure))
        if figure == "dist_1" and "by_logits" in each.figures:
            yield compared(f"{table.row(each)}, by its logits", each.figures["by_logits"], figure, "")
    yield compared(BEST, first, f"{figure}_oracle", "")


def _misread(table: PaperTable, found: Sequence[Verdict]) -> Iterator[Compared]:
    """The share of the oracle's Dist_1 for the queries that the network misreads: people ask about errors first."""
    for each in found:
        if "misread_share" in each.figures:
            note = f"{each.figures['num_misread']} queries"
            yield Compared.read(table.row(each), "share, misread queries", each.figures, "misread_share", note=note)


def _own_bounds(verdict: Verdict, figure: str) -> str:
    """Floor and ceiling of a method with clusters of its own."""
    if not verdict.note:
        return ""
    low, high = verdict.figures[f"{figure}_floor"], verdict.figures[f"{figure}_oracle"]
    return f"clusters of its own: random {low:.3g}, best {high:.3g}"


def _ranks(table: PaperTable, found: Sequence[Verdict]) -> Iterator[Compared]:
    title = "Dist_3: rank, 1 = least influential"
    yield Compared.read(RANDOM, title, on_run_clusters(found).figures, "dist_3_random_rank")
    for each in found:
        yield Compared.read(table.row(each), title, each.figures, "dist_3_rank")


def _chart(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> Chart:
    ours = {row: float(values.mean()) for row, values in measured(table, found, "dist_1").items()}
    series = {"ours": list(ours.values())}
    if known:
        theirs = [known.get(row, (None,))[0] for row in ours]
        series = {"paper": [math.nan if value is None else value for value in theirs], **series}
    best = on_run_clusters(found).figures["dist_1_oracle"]
    caption = f"Dist_1 of the cluster ranked first; the best cluster has {best:.3g}"
    return Chart("bar", series, "method", TITLES["dist_1"], list(ours), caption)


def _settings_section(table: PaperTable, found: Sequence[Verdict]) -> Section:
    columns = {
        "share of the oracle": "recovered_share",
        "misread queries": "misread_share",
        "Spearman": "spearman",
        "seconds once": "seconds_offline",
        "for all queries": "seconds_online",
    }
    rows = [[table.row(each), *each.cells(columns.values()), each.settings] for each in found]
    notes = [Text(f"{table.row(each)}: {each.note}.") for each in found if each.note]
    caption = "Share of the way from a random cluster to the best one by Dist_1; rank correlation over all clusters"
    return Section("Settings and costs", [Table(["method", *columns, "settings"], rows, caption), *notes])


def _metrics(table: PaperTable, found: Sequence[Verdict], known: Mapping[str, Figures]) -> dict[str, Any]:
    """All figures, the differences between rows, and which row is the paper's own method."""
    own = next((each for each in found if each.method == table.rows[table.own]), found[-1])
    ordered = [
        pair
        for place, figure in enumerate(table.figures)
        if figure != "dist_3"
        for pair in pairs(figure, measured(table, found, figure), told(known, place))
    ]
    return {
        **{each.name: each.figures for each in found},
        **bounds(found, table.figures),
        "own": table.row(own),
        "own_method": own.name,
        "pairs": ordered,
        "against_own": against_own(table.row(own), measured(table, found, "dist_1")),
    }

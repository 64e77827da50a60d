"""Removing the clusters of least value and retraining without them (Tables 3 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from torch import Tensor

from ddm_framework import DDMError, Report, Section
from ddm_framework.data import corrupted
from ddm_framework.plugin import Choice, ComponentOf, use
from ddm_framework.report import Block, Clusters, Text
from ddm_framework.runs import Workspace
from ddm_studies.comparison.intervals import percent_interval
from ddm_studies.comparison.paper import Compared, Comparison, Findings, sizes
from ddm_studies.removal.figures import chart, compared, metrics_of, table_of
from ddm_studies.removal.ranking import CEILING, Ranking, Removal, corrupted_shares, rankings_of, removals, some_removed
from ddm_studies.removal.words import AUC_INTERVALS, INTERVALS, PAPER, TITLES, findings

OF_NOISE = "not comparable: the paper's is of noise"
_BALANCED = (
    "Each class loses the same share of its clusters (`balanced: true`): a method decides only which clusters of a"
    " class are removed, and its order between classes is not used."
)
Methods = Annotated[list[Choice], ComponentOf("attributor"), Field(min_length=1)]
Percentage = Annotated[float, Field(ge=0, lt=100)]


def run(
    workspace: Workspace,
    /,
    *,
    methods: Methods = [use("random"), use("ddm")],  # noqa: B006 - pydantic copies it
    percentages: Annotated[list[Percentage], AfterValidator(some_removed)] = [0, 1, 10, 20, 50],  # noqa: B006
    replicates: Annotated[int, Field(ge=3)] = 3,
    balanced: bool = False,
    table: Literal[3, 6] = 3,
) -> Report:
    """Rank clusters by value, remove the least valuable ones, and retrain exactly without them.

    The value of a cluster is the effect of its deletion on the mean loss of the validation split (`performance`,
    Eq. 14). Clusters whose deletion lowers this loss, or raises it least, are removed first. Accuracy is measured on
    the test split, which is not used for the ranking.

    Each replicate has its own initial weights and batch order (`coupling: independent`), and `random` draws other
    clusters for each replicate. Intervals are Student's, over the replicates.

    Args:
        methods: each `{use: attributor, option: value}`. Where training data are corrupted, an ideal order is added
            that uses the true corruption and removes the most corrupted clusters first. It shows how well corruption
            could be found.
        percentages: of the clusters to remove. At least one must be above 0, and each above 0 removes at least one
            cluster. 0 is always added.
        replicates: of each retraining.
        balanced: remove the same share of the clusters of each class, the least valuable ones of each. Otherwise a
            class may lose all of its data, which effects of single deletions do not take into account.
        table: the table of the paper whose figures are shown beside ours.
    Raises:
        DDMError: if the validation split is empty, or a method has clusters of its own.
    Source: Tables 3 and 6, Sec. 9.2, Eq. 14.
    """
    if len(workspace.data.validation) == 0:
        raise DDMError("the validation split is empty, so clusters have no value; set dataset.validation")
    steps = sorted({0.0, *percentages})
    spoilt = corrupted(workspace.recipe.corruption, len(workspace.data.train)).samples
    classes = workspace.partition.classes.cpu() if balanced else None
    rankings = rankings_of(workspace, methods, replicates, spoilt, classes)
    found, seconds = removals(workspace, rankings, steps, spoilt)
    stored = {**metrics_of(found, steps), "seconds_retraining": seconds, "table": table}
    stored["not_comparable"] = _other_corruption(workspace, table)
    told = findings({"removal": stored})
    comparison = _comparison(workspace, table, found, steps, spoilt, balanced, told)
    return Report(
        sections=[
            comparison.section(chart(found, steps), table_of(found, steps)),
            _procedure(replicates, seconds, found, balanced),
            *_first_removed(workspace, rankings, spoilt),
        ],
        metrics={**comparison.metrics(), "removal": stored},
        question="Which training data is the network better off without?",
        answer=told.sentences[0],
    )


def _comparison(
    workspace: Workspace,
    table: int,
    found: Sequence[Removal],
    percentages: Sequence[float],
    spoilt: Tensor,
    balanced: bool,
    told: Findings,
) -> Comparison:
    paper, whole = PAPER[table], found[0].accuracy[0]
    figures = [Compared("all data", "accuracy", float(whole.mean()), paper["ddm"][0], percent_interval(whole))]
    for each in found:
        for row, percentage in enumerate(percentages):
            if percentage:
                figures.append(compared(each, row, percentage, paper))
    for each in found:
        if each.auc is not None:
            best = (
                "the most corrupted of each class first"
                if balanced
                else "the best that any order of these clusters reaches"
            )
            note = best if each.ranking.use == CEILING else ""
            area, what = float(each.auc.mean()), "AUC of corrupted samples"
            figures.append(Compared(each.ranking.title, what, area, None, each.auc_interval, note))
    if workspace.recipe.corruption.labels:
        figures = [each if each.paper is None else replace(each, note=_told(each.note, OF_NOISE)) for each in figures]
    words = sizes(workspace) + _corruption_in_words(workspace, spoilt)
    if balanced:
        words += "; each class loses the same share of its clusters"
    return Comparison(f"Table {table}", TITLES[table], figures, told, words)


def _told(*notes: str) -> str:
    return "; ".join(each for each in notes if each)


def _other_corruption(workspace: Workspace, table: int) -> str:
    """Why the figures are not comparable, where the data are not corrupted as in the paper."""
    settings = workspace.recipe.corruption
    if table == 6 and settings.labels:
        return "Labels are wrong here, while the paper's figures are of noise on images, so they are not comparable."
    if (table == 6) != bool(settings.share or settings.labels):
        return "Table 6 is of corrupted training data and Table 3 is not; here it is the reverse: not comparable."
    return ""


def _corruption_in_words(workspace: Workspace, spoilt: Tensor) -> str:
    settings = workspace.recipe.corruption
    if not spoilt.any():
        return ""
    told = []
    if settings.share:
        size = "root mean square" if settings.norm == "per_pixel" else "Euclidean norm"
        told.append(
            f"noise of {size} {settings.noise:g}, before pixels are clipped to [0, 1], on {settings.share:.0%} of the"
            " training images"
        )
    if settings.labels:
        told.append(f"wrong labels on {settings.labels:.0%} of the training images")
    return "; " + " and ".join(told)


def _procedure(replicates: int, seconds: float, found: Sequence[Removal], balanced: bool) -> Section:
    return Section(
        "How it was measured",
        [
            Text(
                f"After each removal by each of {len(found)} orders the network was trained from scratch {replicates}"
                " times, each time with its own initial weights and batch order. Random removal drew other clusters"
                f" each time. All trainings took {seconds:.0f} seconds."
            ),
            Text(INTERVALS),
            *([Text(AUC_INTERVALS)] if any(each.auc is not None for each in found) else []),
            *([Text(_BALANCED)] if balanced else []),
            Text(
                "A removed sample's term is left out of its batch and nothing is rescaled, so a network without half of"
                " the data also takes steps half as long. Clusters differ in size, so the share of the images that was"
                " removed is given beside each figure."
            ),
        ],
    )


def _first_removed(workspace: Workspace, rankings: Sequence[Ranking], spoilt: Tensor) -> list[Section]:
    shares = corrupted_shares(spoilt, workspace.partition.clusters.cpu())
    blocks: list[Block] = []
    for each in rankings:
        if each.value is not None:
            first = each.order[0, :8].tolist()
            mixed = f", {float(shares[first].mean()):.0%} of their images corrupted" if spoilt.any() else ""
            blocks.append(Clusters(f"removed first by {each.title}{mixed}", first, each.value[first].tolist()))
    if not blocks:
        return []
    note = Text("Values: effect of the deletion on the mean validation loss, in nats; below 0 the deletion helps.")
    return [Section("The clusters of least value", [note, *blocks])]

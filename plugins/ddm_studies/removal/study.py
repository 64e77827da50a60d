"""Removing the clusters of least value and retraining without them (Tables 3 and 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from ddm_framework import Choice, ComponentOf, Report, Section, Text, Workspace, retrains, use
from ddm_framework.data import corrupted_in
from ddm_framework.report import Block
from ddm_studies.comparison.measured import Measured
from ddm_studies.comparison.options import AtLeastThree
from ddm_studies.comparison.paper import Compared, Comparison, noted, sizes
from ddm_studies.comparison.running import need_validation
from ddm_studies.removal.figures import accuracy_of, chart, compared, deleted_first, metrics_of, table_of
from ddm_studies.removal.ranking import CEILING, Percentages, Ranking, Removal, corrupted_shares, rankings_of, removals
from ddm_studies.removal.words import AUC_INTERVALS, INTERVALS, PAPER, TITLES, findings

_BALANCED = (
    "Each class loses the same share of its clusters (`balanced: true`): a method decides only which clusters of a"
    " class are removed, and its order between classes is not used."
)
_NOT_RESCALED = (
    "A removed sample's term is left out of its batch and nothing is rescaled, so a network without half of the data"
    " also takes steps half as long. Clusters differ in size, so the share of the images that was removed is given"
    " beside each figure."
)
Methods = Annotated[list[Choice], ComponentOf("attributor"), Field(min_length=1)]


@retrains(lambda options, *_: len(options["methods"]) * len(options["percentages"]) * options["replicates"])
def run(
    workspace: Workspace,
    /,
    *,
    methods: Methods = [use("random"), use("ddm")],  # noqa: B006 - pydantic copies it
    percentages: Percentages = [0, 1, 10, 20, 50],  # noqa: B006
    replicates: AtLeastThree = 3,
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
    need_validation(workspace, "clusters have no value")
    steps = sorted({0.0, *percentages})
    spoilt = corrupted_in(workspace.data, workspace.recipe.corruption).samples
    classes = workspace.partition.classes.cpu() if balanced else None
    rankings = rankings_of(workspace, methods, replicates, spoilt, classes)
    found, seconds = removals(workspace, rankings, steps, spoilt)
    stored = {**metrics_of(found, steps), "seconds_retraining": seconds, "table": table}
    stored["not_comparable"] = _other_corruption(workspace, table)
    words = sizes(workspace) + _corruption_in_words(workspace, spoilt)
    if balanced:
        words += "; each class loses the same share of its clusters"
    figures = list(_compared(workspace, table, found, steps, balanced))
    return Comparison(f"Table {table}", TITLES[table], figures, findings({"removal": stored}), words).report(
        "removal",
        stored,
        "Which training data is the network better off without?",
        [chart(found, steps), table_of(found, steps)],
        [_procedure(replicates, seconds, found, balanced), *_first_removed(workspace, rankings, spoilt)],
    )


def _compared(
    workspace: Workspace, table: int, found: Sequence[Removal], percentages: Sequence[float], balanced: bool
) -> Iterator[Compared]:
    paper, wrong_labels = PAPER[table], bool(workspace.recipe.corruption.labels)
    yield _of_noise(
        Compared.measured("all data", "accuracy", accuracy_of(found[0].accuracy[0]), paper["ddm"][0]), wrong_labels
    )
    for each in found:
        for row, percentage in enumerate(percentages[1:], 1):
            yield _of_noise(compared(each, row, percentage, paper), wrong_labels)
    best = "the most corrupted of each class first" if balanced else "the best that any order of these clusters reaches"
    for each in found:
        if each.auc is not None:
            area = Measured(float(each.auc.mean()), each.auc_interval)
            note = best if each.ranking.use == CEILING else ""
            yield Compared.measured(each.ranking.title, "AUC of corrupted samples", area, note=note)


def _of_noise(figure: Compared, wrong_labels: bool) -> Compared:
    """Note that the paper's figure is of noise, where it stands beside one of wrong labels."""
    if figure.paper is None or not wrong_labels:
        return figure
    return replace(figure, note=noted(figure.note, "not comparable: the paper's is of noise"))


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
    trained = (
        f"After each removal by each of {len(found)} orders the network was trained from scratch {replicates} times,"
        " each time with its own initial weights and batch order. Random removal drew other clusters each time. All"
        f" trainings took {seconds:.0f} seconds."
    )
    told = [trained, INTERVALS]
    if any(each.auc is not None for each in found):
        told.append(AUC_INTERVALS)
    if balanced:
        told.append(_BALANCED)
    return Section("How it was measured", [Text(each) for each in (*told, _NOT_RESCALED)])


def _first_removed(workspace: Workspace, rankings: Sequence[Ranking], spoilt: Tensor) -> list[Section]:
    shares = corrupted_shares(spoilt, workspace.partition.clusters.cpu())
    blocks: list[Block] = []
    for each in rankings:
        if each.value is not None:
            mixed = f", {float(shares[each.order[0, :8]].mean()):.0%} of their images corrupted" if spoilt.any() else ""
            blocks.append(deleted_first(f"removed first by {each.title}{mixed}", each))
    if not blocks:
        return []
    note = Text("Values: effect of the deletion on the mean validation loss, in nats; below 0 the deletion helps.")
    return [Section("The clusters of least value", [note, *blocks])]

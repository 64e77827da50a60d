"""How removals are reported: figures beside the paper's, a chart, a table and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddm_framework.report import Chart, Table
from ddm_studies.comparison.intervals import percent_interval
from ddm_studies.comparison.paper import Compared
from ddm_studies.removal.ranking import Removal


def compared(
    each: Removal, row: int, percentage: float, paper: Mapping[str, Mapping[float, float]], what: str = "accuracy"
) -> Compared:
    """One figure beside the paper's, which is looked up by method and percentage."""
    return Compared(
        each.ranking.title,
        f"{what} without {percentage:g} %",
        float(each.accuracy[row].mean()),
        paper.get(each.ranking.use, {}).get(percentage),
        percent_interval(each.accuracy[row]),
        f"{float(each.removed[row]):.1%} of the images",
    )


def chart(found: Sequence[Removal], percentages: Sequence[float]) -> Chart:
    """One line for each method."""
    series = {each.ranking.title: each.mean for each in found}
    return Chart("line", series, "clusters removed, %", "test accuracy, %", x=list(percentages))


def table_of(found: Sequence[Removal], percentages: Sequence[float]) -> Table:
    """The table in the paper's layout."""
    rows: list[list[str | int | float | None]] = []
    for each in found:
        ranges = [percent_interval(values) for values in each.accuracy]
        cells = [f"{mean:.1f} ({low:.1f} to {high:.1f})" for mean, (low, high) in zip(each.mean, ranges, strict=True)]
        rows.append([each.ranking.title, *cells])
    return Table(["method", *(f"{each:g} %" for each in percentages)], rows, "Test accuracy and its 95 % interval")


def metrics_of(found: Sequence[Removal], percentages: Sequence[float]) -> dict[str, Any]:
    """The entries of metrics.json."""
    return {
        "percentages": list(percentages),
        "replicates": found[0].accuracy.shape[1],
        "methods": {
            each.ranking.name: {
                "accuracy": each.mean,
                "accuracy_interval": [list(percent_interval(values)) for values in each.accuracy],
                "removed_share": each.removed.tolist(),
                "classes_lost": each.lost.tolist(),
                **({} if each.auc is None else {"detection_auc": float(each.auc.mean())}),
            }
            for each in found
        },
    }

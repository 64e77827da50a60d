"""What removals look like in a report: figures beside the paper's, a chart, a table, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ddm_framework.reports import Chart, Table
from ddm_studies.paper import Compared
from ddm_studies.removing import Removal
from ddm_studies.replicates import mean_interval


def compared(each: Removal, row: int, percentage: float, paper: Mapping[str, Mapping[float, float]]) -> Compared:
    """One figure; the paper's by method and percentage."""
    return Compared(
        each.ranking.name,
        f"accuracy without {percentage:g} %",
        float(each.accuracy[row].mean()),
        paper.get(each.ranking.use, {}).get(percentage),
        _interval(each.accuracy[row]),
        f"{float(each.removed[row]):.1%} of the images",
    )


def chart(found: Sequence[Removal], percentages: Sequence[float]) -> Chart:
    """A line a method."""
    series = {each.ranking.name: each.mean for each in found}
    return Chart("line", series, "clusters removed, %", "test accuracy, %", x=list(percentages))


def table_of(found: Sequence[Removal], percentages: Sequence[float]) -> Table:
    """As the paper lays it out."""
    rows: list[list[str | int | float | None]] = []
    for each in found:
        reach = [mean_interval(values)[1] - float(values.mean()) for values in each.accuracy]
        cells = [f"{mean:.1f} ± {half:.1f}" for mean, half in zip(each.mean, reach, strict=True)]
        rows.append([each.ranking.name, *cells])
    return Table(["method", *(f"{each:g} %" for each in percentages)], rows, "Test accuracy and its 95 % interval")


def metrics_of(found: Sequence[Removal], percentages: Sequence[float]) -> dict[str, Any]:
    """By the names of metrics.json."""
    return {
        "percentages": list(percentages),
        "replicates": found[0].accuracy.shape[1],
        "methods": {
            each.ranking.name: {
                "accuracy": each.mean,
                "accuracy_interval": [list(_interval(values)) for values in each.accuracy],
                "removed_share": each.removed.tolist(),
                "classes_lost": each.lost.tolist(),
                **({} if each.auc is None else {"detection_auc": float(each.auc.mean())}),
            }
            for each in found
        },
    }


def _interval(accuracy: Tensor) -> tuple[float, float]:
    """No accuracy lies beyond 0 and 100 %, though Student's interval may."""
    low, high = mean_interval(accuracy)
    return max(low, 0.0), min(high, 100.0)

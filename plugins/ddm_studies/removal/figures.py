"""How removals are reported: figures beside the paper's, a chart, a table and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ddm_framework import Chart, Clusters, Table
from ddm_studies.comparison.intervals import difference_interval, percent_interval
from ddm_studies.comparison.measured import Measured, Stored
from ddm_studies.comparison.paper import Compared
from ddm_studies.removal.ranking import Ranking, Removal


def compared(
    each: Removal, row: int, percentage: float, paper: Mapping[str, Mapping[float, float]], what: str = "accuracy"
) -> Compared:
    """One figure beside the paper's, which is looked up by method and percentage."""
    return Compared.measured(
        each.ranking.title,
        f"{what} without {percentage:g} %",
        accuracy_of(each.accuracy[row]),
        paper.get(each.ranking.use, {}).get(percentage),
        f"{float(each.removed[row]):.1%} of the images",
    )


def accuracy_of(values: Tensor) -> Measured:
    """The mean of accuracies in per cent, float64 (R,), with Student's interval."""
    return Measured(float(values.mean()), percent_interval(values))


def deleted_first(heading: str, ranking: Ranking) -> Clusters:
    """The clusters that a method which values them removes first."""
    assert ranking.value is not None
    first = ranking.order[0, :8].tolist()
    return Clusters(heading, first, ranking.value[first].tolist())


def chart(found: Sequence[Removal], percentages: Sequence[float]) -> Chart:
    """One line for each method."""
    series = {each.ranking.title: each.mean for each in found}
    return Chart("line", series, "clusters removed, %", "test accuracy, %", x=list(percentages))


def table_of(found: Sequence[Removal], percentages: Sequence[float]) -> Table:
    """The table in the paper's layout."""
    columns = ["method", *(f"{each:g} %" for each in percentages)]
    return Table(
        columns,
        [[each.ranking.title, *(accuracy_of(values).words(".1f") for values in each.accuracy)] for each in found],
        "Test accuracy and its 95 % interval",
    )


def metrics_of(found: Sequence[Removal], percentages: Sequence[float]) -> dict[str, Any]:
    """The entries of metrics.json; a method's `ddm_minus_this` has the 95 % intervals of DDM's lead over it."""
    ours = next((each for each in found if each.ranking.use == "ddm"), None)
    return {
        "percentages": list(percentages),
        "replicates": found[0].accuracy.shape[1],
        "methods": {
            each.ranking.name: {
                "use": each.ranking.use,
                "accuracy": each.mean,
                "accuracies": each.accuracy.tolist(),
                "accuracy_interval": [list(percent_interval(values)) for values in each.accuracy],
                "removed_share": each.removed.tolist(),
                "classes_lost": each.lost.tolist(),
                **({} if each.auc is None else {"detection_auc": float(each.auc.mean())}),
                **({} if each.auc_interval is None else {"detection_auc_interval": list(each.auc_interval)}),
                **({} if ours is None or each is ours else {"ddm_minus_this": _lead(ours, each)}),
            }
            for each in found
        },
    }


def _lead(ours: Removal, other: Removal) -> dict[str, Any]:
    """95 % intervals of DDM's accuracy minus that of another method at each percentage, and of the same for the AUC."""
    pairs = zip(ours.accuracy, other.accuracy, strict=True)
    found: dict[str, Any] = {"accuracy": [list(difference_interval(*pair)) for pair in pairs]}
    if other.auc_behind_ddm is not None:
        found["detection_auc"] = list(other.auc_behind_ddm)
    return found


def removals_of(stored: Stored) -> list[Removal]:
    """The results that `metrics_of` stored; orders and values of the clusters are not among them."""
    return [
        Removal(
            Ranking(name, each["use"], torch.zeros(0, 0, dtype=torch.int64)),
            torch.tensor(each["accuracies"], dtype=torch.float64),
            torch.tensor(each["removed_share"], dtype=torch.float64),
            torch.tensor(each["classes_lost"], dtype=torch.float64),
            torch.tensor([each["detection_auc"]], dtype=torch.float64) if "detection_auc" in each else None,
            _interval(each.get("detection_auc_interval")),
            _interval(each.get("ddm_minus_this", {}).get("detection_auc")),
        )
        for name, each in stored["methods"].items()
    ]


def _interval(stored: Sequence[float] | None) -> tuple[float, float] | None:
    """An interval as it was before JSON made it a list."""
    return None if stored is None else (stored[0], stored[1])

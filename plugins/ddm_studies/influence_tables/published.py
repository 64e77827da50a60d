"""The figures of Tables 1 and 2 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddm_studies.comparison.judging import SCALE, Verdict
from ddm_studies.comparison.paper import ROWS

Figures = tuple[float | None, ...]
RANDOM, BEST = "Random Select", "best cluster (oracle)"
TITLES = {"dist_1": f"Dist_1 ×{SCALE}", "dist_2": "Dist_2", "dist_3": "Dist_3"}
LOWEST_DIST_3 = 1 / 3
"""Two distributions over classes are at most √2 apart, so 1 / (1 + Dist_1) is never lower."""
PAPERS_QUERIES = 20


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        source: `Table 1`.
        title: what it shows.
        rows: attributors by the name of their row in the paper; the last is the paper's own method.
        figures: the distances, in the order of the columns.
        paper: the paper's figures by data set and row.
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

    def row(self, verdict: Verdict) -> str:
        """The paper's name for a method; its own if the paper has none or the attributor is used more than once."""
        return next((row for row, name in self.rows.items() if name == verdict.name), verdict.name)


TABLE_1 = PaperTable(
    "Table 1",
    "the true effect of retraining without the cluster ranked first",
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
    "Dist_1 of the cluster ranked first, compared with influence functions",
    {ROWS[name]: name for name in ("koh", "fastif", "arnoldi", "ddm")},
    ("dist_1",),
    {
        "mnist": {RANDOM: (3.3,), "Koh et al.": (10.0,), "FASTIF": (9.8,), "Scaleup": (10.4,), "DDM": (10.8,)},
        "cifar10": {RANDOM: (2.7,), "Koh et al.": (5.6,), "FASTIF": (6.5,), "Scaleup": (6.5,), "DDM": (6.8,)},
        "cifar100": {RANDOM: (2.3,), "Koh et al.": (2.6,), "FASTIF": (2.4,), "Scaleup": (3.9,), "DDM": (5.3,)},
    },
)
TABLES = {1: TABLE_1, 2: TABLE_2}

"""The comparison of a study's figures with those of a table or figure of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddm_framework.report import Block, Section, Table, Text
from ddm_framework.runs import Workspace

ROWS = {"random": "Random", "koh": "Koh et al.", "fastif": "FASTIF", "arnoldi": "Scaleup", "ddm": "DDM"}
"""The paper's names of the attributors in Tables 2, 3 and 6."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of the paper and ours.

    Attributes:
        row: such as the name of a method.
        column: what was measured, such as `Dist_1`.
        ours: the measured figure; None where it cannot be measured, which `note` explains.
        paper: the paper's figure; None where it gives none.
        interval: 95 % interval of `ours`.
        note: why the two are not comparable, or what else must be known to read them.
    """

    row: str
    column: str
    ours: float | None
    paper: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table or figure of the paper beside ours.

    Attributes:
        source: `Table 1`, `Fig. 6`.
        title: what it shows.
        figures: in the order in which they are shown.
        sentences: verdicts on the paper's claims, and which figures are not comparable and why; not what the figures
            show anyway.
        sizes: what was run, as in `CIFAR-10, 2,000 training images, convnet of width 16`.
    """

    source: str
    title: str
    figures: Sequence[Compared]
    sentences: Sequence[str] = ()
    sizes: str = ""

    def section(self, *more: Block) -> Section:
        """The section of the report."""
        rows = [[each.row, each.column, each.paper, each.ours, _interval(each), each.note] for each in self.figures]
        columns = ["", "figure", "paper", "ours", "95 % interval", "note"]
        texts = [Text(sentence) for sentence in self.sentences]
        return Section(f"{self.source}: {self.title}", [Text(self.sizes), Table(columns, rows), *texts, *more])

    def metrics(self) -> dict[str, Any]:
        """The entry `comparison` of metrics.json; `ddm run` prints it, and RESULTS.md is written from it."""
        return {
            "comparison": {
                "source": self.source,
                "title": self.title,
                "sizes": self.sizes,
                "figures": [asdict(each) for each in self.figures],
                "sentences": list(self.sentences),
            }
        }


def sizes(workspace: Workspace) -> str:
    """The data, network and settings of a run, in words."""
    recipe, data = workspace.recipe, workspace.data
    width = recipe.backbone.options.get("width")
    named = f"{recipe.backbone.name}" + (f" of width {width}" if width else "")
    return (
        f"{recipe.dataset.name}, {len(data.train):,} training and {len(data.test):,} test images of"
        f" {workspace.info.num_classes} classes, {named}, {recipe.training.epochs} epochs,"
        f" {workspace.partition.num_clusters} clusters, seed {recipe.general.seed}"
    )


def _interval(figure: Compared) -> str:
    if figure.interval is None:
        return ""
    low, high = figure.interval
    return f"{low:.3g} to {high:.3g}"

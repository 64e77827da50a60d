"""The comparison of a study's figures with those of a table or figure of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddm_framework import Report, Section, Table, Text, Workspace
from ddm_framework.report import Block
from ddm_studies.comparison.measured import Measured, Outcome, Stored, between

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

    @classmethod
    def measured(cls, row: str, column: str, ours: Measured, paper: float | None = None, note: str = "") -> Compared:
        """A figure with its interval."""
        return cls(row, column, ours.value, paper, ours.interval, note)

    @classmethod
    def read(
        cls, row: str, column: str, metrics: Stored, name: str, paper: float | None = None, note: str = ""
    ) -> Compared:
        """A figure that stands in `metrics.json` under a name, with its interval."""
        return cls.measured(row, column, Measured.read(metrics, name), paper, note)


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper claims, and what we measured of it.

    Attributes:
        claim: the paper's, such as `DDM's first cluster moves predictions most`.
        measured: our figures with their intervals.
        outcome: by the rule of `outcome_of`.
    """

    claim: str
    measured: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Findings:
    """What a study says of its figures: a function `findings(metrics)` of the study makes it from metrics.json alone.

    Stored sentences can so be compared with what the code says of the stored figures.

    Attributes:
        sentences: verdicts on the paper's claims, and which figures are not comparable and why; not what the figures
            show anyway.
        claims: the paper's claims with their outcomes.
    """

    sentences: Sequence[str]
    claims: Sequence[Claim]


def outcome_of_all(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a claim that several figures must bear out: the worst of theirs, so one clear loss refutes it."""
    order: Sequence[Outcome] = ("does not hold", "cannot be tested at this size", "not told", "holds")
    return min(outcomes, key=order.index)


def standing(rivals: Iterable[tuple[Outcome, str]]) -> list[str]:
    """Which rivals a method is clearly behind, which it is clearly ahead of, and which it is not told from, in words.

    Args:
        rivals: the outcome of the claim that the method is above each rival, and the rival's name.
    """
    listed_rivals = list(rivals)
    words: dict[Outcome, str] = {
        "does not hold": "clearly behind",
        "holds": "clearly ahead of",
        "not told": "not told from",
    }
    by_outcome = {said: [name for found, name in listed_rivals if found == each] for each, said in words.items()}
    return [f"{said} {listed(names)}" for said, names in by_outcome.items() if names]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table or figure of the paper beside ours.

    Attributes:
        source: `Table 1`, `Fig. 6`.
        title: what it shows.
        figures: in the order in which they are shown.
        findings: what is said of them.
        sizes: what was run, as in `CIFAR-10, 2,000 training images, convnet of width 16`.
    """

    source: str
    title: str
    figures: Sequence[Compared]
    findings: Findings
    sizes: str = ""

    def section(self, *more: Block) -> Section:
        """The section of the report."""
        rows = [
            [
                each.row,
                each.column,
                each.paper,
                each.ours,
                between(each.interval, ".3g") if each.interval else "",
                each.note,
            ]
            for each in self.figures
        ]
        columns = ["", "figure", "paper", "ours", "95 % interval", "note"]
        claims = [[each.claim, each.measured, each.outcome] for each in self.findings.claims]
        verdicts = [Table(["the paper claims", "measured", "outcome"], claims)] if claims else []
        texts = [Text(sentence) for sentence in self.findings.sentences]
        blocks = [Text(self.sizes), Table(columns, rows), *verdicts, *texts, *more]
        return Section(f"{self.source}: {self.title}", blocks)

    def metrics(self) -> dict[str, Any]:
        """The entry `comparison` of metrics.json; `ddm run` prints it, and RESULTS.md is written from it."""
        return {
            "comparison": {
                "source": self.source,
                "title": self.title,
                "sizes": self.sizes,
                "figures": [asdict(each) for each in self.figures],
                "sentences": list(self.findings.sentences),
                "claims": [asdict(each) for each in self.findings.claims],
            }
        }

    def report(
        self, key: str, stored: Stored, question: str, beside: Sequence[Block], sections: Sequence[Section]
    ) -> Report:
        """The report of a study, whose answer is the first thing that is said of its figures.

        Args:
            key: name of the study's entry in metrics.json.
            stored: that entry.
            question: of the report.
            beside: what is shown beside the comparison.
            sections: what follows it.
        """
        return Report(
            sections=[self.section(*beside), *sections],
            metrics={**self.metrics(), key: stored},
            question=question,
            answer=self.findings.sentences[0],
        )


def noted(*parts: str) -> str:
    """Notes joined by semicolons, without the empty ones."""
    return "; ".join(each for each in parts if each)


def listed(parts: Sequence[str]) -> str:
    """`one, two and three`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def data_sizes(workspace: Workspace) -> str:
    """The data of a run, in words."""
    data, count = workspace.data, workspace.info.num_classes
    return (
        f"{workspace.recipe.dataset.name}, {len(data.train):,} training and {len(data.test):,} test images of {count}"
        " classes"
    )


def sizes(workspace: Workspace) -> str:
    """The data, network and settings of a run, in words."""
    recipe = workspace.recipe
    width = recipe.backbone.options.get("width")
    named = f"{recipe.backbone.name}" + (f" of width {width}" if width else "")
    return (
        f"{data_sizes(workspace)}, {named}, {recipe.training.epochs} epochs,"
        f" {workspace.partition.num_clusters} clusters, seed {recipe.general.seed}"
    )

"""A report as data: sections of text, tables and pictures. Studies make them, the core renders and stores them.

Each block checks its own shape when it is made, so that a slip is found in the study's line and not while rendering.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; plain text, escaped when rendered, its line breaks kept."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Cells are strings or numbers; floats are shown with four significant digits, None as a dash.

    Where rows are queries, `alarms` says which are errors and `groups` names a class for each; the page's filter knows
    both.

    Raises:
        ValueError: if a row has another number of cells than there are columns, or alarms or groups are of another
            number than rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    caption: str = ""
    alarms: Sequence[bool] = ()
    groups: Sequence[str] = ()

    def __post_init__(self) -> None:
        for position, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {position} of a table has {len(row)} cells for {len(self.columns)} columns")
        for name, values in (("alarms", self.alarms), ("groups", self.groups)):
            if len(values) not in {0, len(self.rows)}:
                raise ValueError(f"a table of {len(self.rows)} rows has {len(values)} {name}")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images in a row or grid: network inputs (N, C, H, W), kept together in groups of `group` (2 = pairs).

    Captions: none, one per image, or one per group.

    Raises:
        ValueError: if images are not (N, C, H, W), do not fill whole groups, or captions are of another number.
    """

    images: Tensor
    captions: Sequence[str] = ()
    caption: str = ""
    group: int = 1

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ValueError(f"pictures must be (N, C, H, W), found shape {tuple(self.images.shape)}")
        if self.group < 1 or len(self.images) % self.group:
            raise ValueError(f"{len(self.images)} pictures cannot be shown in groups of {self.group}")
        if len(self.captions) not in {0, len(self.images), len(self.images) // self.group}:
            raise ValueError(f"{len(self.captions)} captions for {len(self.images)} pictures in groups of {self.group}")


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A matrix (rows, columns) drawn in a diverging colour scale centred on zero, with the extremes printed.

    Labels are one per row and one per column. If there are too many of them, neighbours whose labels agree up to the
    last ", " or " · " share one: "cat · cluster 30" ... "cat · cluster 39" become "cat".

    Raises:
        ValueError: if the values are not a matrix or the labels are of another number.
    """

    values: Tensor
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    caption: str = ""
    row_title: str = ""
    column_title: str = ""

    def __post_init__(self) -> None:
        if tuple(self.values.shape) != (len(self.row_labels), len(self.column_labels)):
            raise ValueError(
                f"a heat map of shape {tuple(self.values.shape)} has {len(self.row_labels)} row labels"
                f" and {len(self.column_labels)} column labels"
            )


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars or lines of one or more series over common positions, or histograms of the series in common bins.

    `x` holds the positions of a line (numbers) or the names of its points or bars; None counts them from 0. A histogram
    has none. Values that are not finite are marked in grey.

    Raises:
        ValueError: if the kind is unknown, there is no series, or one has another length than `x` or than the others
            (those of a histogram may differ).
    """

    kind: Literal["bar", "line", "histogram"]
    series: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    x: Sequence[float | str] | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.series:
            raise ValueError("a chart needs at least one series")
        if self.kind not in {"bar", "line", "histogram"}:
            raise ValueError(f"a chart is of kind 'bar', 'line' or 'histogram', not {self.kind!r}")
        if self.kind == "histogram":
            return
        lengths = {name: len(values) for name, values in self.series.items()}
        expected = len(self.x) if self.x is not None else next(iter(lengths.values()))
        for name, length in lengths.items():
            if length != expected:
                raise ValueError(f"series {name!r} of a chart has {length} values for {expected} positions")


@dataclass(frozen=True, slots=True)
class Clusters:
    """References to clusters by id, each shown as a strip of real members with its value.

    The members' pictures stand once in the page, however often a cluster is referred to. Neighbouring blocks of
    clusters stand side by side and share the scale of their bars.

    Raises:
        ValueError: if there is not one value per cluster.
    """

    heading: str
    ids: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.values):
            raise ValueError(f"{len(self.ids)} clusters but {len(self.values)} values under {self.heading!r}")


@dataclass(frozen=True, slots=True)
class Card:
    """One item, such as a query: a picture (C, H, W), a heading, and blocks beside it. `alarm` marks an error.

    The page's filter knows `alarm`, and `group`, such as its class.

    Raises:
        ValueError: if the picture is not (C, H, W).
    """

    heading: str
    picture: Tensor
    blocks: Sequence[Block]
    alarm: bool = False
    group: str = ""

    def __post_init__(self) -> None:
        if self.picture.ndim != 3:
            raise ValueError(f"the picture of a card must be (C, H, W), found shape {tuple(self.picture.shape)}")


Block = Text | Table | Pictures | Heatmap | Chart | Clusters | Card
"""What a section of a report holds."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the blocks under it."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """What a study found.

    Attributes:
        sections: for report.html, in order.
        metrics: numbers, nested by name, for metrics.json.
        tensors: what is stored in online/attribution.safetensors.
        question: one sentence that says what was asked.
        answer: one sentence that says what was found.
    """

    sections: Sequence[Section]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    question: str = ""
    answer: str = ""

    def clusters(self) -> list[int]:
        """Ids of the clusters that it refers to, ascending."""
        return sorted({int(each) for section in self.sections for each in _referred(section.blocks)})


def _referred(blocks: Sequence[Block]) -> Iterator[int]:
    for block in blocks:
        if isinstance(block, Clusters):
            yield from block.ids
        elif isinstance(block, Card):
            yield from _referred(block.blocks)

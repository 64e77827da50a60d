"""A report as data: sections of text, tables and pictures. Studies make them, the core renders and stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; plain text, escaped when rendered."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Cells are strings or numbers; floats are shown with four significant digits."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images in a row or grid: network inputs (N, C, H, W) and a caption each (or none)."""

    images: Tensor
    captions: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A matrix (rows, columns) drawn in a diverging colour scale centred on zero, with the extremes printed."""

    values: Tensor
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars or lines of one or more series over common positions."""

    kind: Literal["bar", "line", "histogram"]
    series: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    x: Sequence[float | str] | None = None
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Clusters:
    """References to clusters by id, each shown as a strip of real members with its value.

    The members' pictures stand once in the page, however often a cluster is referred to.
    """

    heading: str
    ids: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Card:
    """One item, such as a query: a picture (C, H, W), a heading, and blocks beside it. `alarm` marks an error."""

    heading: str
    picture: Tensor
    blocks: Sequence[Block]
    alarm: bool = False


Block = Text | Table | Pictures | Heatmap | Chart | Clusters | Card


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

"""A report and its run's facts to one self-contained HTML page."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from numbers import Integral
from typing import Any, NamedTuple

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from ddm_framework.data import DataInfo
from ddm_framework.report.blocks import Block, Card, Chart, Clusters, Heatmap, Report
from ddm_framework.report.pictures import chart_svg, heatmap_png, neighbours, png, strip, thumbnail

MOST_OF_CARDS = 2_200_000
MOST_OF_ROWS = 2_200_000
"""Bytes that a page spends on cards with their clusters, and on rows of tables: 5 MB are enough for any number of
queries."""
_MOST_MEMBERS = 12
_MOST_LABELS = 20
_LINE = 140  # characters across a heat map
_MOST_HINTS = 400  # columns: beyond, their names would outweigh the picture


def render(
    report: Report,
    *,
    title: str,
    info: DataInfo,
    facts: Mapping[str, str],
    seconds: Mapping[str, float],
    members: Mapping[int, Tensor],
    cluster_names: Mapping[int, str],
    recipe_yaml: str,
) -> str:
    """The page: no address outside itself, one script of its own that searches, every text escaped.

    Cards and rows of tables that would make it too large are left out, and their number is told.

    Args:
        report: what the study found.
        title: name of the run.
        info: turns network inputs into pixels.
        facts: what the header states (recipe, data set, accuracy, device, seed, versions).
        seconds: duration of each stage; `total`, if given, is their sum.
        members: network inputs (n, C, H, W) of real members by cluster, of which twelve are shown; each cluster that
            the report refers to is embedded once.
        cluster_names: a name per cluster, such as "class 3, cluster 7".
        recipe_yaml: the recipe with every default spelled out.
    """
    room_of_cards = Room(MOST_OF_CARDS)
    script = resources.files("ddm_framework").joinpath("templates", "report.js").read_text(encoding="utf-8")
    template = _environment().get_template("report.html.j2")
    return template.render(
        report=report,
        title=title,
        facts=facts,
        stages={name: value for name, value in seconds.items() if name != "total"},
        total=seconds.get("total", math.fsum(filter(math.isfinite, seconds.values()))),
        strips=Strips(info, members, room_of_cards),
        room_of_cards=room_of_cards,
        room_of_rows=Room(MOST_OF_ROWS),
        script=script,
        script_digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        name_of=lambda each: cluster_names.get(int(each), f"cluster {each}"),
        picture=functools.partial(_picture, info),
        recipe_yaml=recipe_yaml,
    )


def format_number(value: float | None) -> str:
    """Four significant digits, scientific below 1e-3 and from 1e5; integers as they are, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, Integral):
        return str(int(value)).replace("-", "−")
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "∞" if number > 0 else "−∞"
    mantissa, power = f"{number:.3e}".split("e")
    if number and not 1e-3 <= abs(number) < 1e5:
        return f"{mantissa}e{int(power)}".replace("-", "−")
    return (f"{number:.{max(0, 3 - int(power))}f}" if number else "0").replace("-", "−")


def format_seconds(value: float) -> str:
    """A duration in the two units that matter: `340 ms`, `12.3 s`, `3 min 20 s`, `2 h 05 min`."""
    if not math.isfinite(value):
        return "–"
    if value < 59.95:
        return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _picture(info: DataInfo, image: Tensor, box: int) -> dict[str, Any]:
    """A network input (C, H, W) at the size that fills a box: whole multiples of its pixels, or averaged down."""
    pixels = thumbnail(_pixels(info, image)[None], 2 * box)[0]
    zoom = box / max(image.shape[-2:])
    enlarged = zoom >= 2
    height, width = (max(1, round(length * (int(zoom) if enlarged else zoom))) for length in image.shape[-2:])
    return {"uri": png(pixels), "width": width, "height": height, "enlarged": enlarged}


def _strip(pixels: Tensor) -> dict[str, Any]:
    """Members of a cluster (n, C, H, W) side by side, about 36 pixels high; `pitch` is a width with the gap."""
    small = thumbnail(pixels[:_MOST_MEMBERS], 40)
    height, width = small.shape[-2:]
    zoom = max(1, 36 // height)
    return {"uri": strip(small), "count": len(small), "height": height, "pitch": width + 1, "zoom": zoom}


class Room:
    """How much more a page may hold."""

    def __init__(self, size: int) -> None:
        self._left, self._left_out = size, 0
        self.is_full = False

    def takes(self, html: str) -> bool:
        """Whether a part fits; from the first one that does not, none does."""
        self._left -= len(html.encode("utf-8", "replace"))
        self.is_full = self.is_full or self._left < 0
        return not self.is_full

    def leave_out(self) -> None:
        """Count a part that did not fit."""
        self._left_out += 1

    def told(self) -> int:
        """How many parts were left out since this was asked last."""
        count, self._left_out = self._left_out, 0
        return count


class Strips:
    """Members of the clusters that the page shows, each made when it is first referred to."""

    def __init__(self, info: DataInfo, members: Mapping[int, Tensor], room: Room) -> None:
        self._info, self._members, self._room = info, members, room
        self._made: dict[int, dict[str, Any]] = {}

    def has(self, cluster: int) -> bool:
        """Whether there is a picture of a cluster's members, which is kept for the page's styles."""
        if cluster not in self._made and len(self._members.get(cluster, ())):
            self._made[cluster] = _strip(_pixels(self._info, self._members[cluster]))
            self._room.takes(self._made[cluster]["uri"])
        return cluster in self._made

    def used(self) -> list[tuple[int, dict[str, Any]]]:
        """Those that were referred to, by cluster."""
        return sorted(self._made.items())


class Tick(NamedTuple):
    """A label of an axis and the cells that it spans, from 1."""

    label: str
    start: int
    span: int


def ticks(labels: Sequence[str], most: int = _MOST_LABELS) -> list[Tick]:
    """At most so many labels: each by itself, or what neighbours share, or one in so many."""
    if len(labels) <= most:
        return [Tick(label, start, 1) for start, label in enumerate(labels, 1)]
    shared = neighbours(labels)
    if len(shared) <= most:
        return [Tick(label, start + 1, span) for label, start, span in shared]
    stride = math.ceil(len(labels) / most)
    return [Tick(labels[k], k + 1, min(stride, len(labels) - k)) for k in range(0, len(labels), stride)]


def _heatmap(heatmap: Heatmap) -> dict[str, Any]:
    """A heat map that has cells: its picture, its labels, and the colours from its smallest to its largest.

    `low` and `high` are None where no value is finite.
    """
    values = heatmap.values.detach().cpu().double()
    finite = values[values.isfinite()]
    num_rows, num_columns = values.shape
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    limit = float(finite.abs().max()) if len(finite) else 0.0
    row_height = max(1, min(18, 480 // num_rows))
    columns = ticks(heatmap.column_labels)
    room = min(tick.span for tick in columns) / num_columns * _LINE
    return {
        "uri": heatmap_png(values, limit=limit),
        "rows": ticks(heatmap.row_labels, max(1, num_rows * row_height // 13)),
        "columns": columns,
        "upright": num_columns > 8 and max(len(tick.label) for tick in columns) > room,
        "hints": heatmap.column_labels if num_columns <= _MOST_HINTS else (),
        "row_height": row_height,
        "least_width": max(num_columns, min(7 * num_columns, 620)),
        "low": low,
        "high": high,
        "scale": heatmap_png(torch.linspace(low or 0.0, high or 0.0, 65)[None], limit=limit),
        "missing": values.numel() - len(finite),
    }


def _pixels(info: DataInfo, images: Tensor) -> Tensor:
    """Network inputs -> pixels on the CPU, NaN where the input was not finite (a clamp would hide infinity)."""
    images = images.detach().cpu().float()
    return torch.where(images.isfinite(), info.to_pixels(images), math.nan)


def _split(card: Card) -> tuple[Sequence[Block], Sequence[Block]]:
    """The blocks that stand beside a card's picture, and those from the first wide one on."""
    first = next(
        (k for k, block in enumerate(card.blocks) if isinstance(block, Heatmap | Chart | Card)), len(card.blocks)
    )
    return card.blocks[:first], card.blocks[first:]


def _peak(blocks: Sequence[Block]) -> float:
    """The largest magnitude among neighbouring cluster blocks, 1 where there is none: the full length of a bar."""
    values = [abs(float(each)) for block in blocks if isinstance(block, Clusters) for each in block.values]
    return max((value for value in values if math.isfinite(value)), default=0.0) or 1.0


def _share(value: float, whole: float) -> str:
    """A percentage for a style attribute."""
    part = abs(float(value)) / whole if whole else 0.0
    return f"{100 * min(part, 1.0) if math.isfinite(part) else 0.0:.1f}%"


def _numeric_columns(rows: Sequence[Sequence[object]]) -> list[bool]:
    """Which columns hold numbers alone, and so are set to the right."""
    return [all(not isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ddm_framework"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        kind=lambda block: type(block).__name__,
        number=lambda value: value if isinstance(value, str) else format_number(value),
        seconds=format_seconds,
        chart=lambda chart: Markup(chart_svg(chart)),
        heatmap=_heatmap,
        numeric_columns=_numeric_columns,
        peak=_peak,
        share=_share,
        split=_split,
    )
    return environment

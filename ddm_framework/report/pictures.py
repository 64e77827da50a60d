"""Tensors to pictures that stand inside a page: PNG data URIs, and charts as inline SVG."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import chdir
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddm_framework.report.blocks import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGING = (
    "2d004b",
    "542788",
    "8073ac",
    "b2abd2",
    "d8daeb",
    "f7f7f7",
    "fee0b6",
    "fdb863",
    "e08214",
    "b35806",
    "7f3b08",
)
"""Purple below zero, orange above: safe for the colour-blind, and neither is the red of an alarm.

ColorBrewer's PuOr reversed, written down so that a report without charts does not import matplotlib."""
GREY = 128
"""The level of whatever is not finite."""

_STEPS = 127  # colours on each side of zero: an odd total gives zero a colour of its own
_INK, _MISSING = "#010203", "#808080"
_SERIES = ("#4c78a8", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2")
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 5),
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}


def png(pixels: Tensor) -> str:
    """One picture as a PNG data URI, lossless at 8 bits.

    Args:
        pixels: floats (C, H, W) in [0, 1]: grey where C = 1, colour where C = 3, and the mean channel of any other
            number. Values outside are clamped; a pixel with a value that is not finite is grey.
    Raises:
        ValueError: if there is nothing to show.
    """
    if pixels.ndim != 3 or not pixels.numel():
        raise ValueError(f"a picture must be (C, H, W) and not empty, found shape {tuple(pixels.shape)}")
    return _data_uri(_levels(pixels[None])[0])


def strip(images: Tensor) -> str:
    """A row of pictures as one PNG data URI of H by n·(W + 1) - 1 pixels, with transparent gaps of one pixel.

    Args:
        images: floats (n, C, H, W) in [0, 1], read as in `png`.
    Raises:
        ValueError: if there is nothing to show.
    """
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"a strip must be (n, C, H, W) and not empty, found shape {tuple(images.shape)}")
    levels = _levels(images)
    opaque = torch.cat([levels, torch.full_like(levels[..., :1], 255)], dim=-1)
    spaced = torch.nn.functional.pad(opaque, (0, 0, 0, 1))
    return _data_uri(spaced.transpose(0, 1).flatten(1, 2)[:, :-1])


def thumbnail(images: Tensor, side: int) -> Tensor:
    """Images (n, C, H, W) averaged down until the longer side has at most `side` pixels; small ones as they are."""
    longest = max(images.shape[-2:])
    if longest <= side:
        return images
    height, width = (max(1, round(length * side / longest)) for length in images.shape[-2:])
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), (height, width))


def heatmap_png(values: Tensor, *, limit: float | None = None) -> str:
    """A matrix as a PNG data URI, one pixel a cell, in diverging colours centred on zero.

    Args:
        values: numbers (rows, columns); what is not finite is grey.
        limit: the magnitude of the strongest colours; by default the largest finite one.
    Raises:
        ValueError: if there is nothing to show.
    """
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"a heat map must be (rows, columns) and not empty, found shape {tuple(values.shape)}")
    values = values.detach().cpu().double()
    finite = values.isfinite()
    if limit is None:
        limit = float(values[finite].abs().max()) if finite.any() else 0.0
    position = (values / limit).nan_to_num(0.0).clamp(-1, 1) if limit else torch.zeros_like(values)
    cells = (position * _STEPS).round() + _STEPS
    picture = Image.fromarray(torch.where(finite, cells, 2 * _STEPS + 1).byte().numpy())
    picture.putpalette(_palette())
    return _encode(picture)


def chart_svg(chart: Chart) -> str:
    """A chart as inline SVG in the page's own ink and font; equal charts give equal text.

    Labels are text, escaped, never markup or mathematics. Values that are not finite are grey crosses on the axis; in
    a histogram they are counted beside it.
    """
    matplotlib = _matplotlib()
    shown = repr((chart.kind, chart.series, chart.x, chart.x_label, chart.y_label)).encode("utf-8", "replace")
    style: Any = {**_STYLE, "svg.hashsalt": hashlib.sha256(shown).hexdigest()}
    file = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks: the page's font draws them
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure = matplotlib.figure.Figure(figsize=(6.6, 2.5), layout="constrained")
        _draw(chart, figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    label = f"{chart.kind} chart of {chart.y_label} by {chart.x_label}: {', '.join(chart.series)}"
    return _inline(file.getvalue(), label)


def _matplotlib() -> Any:
    """The library, which is not to read a `matplotlibrc` of the current folder: that may be a stranger's, or a pipe."""
    if "matplotlib" in sys.modules:
        import matplotlib.figure
    else:
        with chdir(Path(__file__).parent):
            import matplotlib.figure
    return matplotlib


def _levels(images: Tensor) -> Tensor:
    """Pixels (n, C, H, W) in [0, 1] -> uint8 (n, H, W, 1 or 3)."""
    pixels = images.detach().cpu().float()
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True)
    finite = pixels.isfinite().all(1, keepdim=True)
    levels = (pixels.nan_to_num(0.0).clamp(0, 1) * 255).round()
    return torch.where(finite, levels, GREY).byte().movedim(1, -1)


def _data_uri(levels: Tensor) -> str:
    """Levels uint8 (H, W, channels), of which 2 and 4 end in opacity -> a PNG data URI."""
    return _encode(Image.fromarray(levels.squeeze(-1).contiguous().numpy()))


def _encode(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _palette() -> list[int]:
    """RGB levels of the diverging colours, from the lowest to the highest, and then grey."""
    corners = np.array([list(bytes.fromhex(colour)) for colour in DIVERGING])
    positions, places = np.linspace(0, 1, 2 * _STEPS + 1), np.linspace(0, 1, len(corners))
    levels = np.stack([np.interp(positions, places, channel) for channel in corners.T], 1).round().astype(int)
    return [*levels.flatten().tolist(), GREY, GREY, GREY]


def _draw(chart: Chart, figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.set_xlabel(_label(chart.x_label, 80))
    axes.set_ylabel(_label(chart.y_label, 40))
    handles = _draw_histogram(chart, axes) if chart.kind == "histogram" else _draw_points(chart, axes)
    if len(handles) > 1:
        legend = figure.legend(handles, ["series"] * len(handles), loc="outside upper left", ncols=4)
        # matplotlib drops names that start with an underscore, unless they are set afterwards
        for text, name in zip(legend.get_texts(), chart.series, strict=True):
            text.set_text(_label(name, 40))


def _draw_points(chart: Chart, axes: Axes) -> list[Any]:
    """Bars or a line per series; returns what the legend shows."""
    length = len(next(iter(chart.series.values())))
    names = [str(each) if isinstance(each, str) else f"{each:g}" for each in chart.x or ()]
    measured = chart.kind == "line" and chart.x is not None and not any(isinstance(each, str) for each in chart.x)
    positions = [_finite(each) for each in chart.x or ()] if measured else [float(each) for each in range(length)]
    handles: list[Any] = []
    share = (0.8 if length <= 40 else 1.0) / len(chart.series)
    for number, values in enumerate(chart.series.values()):
        colour = _SERIES[number % len(_SERIES)]
        heights = [_finite(value) for value in values]
        offset = share * (number - (len(chart.series) - 1) / 2) if chart.kind == "bar" else 0.0
        at = [position + offset for position in positions]
        if chart.kind == "bar":
            handles.append(axes.bar(at, heights, width=share, color=colour))
        else:
            handles += axes.plot(at, heights, color=colour, marker="o" if length <= 40 else "", markersize=3)
        missing = [x for x, height in zip(at, heights, strict=True) if math.isnan(height) and not math.isnan(x)]
        axes.plot(missing, [0.03] * len(missing), "x", color=_MISSING, transform=axes.get_xaxis_transform())
    if chart.kind == "bar":
        axes.axhline(0, color=_INK, linewidth=0.6)
    axes.margins(x=0.01)
    axes.grid(visible=chart.kind == "line", axis="x")
    if not measured:
        _name_positions(axes, names, length)
    return handles


def _draw_histogram(chart: Chart, axes: Axes) -> list[Any]:
    """Counts of each series in common bins; returns what the legend shows."""
    import numpy as np

    finite = [[x for x in map(_finite, values) if not math.isnan(x)] for values in chart.series.values()]
    pooled = [value for values in finite for value in values]
    edges = np.histogram_bin_edges(pooled, bins=min(40, max(5, math.isqrt(4 * len(pooled)))))
    missing = sum(map(len, chart.series.values())) - len(pooled)
    if missing:
        axes.text(0.99, 0.95, f"{missing} not finite", color=_MISSING, transform=axes.transAxes, ha="right", va="top")
    axes.grid(visible=False, axis="x")
    alpha = 1.0 if len(finite) == 1 else 0.6
    return [
        axes.hist(values, bins=edges.tolist(), color=_SERIES[number % len(_SERIES)], alpha=alpha, rwidth=0.94)[2]
        for number, values in enumerate(finite)
    ]


def _name_positions(axes: Axes, names: Sequence[str], length: int) -> None:
    """Name the positions 0, 1, ...: each if they fit, else what neighbours share, else slanted or one in so many."""
    from matplotlib.ticker import MaxNLocator

    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    labels = [_label(name, 24) for name in names]
    places = [float(each) for each in range(length)]
    shared = neighbours(names)
    shared_labels = [_label(name, 24) for name, _, _ in shared]
    if not _fits(labels) and _fits(shared_labels):
        labels, places = shared_labels, [start + (span - 1) / 2 for _, start, span in shared]
    slanted = not _fits(labels) and len(labels) <= 24
    stride = 1 if slanted else next(each for each in range(1, length + 1) if _fits(labels[::each]))
    axes.set_xticks(places[::stride], labels[::stride])
    if slanted:
        axes.tick_params("x", rotation=35)
        for text in axes.get_xticklabels():
            text.set_horizontalalignment("right")
            text.set_rotation_mode("anchor")


def neighbours(labels: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of labels that agree up to their last ", " or " · ": (what they share, first position, number of labels)."""
    runs = [list(run) for _, run in groupby(labels, _stem)]
    starts = accumulate(map(len, runs), initial=0)
    return [
        (run[0] if len(set(run)) == 1 else _stem(run[0]), start, len(run))
        for run, start in zip(runs, starts, strict=False)
    ]


def _stem(label: str) -> str:
    """The label up to its last separator, all of it where there is none."""
    end = max(label.rfind(", "), label.rfind(" · "))
    return label[:end] if end > 0 else label


def _fits(labels: Sequence[str]) -> bool:
    """Whether evenly spaced labels stand beside one another across a chart, of about 90 characters."""
    widest = max((len(a) + len(b) for a, b in pairwise(labels)), default=0) / 2
    return len(labels) * (widest + 2) <= 90


def _finite(value: float | str) -> float:
    """The number, or NaN for what cannot be drawn."""
    number = float(value)
    return number if abs(number) < 1e300 else math.nan


def _label(text: str, longest: int) -> str:
    """One line of at most so many characters, without those that XML forbids."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _inline(document: str, label: str) -> str:
    """An SVG document of matplotlib's as an element of an HTML page.

    Namespaces and the style sheet go (it would style the whole page), and so do ids that nothing refers to. The ink
    becomes the page's own.
    """
    root = ElementTree.fromstring(document)
    used = set(re.findall(r'(?:href="|url\()#(\w+)', document))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        if "style" in attributes:
            style = re.sub(r"font-family:[^;]*;?\s*", "", attributes["style"])
            attributes["style"] = style.replace(_INK, "currentColor")
        element.attrib.clear()
        element.attrib.update(attributes)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update(
        {"class": "chart", "viewBox": box, "stroke-linejoin": "round", "role": "img", "aria-label": _label(label, 300)}
    )
    return ElementTree.tostring(root, encoding="unicode")

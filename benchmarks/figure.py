"""Draw how near each method comes to exact retraining against what it costs, from the committed result files.

python benchmarks/figure.py    (writes docs/fidelity*.png, README.md showing that of the digits, and docs/peers.png)

Digits, means over the seeds, and one seed of a slice of MNIST and of CIFAR-10. A point lies at the seconds of a first
question about all test images, offline and online; the line to its left begins at the online part alone. The dial is a
line from E = 0 to retraining.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import fidelity
import matplotlib.pyplot as plt
import stored
from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEDS = {
    "fidelity.png": ("fidelity_digits", "fidelity_digits_rivals"),
    "fidelity_mnist.png": ("fidelity_mnist", "fidelity_mnist_rivals"),
    "fidelity_cifar10.png": ("fidelity_cifar10",),
}
"""Picture and the recipes whose results it shows."""
PANELS = {
    "cluster_lds": "LDS: effects of single clusters, added up",
    "set_lds": "LDS: networks that lack a whole set at once",
    "r2": "R² of single effects, in their own unit",
    "recovered_share": "share of the best cluster's effect on the prediction",
}
OURS = {"ddm", "ddm_anchored", "ddm_replay", "replay_influence", "ddm_corrected"}
LEFT_OUT = {"ddm_hard", "ddm_match", "ddm_sequential", "gradient", "retained"}
"""Ablations and controls, which README.md lists."""
TRUTH = {"exact", "datamodel"}
COLOURS = {"ours": "#b5473c", "rivals": "#4a6fa5", "retraining": "#777777"}
LOWEST, WORST = 0.05, -0.1
"""Seconds, and a figure, below which a point is drawn at the edge."""


@dataclass(frozen=True, slots=True)
class Point:
    """A method's mean over the seeds."""

    name: str
    offline: float
    online: float
    figures: dict[str, float]

    @property
    def kind(self) -> str:
        """Whose method it is."""
        if self.name in TRUTH:
            return "retraining"
        return "ours" if self.name in OURS else "rivals"

    @property
    def seconds(self) -> float:
        """Of a first question about all test images."""
        return self.offline + self.online


def points(recipes: Sequence[str]) -> Iterator[Point]:
    """Every method of the recipes; one that stands in several is taken from the first."""
    seen = set(LEFT_OUT)
    for recipe in recipes:
        for name, seeds in fidelity.results(recipe).items():
            if seeds and name not in seen:
                seen.add(name)
                yield _point(name, [each["figures"] for each in seeds])


def _point(name: str, seeds: list[dict[str, Any]]) -> Point:
    offline, online = (mean(each[f"seconds_{when}"] for each in seeds) for when in ("offline", "online"))
    return Point(name, offline, online, _figures(seeds))


def _figures(seeds: list[dict[str, Any]]) -> dict[str, float]:
    return {
        key: mean(each[key] for each in seeds) for key in PANELS if all(each.get(key) is not None for each in seeds)
    }


def dial() -> list[Point]:
    """The dial on the digits at each E, with the offline seconds of `ddm`."""
    found = stored.read(stored.RESULTS / "dial.json")
    offline = mean(each["figures"]["seconds_offline"] for each in fidelity.results("fidelity_digits")["ddm_replay"])
    seeds = [found[name] for name in sorted(found) if name.isdigit()]
    listed = []
    for epochs in (name for name in seeds[0] if name.isdigit()):
        rows = [{**seed[epochs], **seed[epochs].get("sets", {})} for seed in seeds]
        listed.append(Point(f"E={epochs}", offline, mean(each["seconds_online"] for each in rows), _figures(rows)))
    return listed


def draw(file: str, recipes: Sequence[str]) -> None:
    """The panels of one data set, with numbers at the points and a key beside them."""
    found = sorted(points(recipes), key=lambda each: (list(COLOURS).index(each.kind), each.seconds))
    line = dial() if "fidelity_digits" in recipes else []
    figure, panels = plt.subplots(2, 2, figsize=(11, 8.2), layout="constrained", sharex=True)
    for axes, (key, title) in zip(panels.flat, PANELS.items(), strict=True):
        _panel(axes, key, found, line)
        axes.set_title(title, fontsize=10)
    for axes in panels[1]:
        axes.set_xlabel("seconds for all test images (line: from the online part alone)")
    _key(figure, found)
    figure.savefig(DOCS / file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _panel(axes: Axes, key: str, found: Sequence[Point], line: Sequence[Point]) -> None:
    at = [each for each in line if key in each.figures]
    axes.plot([each.seconds for each in at], [each.figures[key] for each in at], color=COLOURS["ours"], alpha=0.5)
    for each in at:
        offset = {"xytext": (5, -9), "textcoords": "offset points"}
        place = (each.seconds, each.figures[key])
        axes.annotate(each.name, place, fontsize=7, color=COLOURS["ours"], alpha=0.8, **offset)
    for number, each in enumerate(found, 1):
        if key not in each.figures:
            continue
        seconds, value = max(each.seconds, LOWEST), max(each.figures[key], WORST)
        colour = COLOURS[each.kind]
        axes.plot([max(each.online, LOWEST), seconds], [value, value], color=colour, lw=0.8, alpha=0.5)
        axes.scatter(seconds, value, color=colour, s=95, zorder=3, alpha=0.85, linewidths=0)
        axes.annotate(str(number), (seconds, value), fontsize=7, color="white", ha="center", va="center", zorder=4)
    exact = next((each for each in found if each.name == "exact"), None)
    if exact is not None and key == "cluster_lds":
        axes.axhline(exact.figures[key], color=COLOURS["retraining"], lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlim(left=LOWEST * 0.8)
    axes.grid(alpha=0.2)


def _key(figure: Any, found: Sequence[Point]) -> None:
    """Numbers with the names of the methods, by kind."""
    numbered = enumerate(found, 1)
    lines = []
    for kind, group in groupby(numbered, key=lambda pair: pair[1].kind):
        names = ",  ".join(f"{number} {each.name}" for number, each in group)
        lines.append((kind, names))
    handles = [plt.Line2D([], [], marker="o", ls="", color=COLOURS[kind]) for kind, _ in lines]
    labels = [f"{kind}:  {names}" for kind, names in lines]
    figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=8)


def kind_of(method: str) -> str:
    """Of a method among its peers."""
    return "ours" if method in OURS else "retraining" if method == "plain retraining" else "rivals"


def draw_peers() -> None:
    """Quality against seconds at each data set's first size, and how seconds grow with the images."""
    found = stored.read(stored.RESULTS / "peers.json")
    beds = [(name, found[name]) for name in ("digits", "mnist", "cifar10") if name in found]
    grown = [(name, bed) for name, bed in beds if "N x4" in bed]
    count = len(beds) + len(grown[:1])
    figure, panels = plt.subplots(1, count, figsize=(4.4 * count, 4.4), layout="constrained", squeeze=False)
    for axes, (name, bed) in zip(panels[0], beds, strict=False):
        for method, each in bed["x1"]["methods"].items():
            if "lds" in each:
                place = (max(each["cpu_seconds"], LOWEST), each["lds"])
                axes.scatter(*place, color=COLOURS[kind_of(method)], s=28, zorder=3)
                offset = {"xytext": (4, -9), "textcoords": "offset points"}
                axes.annotate(method, place, fontsize=7, color=COLOURS[kind_of(method)], **offset)
        axes.set_title(f"{name}: LDS against processor seconds")
        axes.margins(x=0.25)
    for axes, (name, bed) in zip(panels[0][len(beds) :], grown[:1], strict=True):
        sizes = {size: each for size, each in bed.items() if size == "x1" or size.startswith("N ")}
        for method in bed["x1"]["methods"]:
            at = [
                (each["size"]["train"], found_["cpu_seconds"])
                for each in sizes.values()
                if "failed" not in (found_ := each["methods"].get(method, {"failed": ""}))
            ]
            if len(at) > 1:
                axes.plot(*zip(*at, strict=True), marker="o", ms=3, color=COLOURS[kind_of(method)], alpha=0.8)
                axes.annotate(method, at[-1], fontsize=7, color=COLOURS[kind_of(method)])
        axes.set_title(f"{name}: processor seconds against training images")
        axes.set_yscale("log")
    for axes in panels[0]:
        axes.set_xscale("log")
        axes.grid(alpha=0.2)
    figure.savefig(DOCS / "peers.png", dpi=120, metadata={"Software": None})


def main() -> None:
    """Draw every bed that has results."""
    for file, recipes in BEDS.items():
        if any(fidelity.results(recipes[0]).values()):
            draw(file, recipes)
    if (stored.RESULTS / "peers.json").is_file():
        draw_peers()


if __name__ == "__main__":
    main()

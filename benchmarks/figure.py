"""Draw how near each method comes to exact retraining against what it costs, from the committed result files.

python benchmarks/figure.py    (writes docs/fidelity.png, the figure of README.md, and docs/peers.png)

Digits, means over the seeds. Seconds are those of everything that a first question about all test images needs, offline
and online; the dial is a line from E = 0 to retraining.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import fidelity
import matplotlib.pyplot as plt
import stored

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "fidelity.png"
PEERS = FIGURE.with_name("peers.png")
PANELS = {"lds": "LDS: is what leaving out a fifth of the clusters does foretold?"}
"""`lds` is that of networks of whole sets where a method has them, else that of added effects."""
OURS = {"ddm", "ddm_anchored", "ddm_replay", "replay_influence", "ddm_corrected"}
LEFT_OUT = {"ddm_hard", "ddm_match", "ddm_sequential", "gradient", "retained"}
"""Ablations and controls, which README.md lists."""
TRUTH = {"exact", "datamodel"}
COLOURS = {"ours": "#b5473c", "rivals": "#4a6fa5", "retraining": "#777777"}
LOWEST = 0.05
"""Seconds below which a point is drawn at the edge."""


class Point(NamedTuple):
    """A method's mean over the seeds."""

    name: str
    seconds: float
    figures: dict[str, float]

    @property
    def kind(self) -> str:
        if self.name in TRUTH:
            return "retraining"
        return "ours" if self.name in OURS else "rivals"


def points() -> Iterator[Point]:
    """Every method of both recipes; one that stands in both is taken from the first."""
    seen: set[str] = set()
    for recipe in ("fidelity_digits", "fidelity_digits_rivals"):
        for name, seeds in fidelity.results(recipe).items():
            if seeds and name not in seen | LEFT_OUT:
                seen.add(name)
                yield _point(name, [each["figures"] for each in seeds])


def _point(name: str, seeds: list[dict[str, Any]]) -> Point:
    return Point(name, mean(each["seconds_offline"] + each["seconds_online"] for each in seeds), _figures(seeds))


def _figures(seeds: list[dict[str, Any]]) -> dict[str, float]:
    rows = [{**each, "lds": each.get("set_lds", each.get("cluster_lds"))} for each in seeds]
    return {key: mean(each[key] for each in rows) for key in PANELS if all(each.get(key) is not None for each in rows)}


def dial() -> list[Point]:
    """The dial at each E, with the offline seconds of `ddm`."""
    found = stored.read(stored.RESULTS / "dial.json")
    offline = mean(each["figures"]["seconds_offline"] for each in fidelity.results("fidelity_digits")["ddm_replay"])
    seeds = [found[name] for name in sorted(found) if name.isdigit()]
    listed = []
    for epochs in (name for name in seeds[0] if name.isdigit()):
        rows = [{**seed[epochs], **seed[epochs].get("sets", {})} for seed in seeds]
        listed.append(Point(f"E = {epochs}", offline + mean(each["seconds_online"] for each in rows), _figures(rows)))
    return listed


def draw() -> None:
    """The panels side by side."""
    found, line = list(points()), dial()
    figure, panels = plt.subplots(1, len(PANELS), figsize=(8.4, 5.2), layout="constrained", squeeze=False)
    for axes, (key, title) in zip(panels[0], PANELS.items(), strict=True):
        at = [each for each in line if key in each.figures]
        axes.plot([each.seconds for each in at], [each.figures[key] for each in at], color=COLOURS["ours"], alpha=0.5)
        for each in at:
            place, offset = (each.seconds, each.figures[key]), {"xytext": (-4, 3), "textcoords": "offset points"}
            axes.annotate(each.name, place, fontsize=7, color=COLOURS["ours"], alpha=0.8, ha="right", **offset)
        for each in found:
            if key in each.figures:
                place = (max(each.seconds, LOWEST), each.figures[key])
                axes.scatter(*place, color=COLOURS[each.kind], s=28, zorder=3)
                offset = {"xytext": (4, -9), "textcoords": "offset points"}
                axes.annotate(each.name, place, fontsize=8, color=COLOURS[each.kind], **offset)
        axes.set_xscale("log")
        axes.set_xlim(LOWEST * 0.8, 300)
        axes.set_title(title)
        axes.set_xlabel("seconds for all test images, offline and online")
        axes.grid(alpha=0.2)
    for kind, colour in COLOURS.items():
        panels[0, 0].scatter([], [], color=colour, label=kind)
    panels[0, 0].legend(frameon=False, loc="upper left")
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})


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
    figure.savefig(PEERS, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    draw()
    draw_peers()

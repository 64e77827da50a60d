"""Write the figures of README.md and of pages in docs/ from the committed result files, or check that they are those.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import fidelity
import stored
import torch
from ddm_studies.comparison.intervals import crossed_interval, mean_interval, share_values
from ddm_studies.comparison.paper import listed
from torch import Tensor

from ddm_framework.resources import in_words
from ddm_framework.stages.costs import duration
from ddm_framework.truth.agreement import Judged, recovered_share, recovered_share_interval

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
OWN_NETWORK = HERE.parent / "docs" / "own_network.md"
DIAL = HERE.parent / "docs" / "dial.md"
OWN_IMAGES = HERE.parent / "docs" / "own_images.md"
PEERS = HERE.parent / "docs" / "peers.md"
MANY_MACHINES = HERE.parent / "docs" / "many_machines.md"
BEGIN, END = "<!-- numbers -->", "<!-- end of numbers -->"
RETRAIN = {"exact", "datamodel", "ddm_corrected"}


def result(name: str) -> dict[str, Any]:
    """One committed result file."""
    return stored.read(stored.RESULTS / f"{name}.json")


def numbers() -> str:
    """The section as Markdown."""
    digits, mnist, bank = map(result, ("digits_convnet", "mnist_quick", "bank"))
    judged = list(_judged("fidelity_digits", "fidelity_digits_rivals"))
    parts = [_runs(digits, mnist), _backbones(result("backbones")), _fidelity(judged), _table(judged)]
    parts += [*_told(judged), *_slices(), _speed(bank), _how(bank)]
    return "\n\n".join(parts)


def _judged(*recipes: str) -> Iterator[Figures]:
    """Every method with results; one that stands in several recipes is taken from the first."""
    seen: set[str] = set()
    for recipe in recipes:
        for name, seeds in fidelity.results(recipe).items():
            if seeds and name not in seen:
                seen.add(name)
                yield Figures.of(name, seeds)


def _runs(digits: dict[str, Any], mnist: dict[str, Any]) -> str:
    rows = ["| recipe | test accuracy | clusters, mean matching cosine | seconds |", "|---|---|---|---|"]
    for name, found in (("digits_convnet", digits), ("mnist_quick", mnist)):
        matching = found["matching"]
        rows.append(
            f"| `{name}` | {found['target']['test_accuracy']:.1%} | {len(matching['cosine'])},"
            f" {matching['mean_cosine']:.2f} | {found['seconds']['total']:.0f} |"
        )
    return "\n".join(rows)


def _backbones(found: dict[str, Any]) -> str:
    """Every architecture of the paper on a slice of CIFAR-10."""
    named = {name: each for name, each in found.items() if name != "settings"}
    listed = "; ".join(
        f"{name} {each['mean_cosine']:.2f} ({each['distance']}, accuracy {each['test_accuracy']:.0%})"
        for name, each in named.items()
    )
    return (
        "The paper's four architectures, made narrow, on 2,000 images of CIFAR-10 for ten epochs with Table 5's"
        f" settings of matching (`benchmarks/backbones.py`), reach a mean matching cosine of: {listed}."
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one method over S seeds and the same N queries.

    Attributes:
        name: of the attributor.
        share: contribution of each query to the share of the oracle's Dist_1, float64 (S, N).
        lds: cluster LDS of each query, float64 (S, N); None for clusters of its own.
        misread: gain and room of each query where it was misread, summed over the seeds, float64 (N,) each.
        seeds: the result files.
    """

    name: str
    share: Tensor
    lds: Tensor | None
    misread: tuple[Tensor, Tensor]
    seeds: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, name: str, seeds: Sequence[dict[str, Any]]) -> Figures:
        """From the result files of a method."""

        def stacked(key: str) -> Tensor:
            return torch.tensor([each["queries"][key] for each in seeds], dtype=torch.float64)

        gain, room, misread = map(stacked, ("gain", "room", "misread"))
        lds = stacked("lds") if all("lds" in each["queries"] for each in seeds) else None
        return cls(name, share_values(gain, room), lds, ((gain * misread).sum(0), (room * misread).sum(0)), seeds)

    def seconds(self, when: str) -> float:
        """Seconds `offline` or `online` of the first seed, which was judged with nothing beside it."""
        return float(self.seeds[0]["figures"][f"seconds_{when}"])

    @property
    def misread_share(self) -> tuple[float, tuple[float, float]]:
        """The share for misread queries, all seeds together, and its interval over queries."""
        gain, room = (each[self.misread[1] > 0] for each in self.misread)
        judged = Judged(gain, torch.zeros_like(gain), room, gain, gain)
        return recovered_share(judged), recovered_share_interval(judged, torch.Generator().manual_seed(0))


def _fidelity(judged: Sequence[Figures]) -> str:
    seeds = judged[0].seeds
    floor, oracle = (mean(each["figures"][f"dist_1_{bound}"] for each in seeds) for bound in ("floor", "oracle"))
    num_misread = sum(each["figures"]["num_misread"] for each in seeds)
    accuracy = mean(each["test_accuracy"] for each in seeds)
    return (
        "Against exact retraining (`recipes/fidelity_digits.yaml`, by `benchmarks/fidelity.py`), over"
        f" {len(seeds)} seeds of everything but the split of the data: in each, 100 networks retrained without one"
        " cluster each and 40 without a random fifth of the clusters. *Share* is how far each method's first choice"
        f" goes from a random cluster (Dist_1 {floor:.2f}, times 100) to the best one ({oracle:.2f}), for all test"
        f" images and for the {num_misread} readings, of {len(seeds)} × {len(seeds[0]['queries']['gain'])}, that are"
        f" wrong (test accuracy {accuracy:.1%}). *LDS* is the rank correlation of summed effects with the truth over"
        " the 40 networks; *of sets*, that of networks which lack a whole set at once. *R²* is of single effects on the"
        " margin in their own unit: 1 - Σ(true - estimated)² / Σ true², mean and range over the seeds. Settings for"
        " which the recipe lists several values were chosen on a validation bank of their own; the others stand there"
        " as they are. Intervals are 95 %, over seeds and queries, for misread images over queries. Seconds are those"
        " of seed 0 on two cores:"
        " compare them within a column only. The sentences below the table compare methods on the same seeds and"
        " queries; what they do not tell apart, the order of the rows does not either."
    )


def _table(judged: Sequence[Figures]) -> str:
    rows = [
        "| method | share of the oracle's Dist_1 | for misread images | cluster LDS | LDS of sets | R² | seconds once"
        " | seconds for all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(judged, key=lambda each: -float(each.share.mean())):
        name = f"**{each.name}**" if each.name == "ddm" else each.name
        name += "" if len(each.seeds) == len(judged[0].seeds) else " (seed 0)"
        share, interval = each.misread_share
        cells = [
            f"{name} (retrains)" if each.name in RETRAIN else name,
            _percent(float(each.share.mean()), _interval(each.share)),
            _percent(share, interval),
            "–" if each.lds is None else "{:.2f} ({:.2f}–{:.2f})".format(float(each.lds.mean()), *_within(each.lds)),
            *(_over_seeds(each.seeds, figure) for figure in ("set_lds", "r2")),
            f"{each.seconds('offline'):.0f}",
            f"{each.seconds('online'):.1f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _over_seeds(seeds: Sequence[dict[str, Any]], name: str) -> str:
    """Mean and range of a figure over the seeds; effects of an unknown scale explain nothing of the true ones."""
    found = [each["figures"] for each in seeds]
    if any(name not in each for each in found):
        return "–"
    return "< 0" if mean(each[name] for each in found) < 0 else _range(found, name)


def _percent(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{value:.0%} ({max(low, -1.0):.0%}–{min(high, 1.0):.0%})"


def _within(values: Tensor) -> tuple[float, float]:
    low, high = _interval(values)
    return max(low, -1.0), min(high, 1.0)


def _interval(values: Tensor) -> tuple[float, float]:
    """Of values (S, N) over seeds and queries; over queries alone where there is one seed."""
    return crossed_interval(values) if len(values) > 1 else mean_interval(values.flatten())


def _told(judged: Sequence[Figures]) -> Iterator[str]:
    """Who is clearly ahead of and behind ddm, and what each of its parts is worth; paired over seeds and queries."""
    by_name = {each.name: each for each in judged}
    ours = by_name["ddm"]
    yield _beside_ddm(judged, "share", _shares, _interval)
    yield _beside_ddm(judged, "LDS", _lds, _interval)
    pairs = (
        ("gradient", "ddm", "the real gradient without any distillation, against the synset"),
        ("ddm_anchored", "retained", "the anchored step, against the same short training without a step"),
        ("ddm_match", "ddm", "ordinary matching, against reverse matching"),
    )
    told = [_difference(by_name, *pair) for pair in pairs if pair[0] in by_name and pair[1] in by_name]
    yield f"What each part is worth, as differences of the LDS: {'; '.join(told)}."
    networks = [each["networks"] for each in ours.seeds]
    cosine, ratio = (mean(each[f"displacement_{name}"] for each in networks) for name in ("cosine", "ratio"))
    yield (
        f"As networks, ddm's estimates have a mean cosine of {cosine:.2f} with the displacement that exact retraining"
        f" shows, which is {ratio:.0f} times as long."
    )


def _beside_ddm(
    judged: Sequence[Figures],
    what: str,
    values: Callable[[Figures], Any],
    interval: Callable[[Tensor], tuple[float, float]],
) -> str:
    """Who is clearly ahead of ddm, who behind, and who is not told from it, by the interval of the differences."""
    ours = next(each for each in judged if each.name == "ddm")
    rivals = [each for each in judged if each is not ours and each.name not in RETRAIN and values(each) is not None]
    within = {each.name: interval(values(each) - values(ours)[: len(values(each))]) for each in rivals}
    ahead = [name for name, (low, _) in within.items() if low > 0]
    behind = [name for name, (_, high) in within.items() if high < 0]
    untold = [name for name in within if name not in {*ahead, *behind}]
    return (
        f"By {what}, of the methods that do not retrain, clearly ahead of ddm: {_names(ahead)}; clearly behind it:"
        f" {_names(behind)}; not told from it: {_names(untold)}."
    )


def _shares(figures: Figures) -> Any:
    return figures.share


def _lds(figures: Figures) -> Any:
    return figures.lds


def _names(names: Sequence[str]) -> str:
    return listed([f"`{each}`" for each in names]) if names else "none"


def _difference(by_name: dict[str, Figures], one: str, other: str, what: str) -> str:
    difference = _lds(by_name[one]) - _lds(by_name[other])
    low, high = crossed_interval(difference)
    return f"`{one}` minus `{other}` {float(difference.mean()):+.2f} ({low:+.2f} to {high:+.2f}), {what}"


SLICES = {
    "fidelity_mnist": "On a slice of MNIST after eight epochs",
    "fidelity_cifar10": "On a slice of CIFAR-10 after twelve epochs",
}


def _slices() -> Iterator[str]:
    """One seed of a slice of each larger data set, after a short training."""
    for recipe, words in SLICES.items():
        judged = list(_judged(recipe, *([f"{recipe}_rivals"] if f"{recipe}_rivals" in fidelity.NAMES else [])))
        if not judged:
            continue
        figures = {each.name: each.seeds[0]["figures"] for each in judged}
        rows = ["| method | share of the oracle's Dist_1 | cluster LDS | LDS of sets | R² |", "|---|---|---|---|---|"]
        for name, each in sorted(figures.items(), key=lambda item: -item[1]["recovered_share"]):
            share = _percent(each["recovered_share"], tuple(each["recovered_share_interval"]))
            rest = " | ".join(_measured(each, figure) for figure in ("cluster_lds", "set_lds", "r2"))
            rows.append(f"| {name} | {share} | {rest} |")
        said = (
            f"{words} (`recipes/{recipe}.yaml`, test accuracy {judged[0].seeds[0]['test_accuracy']:.0%}) the true"
            f" effects of single clusters themselves reach an LDS of {figures['exact']['cluster_lds']:.2f}. This is one"
            " seed: intervals are over queries (and networks, for the LDS), and another seed may well differ by more."
        )
        yield said + "\n\n" + "\n".join(rows)
        yield _beside_ddm(judged, "share", _shares, lambda values: mean_interval(values.flatten()))


def _measured(figures: dict[str, Any], name: str) -> str:
    """A figure with its interval, or nothing where the method has none."""
    if name not in figures:
        return "–"
    low, high = figures[f"{name}_interval"]
    return f"{figures[name]:.2f} ({low:.2f}–{high:.2f})"


def _speed(bank: dict[str, Any]) -> str:
    return (
        f"Retraining itself is batched: the bank of {bank['bank_networks']} networks took {bank['bank_seconds']:.0f}"
        f" seconds, {bank['times_faster_than_the_best_plain_loop']:.1f} times faster than the best plain loop of"
        f" ordinary PyTorch in one process, with {bank['workers']} worker processes against it. Leave-one-out by ddm"
        f" took {bank['ddm_leave_one_out_seconds']:.2f} seconds for 100 networks and all test images,"
        f" {bank['ddm_times_faster_than_retraining_100']:.0f} times faster than that engine."
    )


def _how(bank: dict[str, Any]) -> str:
    return (
        f"On {bank['machine']}, by `make results`; the result files lie in `benchmarks/results/`, and"
        " `benchmarks/readme.py` wrote this section from them."
    )


def own_network() -> str:
    """What a network costs that comes with few checkpoints."""
    rows = [
        "| checkpoints | mean matching cosine | share of the oracle's Dist_1 (95 %) | difference from trained here |",
        "|---|---|---|---|",
    ]
    for name, found in result("own_network").items():
        share = _percent(found["recovered_share"], tuple(found["recovered_share_interval"]))
        low, high = found["difference_interval"]
        points = f"{100 * found['difference'] + 0.0:+.1f} points ({100 * low + 0.0:+.1f} to {100 * high + 0.0:+.1f})"
        rows.append(f"| {name} | {found['mean_cosine']:.2f} | {share} | {points if high > low else '–'} |")
    return "\n".join(rows)


def members() -> str:
    """How good rough shares of a cluster's members are, beside retraining without each of them."""
    found = result("members")
    rows = [
        "| members ordered by | for one test image: Spearman | first is right | for all: Spearman | first is right |",
        "|---|---|---|---|---|",
    ]
    for name, each in found["query"].items():
        told = [_order(each), _order(found["cluster"][name]) if name in found["cluster"] else "– | –"]
        rows.append(f"| {name} | {' | '.join(told)} |")
    said = (
        f"On the digits, the {found['num_members']} images of {found['num_clusters']} clusters were left out one at a"
        f" time, by exact retraining (`benchmarks/members.py`). Beside the {found['queries_each']} test images that"
        " each cluster changes most, and beside the changes of all test images together:"
    )
    return f"{said}\n\n" + "\n".join(rows)


def _order(found: dict[str, float]) -> str:
    return f"{found['spearman']:.2f} | {found['top_is_right']:.0%}"


def dial() -> str:
    """What each replayed epoch buys on the digits, as means over the seeds with their range."""
    found = result("dial")
    seeds = [found[name] for name in sorted(found) if name.isdigit()]
    rows = [
        "| E | LDS, effects added | LDS of sets | Spearman | R² | R² of sets | first question, s | second, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for epochs in seeds[0]:
        each = [{**seed[epochs], **seed[epochs].get("sets", {})} for seed in seeds]
        cells = [_range(each, name) for name in ("cluster_lds", "set_lds", "spearman", "r2", "set_r2")]
        cells += [f"{each[0][name]:.1f}" if name in each[0] else "–" for name in ("seconds_first", "seconds_again")]
        rows.append(f"| {epochs} | {' | '.join(cells)} |")
    said = "Mean and range over the seeds; seconds of 100 networks, on the first seed."
    return "\n".join(rows) + f"\n\n{said}\n\n{_steps()}\n\n{_corrected()}"


def _corrected() -> str:
    """What a few exact retrainings add as data, and how often the intervals of amounts hold the truth."""
    found = result("corrected")
    seeds = [found[name] for name in sorted(found) if name.isdigit()]
    names = ("cluster_lds", "set_lds", "r2", "set_r2")
    rows = ["| method | LDS, effects added | LDS of sets | R² | R² of sets |", "|---|---|---|---|---|"]
    for method in (name for name in seeds[0] if name != "amounts"):
        cells = " | ".join(_range([seed[method] for seed in seeds], name) for name in names)
        rows.append(f"| {method} | {cells} |")
    told = [
        "| replay | single clusters retrained | intervals that hold the truth (90 % wanted)"
        " | median width / median true effect |",
        "|---|---|---|---|",
    ]
    for epochs, singles in itertools.product(seeds[0]["amounts"], map(str, found["settings"]["singles"])):
        each = [seed["amounts"][epochs][singles] for seed in seeds]
        widths = [one["median_width"] / one["median_true_effect"] for one in each]
        spread = f"{mean(widths):.2f} ({min(widths):.2f}–{max(widths):.2f})"
        told.append(f"| {epochs} | {singles} | {_range(each, 'coverage')} | {spread} |")
    settings = found["settings"]
    return (
        f"With {settings['retrainings']} networks retrained without random fifths of the clusters, and a replay of"
        f" {settings['epochs']} epochs (`benchmarks/corrected.py`):\n\n"
        + "\n".join(rows)
        + "\n\nAmounts, with further networks without one cluster each, of the first cluster of every test image:\n\n"
        + "\n".join(told)
    )


def _steps() -> str:
    """Where the step leads and how long it is, on validation data: the best length and the default's figures."""
    found = result("steps")
    rows = [
        "| data, network | E | direction | LDS, added | R² | LDS of sets | R² of sets | best lengths: one, sets |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bed, (_, _, epochs) in found["settings"]["beds"].items():
        for count, direction in itertools.product(epochs, ("synset", "gradient", "influence")):
            lengths = found["settings"]["lengths"]
            each = {length: found.get(bed, {}).get(f"{count} {direction} {length}") for length in lengths}
            if None in each.values():
                continue
            best = [max(lengths, key=lambda length: each[length][name]) for name in ("lds 0.2", "set_lds 0.2")]
            cells = [f"{each[0.01][name]:.2f}" for name in ("lds 0.2", "r2", "set_lds 0.2", "set_r2 0.2")]
            rows.append(f"| {bed} | {count} | {direction} | {' | '.join(cells)} | {best[0]:g}, {best[1]:g} |")
    said = (
        "On validation data, figures at a length of 0.01 whatever the number of clusters (`benchmarks/steps.py`); best"
        " lengths are those of the highest LDS, for one cluster and for a fifth of them at once:"
    )
    return f"{said}\n\n" + "\n".join(rows)


def _range(seeds: Sequence[dict[str, Any]], name: str) -> str:
    values = [each[name] for each in seeds if name in each]
    return f"{mean(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else "–"


DATA = {"digits": "digits", "mnist": "MNIST slice", "cifar10": "CIFAR-10 slice"}


def peers() -> str:
    """What others would pick, beside ours, at the first size of each data set, and how each grows."""
    found = result("peers")
    parts = []
    for data, sizes in ((data, found[data]) for data in DATA if data in found):
        first = sizes["x1"]
        size = "{train:,} images, {groups} groups, {queries} queries".format(**first["size"])
        rows = [
            f"**{DATA[data]}**: {size}",
            "",
            "| method | LDS | R² | processor seconds | seconds once | seconds for queries | peak, MB | settings |",
            "|---|---|---|---|---|---|---|---|",
        ]
        done = {name: each for name, each in first["methods"].items() if "failed" not in each}
        for name, each in sorted(done.items(), key=lambda pair: -pair[1].get("lds", 0.0)):
            r2 = f"{each['r2']:.2f}" if "r2" in each else "–"
            seconds = f"{each['cpu_seconds']:.1f} | {each['seconds_once']:.1f} | {each['seconds_queries']:.1f}"
            settings = each["settings"] or "defaults"
            peak = f"{each['peak_bytes'] / 1e6:.0f}"
            rows.append(f"| {name} | {each['lds']:.2f} | {r2} | {seconds} | {peak} | {settings} |")
        rows += [
            f"| {name} | – | – | – | – | – | – | {each['failed']} |"
            for name, each in first["methods"].items()
            if "failed" in each
        ]
        parts.append("\n".join(rows))
        parts += [_growth(data, sizes)] if len(sizes) > 1 else []
    return "\n\n".join(parts)


def _growth(data: str, sizes: dict[str, Any]) -> str:
    """Processor seconds and peak memory as one of N, K and the number of queries grows."""
    names = list(dict.fromkeys(name for each in sizes.values() for name in each["methods"]))
    rows = [
        f"{DATA[data]}, processor seconds and peak in MB, as one size grows:",
        "",
        f"| method | {' | '.join(sizes)} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for name in names:
        cells = [_cost(each["methods"].get(name)) for each in sizes.values()]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cost(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    if "failed" in found:
        return str(found["failed"])
    return f"{found['cpu_seconds']:.0f} s, {found['peak_bytes'] / 1e6:.0f}"


def costs() -> str:
    """What was foretold and what was measured, and what is foretold of sizes that no processor runs."""
    if not (stored.RESULTS / "costs.json").exists():
        return "Not measured yet; `python benchmarks/costs.py MNIST` does it."
    found = result("costs")
    measured = {name: each for name, each in found.items() if isinstance(each, dict) and "total_seconds" in each}
    rows = ["| run | what | foretold | measured |", "|---|---|---|---|"]
    for name, each in measured.items():
        for part, pair in {**each["seconds"], "in all": each["total_seconds"]}.items():
            rows.append(f"| {name} | {part} | {pair['predicted']:.1f} s | {pair['measured']:.1f} s |")
        for part, key in (("memory at most", "memory_bytes"), ("disk", "disk_bytes")):
            pair = each[key]
            rows.append(f"| {name} | {part} | {in_words(pair['predicted'])} | {in_words(pair['measured'])} |")
    larger = ["| run | part | foretold | memory at most | on disk |", "|---|---|---|---|---|"]
    for name in ("CIFAR-10", "ImageNet"):
        if name not in found:
            continue
        for part, each in {**found[name]["stages"], "in all": found[name]["total"]}.items():
            sizes = f"{in_words(each['memory_bytes'])} | {in_words(each['disk_bytes'])}"
            larger.append(f"| {name} | {part} | {duration(each['seconds'])} | {sizes} |")
    said = (
        "CIFAR-10 is `cifar10_convnet` as the paper has it, with a certificate of twenty retrainings; ImageNet is"
        " timm's ResNet-18 with group norm on 1.28 million images of 224 pixels, 90 epochs, ten clusters a class, the"
        " last ten epochs replayed for each of 10,001 networks and twenty retrainings, on one thread of this machine"
        f" ({found['machine']}):"
    )
    return "\n".join(rows) + (f"\n\n{said}\n\n" + "\n".join(larger) if len(larger) > 2 else "")


def pages() -> dict[Path, str]:
    """Every page with its figures written anew."""
    written = (
        (README, numbers()),
        (OWN_NETWORK, own_network()),
        (DIAL, dial()),
        (OWN_IMAGES, members()),
        (PEERS, peers()),
        (MANY_MACHINES, costs()),
    )
    return {path: _rendered(path, text) for path, text in written}


def _rendered(path: Path, text: str) -> str:
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write, or compare and leave with status 1 if they differ."""
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
        sys.exit(f"{', '.join(stale)}: not the committed results; run benchmarks/readme.py" if stale else 0)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

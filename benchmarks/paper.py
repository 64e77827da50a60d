"""Run the small variants of the paper's tables and figures, and write RESULTS.md from their committed result files.

python benchmarks/paper.py DATA [NAME ...]   runs recipes/paper/NAME_small.yaml (all whose result is missing or older
                                             than the recipe, if none is named), keeps what they find in
                                             benchmarks/results/paper/, and writes RESULTS.md
python benchmarks/paper.py --words           says anew what the stored figures show, and writes RESULTS.md; runs nothing
python benchmarks/paper.py --check           fails if RESULTS.md is not what the result files say, a stored sentence is
                                             not what the code says of the stored figures, or a result is older than its
                                             recipe

DATA is the folder that holds MNIST, cifar-10-batches-py, cifar-100-python and tiny-imagenet-200. Where it holds
cifar10_6k.npz or cifar100_20c.npz instead, these parts of the two data sets are taken, and the result says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import stored as files
from ddm_studies.comparison.paper import Findings

import ddm_framework
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.runs.run_folder import RunFolder

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent / "recipes" / "paper"
STORED = HERE / "results" / "paper"
PAGE = HERE.parent / "RESULTS.md"
PARTS = {"cifar10": "cifar10_6k.npz", "cifar100": "cifar100_20c.npz"}
LEFT = ("use", "root", "download")
"""Keys of a data set that its part has no use for; a further one that `npz` does not know is refused by it."""
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def main() -> None:
    """Run what was asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--words", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        sys.exit("\n".join(problems()) or 0)
    if asked.words:
        for name in filter(is_stored, names()):
            say_anew(name)
    if asked.data is not None:
        for name in asked.names or [each for each in names() if not is_current(each)]:
            run(name, asked.data.resolve())
    PAGE.write_text(page(), encoding="utf-8")


def names() -> list[str]:
    """Of every small variant, without the ending."""
    return sorted(path.stem.removesuffix("_small") for path in RECIPES.glob("*_small.yaml"))


def stored(name: str) -> Path:
    """The result file of a small variant."""
    return STORED / f"{name}_small.json"


def is_stored(name: str) -> bool:
    """Whether a small variant has a result."""
    return stored(name).is_file()


def digest(name: str) -> str:
    """Of the recipe of a small variant."""
    return files.digest(files.tree(RECIPES / f"{name}_small.yaml"))


def is_current(name: str) -> bool:
    """Whether a small variant has a result that is not older than its recipe."""
    return is_stored(name) and files.read(stored(name)).get("recipe_digest") == digest(name)


def problems() -> Iterator[str]:
    """What is stale: a result, a sentence or the page."""
    for name in filter(is_stored, names()):
        result = files.read(stored(name))
        if not is_current(name):
            yield f"{name}: the result is older than the recipe; run benchmarks/paper.py DATA {name}"
        told = findings(result)
        if (list(told.sentences), claims(told)) != (result["comparison"]["sentences"], result["comparison"]["claims"]):
            yield f"{name}: the code says something else of the stored figures; run benchmarks/paper.py --words"
    if PAGE.read_text(encoding="utf-8") != page():
        yield "RESULTS.md is stale; run benchmarks/paper.py"


def findings(result: dict[str, Any]) -> Findings:
    """What the code says of the stored figures of a result."""
    study = files.tree(RECIPES / f"{result['recipe']}.yaml")["study"]["use"]
    target = load_plugins().get("study", study).load()
    found: Findings = import_module(target.__module__).findings(result["metrics"])
    return found


def claims(told: Findings) -> list[dict[str, Any]]:
    """The paper's claims with their outcomes, as they are stored."""
    return [asdict(each) for each in told.claims]


def say_anew(name: str) -> None:
    """Replace the stored sentences of a result by what the code says now."""
    result = files.read(stored(name))
    told = findings(result)
    result["comparison"] |= {"sentences": list(told.sentences), "claims": claims(told)}
    files.write(stored(name), result)


def run(name: str, data: Path) -> None:
    """Run a small variant and keep what it found."""
    recipe = RECIPES / f"{name}_small.yaml"
    settings, out = source(recipe, data), Path("runs", "paper", name)
    RunFolder.open(out).discard(["online"])  # a result is always measured anew, never taken from an earlier run
    found = ddm_framework.run(recipe, settings, out=out, fresh=True)
    kept = {
        "recipe": recipe.stem,
        "recipe_digest": digest(name),
        "data": f"a part of {dataset(recipe)['use']}" if "dataset.use=npz" in settings else "the data set",
        "machine": files.machine(found.workspace.device.type),
        "comparison": found.metrics["comparison"],
        "metrics": {key: value for key, value in found.metrics.items() if key not in ("comparison", "matching")},
        "mean_cosine": found.metrics["matching"]["mean_cosine"],
    }
    files.write(stored(name), kept)
    print(f"{name}: {found.metrics['seconds']['total']:.0f} s", flush=True)


def source(recipe: Path, data: Path) -> list[str]:
    """Settings that point a recipe at the data."""
    wanted = dataset(recipe)
    use = wanted["use"]
    if use == "digits":
        return []
    if use in PARTS and not (data / FOLDERS[use]).is_dir() and (data / PARTS[use]).is_file():
        kept = {key: value for key, value in wanted.items() if key not in LEFT}
        return ["dataset.use=npz", f"dataset.path={data / PARTS[use]}", *(f"dataset.{k}={v}" for k, v in kept.items())]
    return [f"dataset.root={data}", *(["dataset.cache=null"] if "cache" in wanted else [])]


def dataset(recipe: Path) -> dict[str, Any]:
    """The section of a recipe, with what it extends."""
    found: dict[str, Any] = files.tree(recipe)["dataset"]
    return found


def page() -> str:
    """RESULTS.md."""
    results = {name: files.read(stored(name)) for name in names() if is_stored(name)}
    parts = [INTRODUCTION.strip(), summary(results), MADE.strip(), *map(section, results.values())]
    missing = [name for name in names() if name not in results]
    if missing:
        parts.append("## Not run yet\n\n" + ", ".join(f"`{name}_small`" for name in missing) + ".")
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """
# The paper's tables and figures, and ours

What the paper claims, what we measured of it, and how it came out, by one rule. A claim **holds** where the 95 %
interval of our figure lies wholly on the claim's side, and **does not hold** where it lies wholly on the other side.
It is **not told** where the interval contains the border, and **cannot be tested at this size** where nothing measured
here can decide it, for the reason that is given. A claim about several methods holds only if it holds against each of
them, and one clear loss refutes it; a mean over pairs is judged as that mean. A figure without an interval, such as a
number of bytes, decides as it is. The code of each study applies the rule to the stored figures; nobody words an
outcome by hand.
"""
MADE = """
Table 5 lists settings, which the recipes have; Fig. 1 and 2 are drawings. Each part below was made by one recipe under
`recipes/paper/`, its `_small` variant; its sizes and the machine stand with it. The recipes without `_small` have the
paper's own sizes and want an accelerator; none of them has been run. `python benchmarks/paper.py DATA` ran these and
wrote this page from `benchmarks/results/paper/`; `--check` fails where a sentence, an outcome or a result is older
than the code or the recipe that made it. A slice of the data and a narrow network are not the paper's setting: compare
the order of methods, not the values. Every result is of one network and one seed; intervals are 95 %, over queries,
clusters or replicates. Seconds are those of the run; exact retrainings that an earlier table on the same network has
left are not made again.
"""
DATA_SETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tinyimagenet": "TinyImageNet"}


def summary(results: dict[str, dict[str, Any]]) -> str:
    """One row for each claim about a table or figure, over the data sets that it was measured on."""
    rows = ["| | the paper claims | what we measured | outcome |", "|---|---|---|---|"]
    found: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {}
    for name, result in results.items():
        for each in result["comparison"].get("claims", []):
            found.setdefault((result["comparison"]["source"], each["claim"]), []).append((name, each))
    for (source_, claim), measured in sorted(found.items(), key=lambda item: order(item[0][0])):
        told = "; ".join(f"[{title(name)}](#{name}): {each['measured']}" for name, each in measured)
        rows.append("| " + " | ".join(cell(each) for each in (source_, claim, told, outcome(measured))) + " |")
    return "\n".join(rows)


def order(source_: str) -> tuple[int, int, str]:
    """Tables, then figures, by their numbers, then the rest."""
    kind, _, number_ = source_.partition(" ")
    kinds = ("Table", "Fig.")
    return (kinds.index(kind) if kind in kinds else len(kinds), int(number_) if number_.isdecimal() else 0, source_)


def title(name: str) -> str:
    """`MNIST`, or `MNIST, labels` for `table6_labels_mnist`."""
    *middle, last = name.split("_")[1:]
    return ", ".join([DATA_SETS.get(last, last), *middle])


def outcome(measured: list[tuple[str, dict[str, Any]]]) -> str:
    """In one word where all data sets agree."""
    outcomes = [each["outcome"] for _, each in measured]
    if len(set(outcomes)) == 1:
        return f"**{outcomes[0]}**"
    return "; ".join(f"{title(name)}: **{each}**" for (name, _), each in zip(measured, outcomes, strict=True))


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|")


def section(result: dict[str, Any]) -> str:
    """One table or figure."""
    compared = result["comparison"]
    rows = ["| | figure | paper | ours | 95 % interval | note |", "|---|---|---|---|---|---|"]
    for each in compared["figures"]:
        interval = "" if each["interval"] is None else " to ".join(f"{bound:.3g}" for bound in each["interval"])
        cells = [each["row"], each["column"], number(each["paper"]), number(each["ours"]), interval, each["note"]]
        rows.append("| " + " | ".join(map(cell, cells)) + " |")
    told = "\n".join(f"- {sentence}" for sentence in compared["sentences"])
    made = (
        f"`{result['recipe']}` on {result['data']}: {compared['sizes']}; {result['metrics']['seconds']['total']:.0f}"
        f" seconds on {result['machine']}."
    )
    name = result["recipe"].removesuffix("_small")
    heading = f'<a id="{name}"></a>\n\n## {compared["source"]}: {compared["title"]} ({name})'
    return "\n\n".join([heading, made, "\n".join(rows), told])


def number(value: float | None) -> str:
    """With four significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    main()

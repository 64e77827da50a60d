"""Run the small variants of the paper's tables and figures, and write RESULTS.md from their committed result files.

python benchmarks/paper.py DATA [NAME ...]   runs recipes/paper/NAME_small.yaml (all that have no result yet, if none
                                             is named), keeps what they find in benchmarks/results/paper/, and writes
                                             RESULTS.md
python benchmarks/paper.py --check           fails if RESULTS.md is not what the result files say

DATA is the folder that holds MNIST, cifar-10-batches-py, cifar-100-python and tiny-imagenet-200. Where it holds
cifar10_6k.npz or cifar100_20c.npz instead, these parts of the two data sets are taken, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import ddm_framework
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
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else "RESULTS.md is stale; run benchmarks/paper.py")
    if asked.data is not None:
        for name in asked.names or [each for each in names() if not stored(each).is_file()]:
            run(name, asked.data.resolve())
    PAGE.write_text(page(), encoding="utf-8")


def names() -> list[str]:
    """Of every small variant, without the ending."""
    return sorted(path.stem.removesuffix("_small") for path in RECIPES.glob("*_small.yaml"))


def stored(name: str) -> Path:
    """The result file of a small variant."""
    return STORED / f"{name}_small.json"


def run(name: str, data: Path) -> None:
    """Run a small variant and keep what it found."""
    recipe = RECIPES / f"{name}_small.yaml"
    settings, out = source(recipe, data), Path("runs", "paper", name)
    # A study's code is no input of its stage: what an older version of it found must not be taken for its answer.
    RunFolder.open(out).discard(["online"])
    found = ddm_framework.run(recipe, settings, out=out, fresh=True)
    kept = {
        "recipe": recipe.stem,
        "data": f"a part of {dataset(recipe)['use']}" if "dataset.use=npz" in settings else "the data set",
        "machine": f"{platform.machine()} ({os.cpu_count()} cores), {found.workspace.device.type},"
        f" torch {torch.__version__}",
        "comparison": found.metrics["comparison"],
        "metrics": {key: value for key, value in found.metrics.items() if key not in ("comparison", "matching")},
        "mean_cosine": found.metrics["matching"]["mean_cosine"],
    }
    STORED.mkdir(parents=True, exist_ok=True)
    stored(name).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
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
    tree = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    below = dataset(recipe.parent / tree["extends"]) if "extends" in tree else {}
    own: dict[str, Any] = tree.get("dataset", {})
    return own if "use" in own and own["use"] != below.get("use") else {**below, **own}


def page() -> str:
    """RESULTS.md."""
    parts = [INTRODUCTION.strip()]
    results = [json.loads(stored(name).read_text(encoding="utf-8")) for name in names() if stored(name).is_file()]
    parts += [section(each) for each in results]
    missing = [name for name in names() if not stored(name).is_file()]
    if missing:
        parts.append("## Not run yet\n\n" + ", ".join(f"`{name}_small`" for name in missing) + ".")
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """
# The paper's tables and figures, and ours

Each part was made by one recipe under `recipes/paper/`, its `_small` variant; its sizes and the machine stand with it.
The recipes without `_small` have the paper's own sizes and want an accelerator; none of them has been run.
`python benchmarks/paper.py DATA` ran these and wrote this page from `benchmarks/results/paper/`. A slice of the data
and a narrow network are not the paper's setting: compare the order of methods, not the values. Intervals are 95 %.
Seconds are those of the run; exact retrainings that an earlier table on the same network has left are not made again.
"""


def section(result: dict[str, Any]) -> str:
    """One table or figure."""
    compared = result["comparison"]
    rows = ["| | figure | paper | ours | 95 % interval | note |", "|---|---|---|---|---|---|"]
    for each in compared["figures"]:
        interval = "" if each["interval"] is None else " to ".join(f"{bound:.3g}" for bound in each["interval"])
        cells = [each["row"], each["column"], number(each["paper"]), number(each["ours"]), interval, each["note"]]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    told = "\n".join(f"- {sentence}" for sentence in compared["sentences"])
    made = (
        f"`{result['recipe']}` on {result['data']}: {compared['sizes']}; {result['metrics']['seconds']['total']:.0f}"
        f" seconds on {result['machine']}."
    )
    title = f"## {compared['source']}: {compared['title']} ({result['recipe'].removesuffix('_small')})"
    return "\n\n".join([title, made, "\n".join(rows), told])


def number(value: float | None) -> str:
    """With four significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    main()

"""Judge every method of a fidelity recipe by exact retraining, over several seeds, and keep each result as it comes.

python benchmarks/fidelity.py fidelity_digits                    seeds 0, 1 and 2
python benchmarks/fidelity.py fidelity_mnist DATA --seeds 0      DATA holds MNIST
python benchmarks/fidelity.py fidelity_cifar10 DATA --seeds 0    DATA holds CIFAR-10, or is an .npz file of its images

A seed changes the initial weights, the batch order, the clusters, the synset, the random deletions that the LDS is
measured on and every method's own draws, but not the split of the data. Each seed has one run folder, in which the
network and the exact retrainings are made once. A result lies in benchmarks/results/NAME/SEED_METHOD.json; one that is
not older than its recipe is not made again, so an interrupted command is resumed by giving it again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stored
from ddm_studies import fidelity
from ddm_studies.comparison.grids import decided, judge_each
from torch import Tensor

import ddm_framework
from ddm_framework.plugin.choosing import choose_grid

NAMES = (
    "fidelity_digits",
    "fidelity_digits_rivals",
    "fidelity_mnist",
    "fidelity_mnist_rivals",
    "fidelity_cifar10",
)
SEEDS = (0, 1, 2)
DIGITS = 5
"""Significant digits of the values of single queries."""


def main() -> None:
    """Judge what has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    asked = parser.parse_args()
    settings = [] if asked.data is None else stored.source(asked.data)
    for seed in asked.seeds:
        missing = [each for each in methods(asked.name) if not is_current(asked.name, seed, each)]
        if missing:
            bench = Bench(asked.name, seed, settings)
            print(f"{asked.name}, seed {seed}: {bench.seconds:.0f} s for what all methods share", flush=True)
            for method in missing:
                bench.measure(method)


def methods(name: str) -> list[dict[str, Any]]:
    """The methods of a recipe, each as it is written there; no attributor is used twice."""
    listed: list[dict[str, Any]] = stored.tree(stored.RECIPES / f"{name}.yaml")["study"]["methods"]
    return listed


def file_of(name: str, seed: int, method: dict[str, Any]) -> Path:
    """Where the result of one method and seed lies."""
    return stored.RESULTS / name / f"{seed}_{method['use']}.json"


def digest(name: str, method: dict[str, Any]) -> str:
    """Of the recipe with this method alone, so that a further method leaves the results of the others as they are."""
    recipe = stored.tree(stored.RECIPES / f"{name}.yaml")
    return stored.digest({**recipe, "study": {**recipe["study"], "methods": [method]}})


def is_current(name: str, seed: int, method: dict[str, Any]) -> bool:
    """Whether there is a result that is not older than its recipe."""
    path = file_of(name, seed, method)
    return path.is_file() and stored.read(path)["recipe_digest"] == digest(name, method)


def results(name: str) -> dict[str, list[dict[str, Any]]]:
    """The committed results by method, each over its seeds."""
    return {
        method["use"]: [stored.read(path) for seed in SEEDS if (path := file_of(name, seed, method)).is_file()]
        for method in methods(name)
    }


class Bench:
    """One seed of a recipe: its network, its exact retrainings and the truth on its queries, each made once."""

    def __init__(self, name: str, seed: int, settings: Sequence[str]) -> None:
        self.name, self.seed = name, seed
        begun = time.monotonic()
        first = json.dumps(methods(name)[:1])
        chosen = [f"seed={seed}", f"study.methods={first}", *settings]
        out = Path("runs", "results", f"{name}_{seed}")
        self.run = ddm_framework.run(stored.RECIPES / f"{name}.yaml", chosen, out=out, fresh=True)
        self.options = self.run.workspace.recipe.study.options
        asked = {key: self.options[key] for key in ("queries", "masks", "deleted", "resamples")}
        self.judge = fidelity.judge_of(self.run.workspace, **asked)
        self.seconds = time.monotonic() - begun
        """Seconds of everything that the methods share."""

    def measure(self, method: dict[str, Any]) -> None:
        """Judge one method and keep what was found."""
        begun = time.monotonic()
        workspace, use = self.run.workspace, method["use"]
        grid = choose_grid(workspace.registry, "attributor", use, {k: v for k, v in method.items() if k != "use"})
        settled = decided(workspace, [grid], self.options["validation_masks"], self.options["deleted"])
        (found,) = judge_each(self.judge, settled)
        networks = self.run.metrics["fidelity"]["networks"] if use == "ddm" else {}
        kept = {
            "recipe": self.name,
            "recipe_digest": digest(self.name, method),
            "seed": self.seed,
            "method": method,
            "settings": found.settings,
            "machine": stored.machine(workspace.device.type),
            "seconds": time.monotonic() - begun,
            "seconds_shared": self.seconds,
            "bank_seconds": self.run.metrics["fidelity"]["exact"]["seconds_offline"],
            "test_accuracy": self.run.metrics["target"]["test_accuracy"],
            "mean_cosine": self.run.metrics["matching"]["mean_cosine"],
            "networks": networks,
            "figures": found.figures,
            "queries": {
                key.rpartition(".")[2]: _rounded(each) for key, each in fidelity.per_query(self.judge, [found]).items()
            },
        }
        stored.write(file_of(self.name, self.seed, method), kept, indent=None)
        print(f"{self.name}, seed {self.seed}, {use}: {kept['seconds']:.0f} s", flush=True)


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]


if __name__ == "__main__":
    main()

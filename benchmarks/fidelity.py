"""Judge every method of a fidelity recipe by exact retraining, over several seeds, and keep each result as it comes.

python benchmarks/fidelity.py fidelity_digits                    seeds 0, 1 and 2
python benchmarks/fidelity.py fidelity_mnist DATA --seeds 0      DATA holds MNIST

A seed changes the initial weights, the batch order, the clusters, the synset, the random deletions that the LDS is
measured on and every method's own draws, but not the split of the data. Each seed has one run folder, in which the
network and the exact retrainings are made once. A result lies in benchmarks/results/NAME/SEED_METHOD.json; one that is
not older than its recipe is not made again, so an interrupted command is resumed by giving it again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stored
from torch import Tensor

import ddm_framework
from ddm_framework.api import Run
from ddm_framework.runs.tensor_files import load_tensors

SEEDS = (0, 1, 2)
DIGITS = 5
"""Significant digits of the values of single queries."""


def main() -> None:
    """Judge what has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["fidelity_digits", "fidelity_mnist"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    asked = parser.parse_args()
    settings = [] if asked.data is None else [f"dataset.root={asked.data.resolve()}"]
    for seed in asked.seeds:
        for method in methods(asked.name):
            if not is_current(asked.name, seed, method):
                judge(asked.name, seed, method, settings)


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


def judge(name: str, seed: int, method: dict[str, Any], settings: Sequence[str]) -> None:
    """Run one method of one seed and keep what it found."""
    out = Path("runs", "results", f"{name}_{seed}")
    chosen = [f"seed={seed}", f"study.methods={json.dumps([method])}", *settings]
    run = ddm_framework.run(stored.RECIPES / f"{name}.yaml", chosen, out=out, fresh=True)
    found = run.metrics["fidelity"]
    kept = {
        "recipe": name,
        "recipe_digest": digest(name, method),
        "seed": seed,
        "method": method,
        "machine": stored.machine(run.workspace.device.type),
        "seconds": run.metrics["seconds"]["total"],
        "bank_seconds": found["exact"]["seconds_offline"],
        "test_accuracy": run.metrics["target"]["test_accuracy"],
        "mean_cosine": run.metrics["matching"]["mean_cosine"],
        "networks": found["networks"],
        "figures": found[method["use"]],
        "queries": _queries(run),
    }
    stored.write(file_of(name, seed, method), kept, indent=None)
    print(f"{name}, seed {seed}, {method['use']}: {kept['seconds']:.0f} s", flush=True)


def _queries(run: Run) -> dict[str, list[float]]:
    """What each query contributes: gain, room, LDS and whether it was misread."""
    tensors = load_tensors(run.workspace.folder.file("online", "attribution.safetensors"))
    return {key.rpartition(".")[2]: _rounded(each) for key, each in tensors.items()}


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]


if __name__ == "__main__":
    main()

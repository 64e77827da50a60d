"""How long the step before a replay should be, for one cluster and for sets, over data, networks and directions.

    python benchmarks/steps.py MNIST CIFAR10 [--only NAME]    (twenty minutes; writes benchmarks/results/steps.json)

MNIST is the folder that holds MNIST, CIFAR10 that of cifar-10-batches-py, or an .npz file with (part of) the images.
Everything is measured on the validation split and on a seed that no other benchmark uses, because the default lengths
of the settings are chosen from it. For each number of epochs, direction and length it holds the LDS, Spearman and R² of
single deletions, and the LDS and R² of networks without sets of three sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import stored
import torch
from ddm_studies.comparison.judging import Judge, scoring_masks
from torch import Tensor

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.truth import cluster_lds, explained, leave_one_out_spearman, set_lds

RESULT = stored.RESULTS / "steps.json"
SEED = 10
LENGTHS = (0.0025, 0.005, 0.01, 0.02)
SHARES, MASKS = (0.05, 0.2, 0.5), 16
"""Shares of the clusters that the networks of sets lack, and networks for each share."""
DIRECTIONS = ("synset", "gradient", "influence")
ONE_STUDY = ['study={"use": "attribution", "show": 0}', f"seed={SEED}", "threads=1"]
CIFAR = ["dataset.train_size=1500", "dataset.test_size=500", "training.epochs=12", "training.lr=0.1"]
BEDS: dict[str, tuple[str, list[str], tuple[int, ...]]] = {
    "digits, convnet": ("fidelity_digits", [], (2, 5)),
    "digits, vit": (
        "fidelity_digits",
        ['backbone={"use": "vit", "patch_size": 2, "width": 32, "depth": 2, "heads": 2}', "training.lr=0.1"],
        (2, 5),
    ),
    "MNIST slice, convnet": (
        "fidelity_mnist",
        ["training.checkpoint_every=1", "dataset.train_size=1000", "clusterer.clusters_per_class=5"],
        (1, 2),
    ),
    "CIFAR-10 slice, convnet": (
        "cifar10_convnet",
        [*CIFAR, "training.batch_size=32", "backbone.width=8", "clusterer.clusters_per_class=5"],
        (1, 2),
    ),
}
"""Recipe, changes and numbers of epochs; the first is what `replay: auto` gives, or near it."""


def main() -> None:
    """Measure each bed that the result file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--only", choices=list(BEDS), help="measure this bed again")
    given = parser.parse_args()
    found: dict[str, Any] = stored.read(RESULT) if RESULT.exists() else {}
    found["settings"] = {"seed": SEED, "lengths": LENGTHS, "shares": SHARES, "masks": MASKS, "beds": BEDS}
    for name, (recipe, changes, epochs) in BEDS.items():
        if name in found and name != given.only:
            continue
        out = Path("runs", "results", f"steps_{name.replace(', ', '_').replace(' ', '_')}")
        asked = [*_source(recipe, given.mnist, given.cifar10), *changes, *ONE_STUDY]
        found[name] = _measured(ddm_framework.run(stored.RECIPES / f"{recipe}.yaml", asked, out=out), epochs)
        found["machine"] = stored.machine("cpu")
        stored.write(RESULT, found)


def _source(recipe: str, mnist: Path, cifar10: Path) -> list[str]:
    if recipe.startswith("fidelity_digits"):
        return []
    return stored.source(cifar10 if recipe.startswith("cifar10") else mnist)


def _measured(run: ddm_framework.Run, epochs: tuple[int, ...]) -> dict[str, Any]:
    """Every combination on the validation split of one run, and what added exact effects would reach."""
    workspace, queries = run.workspace, run.workspace.queries_of("validation")
    judges = {
        share: Judge(workspace, queries, scoring_masks(workspace, MASKS, share, f"step {share}")) for share in SHARES
    }
    own = judges[SHARES[0]].behaviours(workspace.target_logits(queries.images)[None], workspace.objective("margin"))
    singles = judges[SHARES[0]].truth(workspace.partition, workspace.objective("margin")) - own.T
    rows: dict[str, Any] = {"accuracy": workspace.accuracy("test"), "exact": _added(singles, singles, judges)}
    for count in epochs:
        for direction in DIRECTIONS:
            for length in LENGTHS:
                asked = workspace.with_online(
                    replay=count, replay_step_size=length, replay_set_power=0.0, direction=direction, keep_mb=0
                )
                rows[f"{count} {direction} {length}"] = figures = _figures(asked, singles, own, judges)
                print(run.path.name, count, direction, length, figures, flush=True)
    return rows


def _figures(workspace: Workspace, singles: Tensor, own: Tensor, judges: dict[float, Judge]) -> dict[str, float]:
    queries, margin = next(iter(judges.values())).queries, workspace.objective("margin")
    alone = 1 - torch.eye(len(singles.T))
    effect = workspace.set_effects(alone, queries, margin, "single deletions")[:, :, 0].T.contiguous().cpu()
    found = _added(effect, singles, judges)
    for share, judge in judges.items():
        sets = workspace.set_effects(judge.perturbations, queries, margin, "sets")[:, :, 0].T.contiguous().cpu()
        truth = (judge.masked_margins.cpu() - own).T.contiguous()
        found[f"set_lds {share}"] = float(set_lds(sets, judge.masked_margins).mean())
        found[f"set_r2 {share}"] = explained(sets, truth)
    return {key: round(value, 4) for key, value in found.items()}


def _added(effect: Tensor, singles: Tensor, judges: dict[float, Judge]) -> dict[str, float]:
    """Figures of single deletions, and of their effects added up."""
    lds = {
        f"lds {share}": float(cluster_lds(effect, judge.masked_margins, judge.perturbations).mean())
        for share, judge in judges.items()
    }
    return {
        "spearman": float(leave_one_out_spearman(effect, singles).mean()),
        "r2": explained(effect, singles),
        **{key: round(value, 4) for key, value in lds.items()},
    }


if __name__ == "__main__":
    main()

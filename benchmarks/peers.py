"""ddm beside what a user would pick instead: the same network, data and groups, one run, quality beside what it costs.

    python benchmarks/peers.py DATA [--data digits] [--size x1] [--method NAME] [--again] [--limit S] [--memory GB]

DATA holds MNIST and cifar10_6k.npz (or cifar-10-batches-py). Each measurement is a fresh process of one thread
(benchmarks/peer_methods.py), ended at its limit of time or memory, and is written to benchmarks/results/peers.json as
soon as it is done; what is there already is left alone without --again. `x1` is each data set's first size; in the
others one of N, K and the number of queries is 4 or 16 times as large. Quality is measured against exact retrainings
that this script makes once for each size and that belong to no method: the LDS, and for methods that tell amounts the
R², of the margins of networks without random fifths of the groups, as the added effects foretell them. Needs the extras
`compare` and `test`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import peer_methods
import stored
import torch
from peer_methods import METHODS, margin
from watching import watched

import ddm_framework
from ddm_framework.network.training import _order
from ddm_framework.online import random_deletions
from ddm_framework.truth import bank_logits, cluster_lds, explained, retrained

RESULT = stored.RESULTS / "peers.json"
RUNS = Path("runs", "results", "peers")
MASKS, DELETED = 24, 0.2
TRUE_FOR = 4000
"""Training images up to which the truth is made: retraining costs in proportion to them."""


@dataclass(frozen=True)
class Size:
    """Training images, groups and queries."""

    train: int
    groups: int
    queries: int


FIRST = {"digits": Size(1258, 100, 96), "mnist": Size(1000, 20, 24), "cifar10": Size(1000, 20, 24)}
RECIPES = {"digits": "fidelity_digits", "mnist": "fidelity_mnist", "cifar10": "fidelity_cifar10"}
LARGEST = {"digits": Size(1258, 400, 396), "mnist": Size(54000, 10**6, 500), "cifar10": Size(5000, 10**6, 500)}
"""What there is of the data, and for digits groups of three images at least."""


def sizes(data: str) -> dict[str, Size]:
    """`x1`, and those with N, K or the queries four and sixteen times as large, as far as the data go."""
    first, most = FIRST[data], LARGEST[data]
    found = {"x1": first}
    for name, field in (("N", "train"), ("K", "groups"), ("queries", "queries")):
        for factor in (4, 16):
            value = factor * getattr(first, field)
            if value <= getattr(most, field):
                found[f"{name} x{factor}"] = replace(first, **{field: value})
    return found


def prepared(data: str, size: Size, source: Path) -> Path:
    """A folder with the task of a size: a target trained by ddm, its checkpoints, groups and orders of batches."""
    folder = RUNS / f"{data}_{size.train}_{size.groups}_{size.queries}"
    if (folder / "task.pt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    recipe, tree = stored.RECIPES / f"{RECIPES[data]}.yaml", stored.tree(stored.RECIPES / f"{RECIPES[data]}.yaml")
    asked = {
        "study": '{"use": "attribution", "queries": 1, "show": 0}',
        "clusterer.clusters_per_class": size.groups // 10,
        "training.checkpoint_every": 1,
        "training.augmentation": "[]",
        "threads": 1,
        "device": "cpu",
    }
    if data != "digits":
        asked |= {"dataset.train_size": math.ceil(size.train / 0.9), "dataset.test_size": 500}
    if data == "cifar10":
        asked |= {"matching.step_length": tree["matching"].get("step_length", 4)}
    root = {"digits": [], "mnist": [f"dataset.root={source.resolve()}"], "cifar10": _cifar10(source)}[data]
    settings = [*root, *(f"{key}={value}" for key, value in asked.items())]
    run = ddm_framework.run(recipe, [*settings, "matching.steps=1"], out=folder / "run")
    steps = tree["matching"]["steps"]
    (folder / "matched.yaml").write_text(
        run.workspace.recipe.as_yaml().replace("  steps: 1\n", f"  steps: {steps}\n", 1), encoding="utf-8"
    )
    _save_task(folder, run, size)
    return folder


def _cifar10(source: Path) -> list[str]:
    file = source / "cifar10_6k.npz"
    return stored.source(file if file.exists() else source)


def _save_task(folder: Path, run: ddm_framework.Run, size: Size) -> None:
    """What a user has, in one file without anything of ddm in it; and the truth, for the judge alone."""
    workspace = run.workspace
    recipe, train = workspace.recipe, workspace.data.train
    asked = workspace.queries_of("test", size.queries)
    module = workspace.module(workspace.target)
    with torch.no_grad():
        predicted = module(asked.images).argmax(1)
    training, seed = recipe.training, recipe.general.seed
    orders = torch.stack([_order(len(train), seed, epoch) for epoch in range(training.epochs)])
    task = {
        "module": module,
        "checkpoints": {epoch: dict(workspace.trajectory[epoch]) for epoch in workspace.trajectory},
        "images": train.images[:],
        "labels": train.labels,
        "groups": workspace.partition.clusters,
        "queries": asked.images[:],
        "predicted": predicted,
        "training": {"lr": training.lr, "batch_size": training.batch_size, "orders": orders},
    }
    if len(train) <= TRUE_FOR:
        rows = random_deletions(workspace.partition.num_clusters, MASKS, DELETED, torch.Generator().manual_seed(12345))
        margins = margin(bank_logits(workspace, retrained(workspace, rows), asked), predicted.expand(len(rows), -1))
        own = margin(workspace.target_logits(asked.images), predicted)
        torch.save({"rows": rows, "margins": margins.double(), "own": own.double()}, folder / "truth.pt")
    torch.save(task, folder / "task.pt")


def quality(folder: Path, effects: torch.Tensor, *, amounts: bool) -> dict[str, float]:
    """LDS and R² of added effects (K, Q) against the networks without random fifths; nothing where there are none."""
    if not (folder / "truth.pt").exists():
        return {}
    truth = torch.load(folder / "truth.pt", weights_only=True)
    added = (1 - truth["rows"].double()) @ effects
    lds = cluster_lds(effects.T.contiguous(), truth["margins"], truth["rows"])
    own = {"r2": explained(added.T, (truth["margins"] - truth["own"]).T)} if amounts else {}
    return {"lds": float(lds.mean()), **own}


def measured(folder: Path, method: str, limit: float, memory: float) -> dict[str, Any]:
    """One method in a process of its own, which is ended after so many seconds or from so many bytes on."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "answer.pt")
        command = [sys.executable, peer_methods.__file__, str(folder.resolve()), method, str(out)]
        seen = watched(command, limit, memory)
        if seen.ended:
            return {"failed": seen.ended}
        if seen.status or not out.exists():
            return {"failed": " ".join(seen.complaint.splitlines()[-1:])[:300] or str(seen.status)}
        answer = torch.load(out, weights_only=True)
    return {
        **quality(folder, answer["effects"], amounts=answer["amounts"]),
        "seconds_once": answer["seconds_once"],
        "seconds_queries": answer["seconds_queries"],
        "cpu_seconds": answer["cpu_seconds"],
        "load": os.getloadavg()[0],
        "seconds_process": seen.seconds,
        "peak_bytes": max(answer["peak_bytes"], seen.peak_bytes),
        "bytes_before": answer["bytes_before"],
        "settings": answer["settings"],
    }


def main() -> None:
    """Measure whatever is not there yet, the first sizes first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--data", action="append", choices=list(FIRST))
    parser.add_argument("--size", action="append", help="as x1, 'N x4', 'K x16' or 'queries x4'")
    parser.add_argument("--method", action="append", choices=list(METHODS))
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of a method [900]")
    parser.add_argument("--memory", type=float, default=8.0, help="GB that a method may hold [8]")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    given = parser.parse_args()
    found: dict[str, Any] = stored.read(RESULT) if RESULT.exists() else {}
    cells = [(data, name, size) for data in given.data or FIRST for name, size in sizes(data).items()]
    for data, name, size in sorted(cells, key=lambda cell: cell[1] != "x1"):
        if given.size and name not in given.size:
            continue
        kept = found.setdefault(data, {}).setdefault(name, {"size": asdict(size), "methods": {}})
        for method in given.method or METHODS:
            if method in kept["methods"] and not given.again:
                continue
            kept["methods"][method] = measured(
                prepared(data, size, given.source), method, given.limit, given.memory * 1e9
            )
            print(data, name, method, kept["methods"][method], flush=True)
            found["machine"] = stored.machine("cpu")
            stored.write(RESULT, found)


if __name__ == "__main__":
    main()

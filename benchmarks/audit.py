"""Wrong labels on a tenth of the training images: how well `ddm audit` finds them, beside cleanlab, over three seeds.

    python benchmarks/audit.py [digits mnist cifar10]   (needs cleanlab; writes benchmarks/results/audit.json)

Each seed has its own wrong labels, initial weights and batch order. The score that `ddm audit` orders by comes from the
one training that made the network. cleanlab is given what its authors ask for, probabilities out of sample: five
networks of the same kind, each trained as the target on four fifths of the data, which are five trainings more. Its
scores are the three of `get_label_quality_scores`, as they are and adjusted by confident learning (Northcutt et al.
2021).

CIFAR-10 is measured on a slice as an .npz file, `data/cifar10_6k.npz`, where there is one.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import stored
import torch
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import roc_auc_score
from torch import Tensor

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.data import corrupted_in
from ddm_framework.network import start, take, train

RESULT = stored.RESULTS / "audit.json"
DATA = Path(os.environ.get("DDM_TEST_DATA", "data"))
SEEDS, SHARE, FOLDS = (0, 1, 2), 0.1, 5
ONLY_TRAINED = [
    "threads=1",
    "matching.steps=1",
    "online.replay=0",
    "study.show=0",
    "study.queries=10",
    f"corruption.labels={SHARE}",
]
"""An audit needs the training alone."""
CASES = {
    "digits": ("digits_convnet", []),
    "mnist": ("mnist_quick", [f"dataset.root={DATA}", "dataset.train_size=3000", "dataset.test_size=500"]),
    "cifar10": (
        "mnist_quick",
        [
            f"dataset={{use: npz, path: {DATA / 'cifar10_6k.npz'}, test_size: 500}}",
            "clusterer.clusters_per_class=1",
            "training={epochs: 12, lr: 0.05, batch_size: 64, momentum: 0.9, schedule: cosine,"
            " augmentation: [crop, flip], checkpoint_every: 1}",
        ],
    ),
}


def main() -> None:
    """Measure the cases that are named, and keep what is known of the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["digits", "mnist"], choices=CASES)
    found: dict[str, Any] = stored.read(RESULT) if RESULT.exists() else {}
    for name in parser.parse_args().cases:
        recipe, settings = CASES[name]
        told = [each.replace(str(DATA), "data") for each in (*settings, *ONLY_TRAINED)]
        found[name] = {"recipe": recipe, "settings": told, "seeds": {}}
        for seed in SEEDS:
            own = [f"seed={seed}", f"corruption.seed={seed}"]
            out = Path("runs", "results", f"audit_{name}_{seed}")
            run = ddm_framework.run(
                stored.RECIPES / f"{recipe}.yaml", [*settings, *ONLY_TRAINED, *own], out=out, fresh=True
            )
            found[name]["seeds"][str(seed)] = measured(run.workspace)
            print(name, seed, found[name]["seeds"][str(seed)], flush=True)
            found["machine"] = stored.machine("cpu")
            stored.write(RESULT, found)


def measured(workspace: Workspace) -> dict[str, Any]:
    """AUC of every score on the training images of one run."""
    wrong = corrupted_in(workspace.data, workspace.recipe.corruption).relabelled
    labels = workspace.data.train.labels.cpu()
    begun = time.monotonic()
    audit = ddm_framework.Run(workspace, {}).audit()
    audited = time.monotonic() - begun
    samples = audit.samples
    scores = {
        "margin": [-float(each.margin or 0) for each in samples],
        "training_loss": [float(each.training_loss or 0) for each in samples],
        "self_influence": audit.influence.on_itself.tolist(),
    }
    if audit.influence.loss_without is not None:
        scores["loss_without"] = (-audit.influence.loss_without).tolist()
    begun = time.monotonic()
    probabilities = out_of_sample(workspace)
    trained = time.monotonic() - begun
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        for adjusted in (False, True) if method != "confidence_weighted_entropy" else (False,):
            quality = get_label_quality_scores(
                labels.numpy(), probabilities.numpy(), method=method, adjust_pred_probs=adjusted
            )
            scores[f"cleanlab {method}{' adjusted' if adjusted else ''}"] = (-quality).tolist()
    return {
        "num_training": len(labels),
        "num_wrong": int(wrong.sum()),
        "auc": {name: round(float(roc_auc_score(wrong.numpy(), each)), 4) for name, each in scores.items()},
        "seconds": {"audit": round(audited, 1), "five more trainings": round(trained, 1)},
    }


def out_of_sample(workspace: Workspace) -> Tensor:
    """Probabilities (N, classes) of each training image by a network that was not trained on it."""
    data, seed = workspace.data.train, workspace.recipe.general.seed
    order = torch.randperm(len(data), generator=workspace.generator("folds"))
    fold = order.argsort() % FOLDS
    weights = (fold[None] != torch.arange(FOLDS)[:, None]).float()
    begun = start(workspace.untrained, FOLDS)
    *_, last = train(workspace.network, begun, data, weights.to(workspace.device), workspace.recipe.training, seed)
    said = torch.empty(len(data), workspace.info.num_classes)
    for number in range(FOLDS):
        rows = (fold == number).nonzero()[:, 0]
        logits = workspace.network.logits_of(take(last.parameters, number), data.take(rows).images)
        said[rows] = logits.softmax(1).cpu()
    return said.double() / said.double().sum(1, keepdim=True)


if __name__ == "__main__":
    main()

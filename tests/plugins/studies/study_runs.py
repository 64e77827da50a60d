"""A run of seconds for each study: three classes of noisy stripes and a network of few weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ddm_studies.comparison.paper import Findings

import ddm_framework
from ddm_framework.api import Run

RECIPE = """\
seed: 3
device: cpu
threads: 1
memory_mb: 64
dataset: {use: npz, path: data.npz, validation: 0.25}
backbone: {use: convnet, width: 4, depth: 1}
clusterer: {use: kmeans, clusters_per_class: 2, restarts: 1}
distance: {use: cosine}
training: {epochs: 4, lr: 0.1, batch_size: 16, momentum: 0.9, checkpoint_every: 2}
matching: {steps: 4, step_length: 2}
objectives: [{use: output_shift}]
"""


def stripes_run(folder: Path, study: str) -> Run:
    """A finished run of a study, given as a recipe writes it, on 48 training and 12 test images of 6 x 6 pixels."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    stripes = np.stack([np.roll(np.tile([1.0, 0.0, 0.0], (6, 2)), shift, 1) for shift in range(3)])
    images = np.clip(stripes[labels] * 0.6 + random.uniform(0, 0.4, (60, 6, 6)), 0, 1).astype(np.float32)
    np.savez(folder / "data.npz", x_train=images[:48], y_train=labels[:48], x_test=images[48:], y_test=labels[48:])
    recipe = folder / "stripes.yaml"
    recipe.write_text(f"{RECIPE}study: {study}\n")
    return ddm_framework.run(recipe, out=folder / "runs" / "stripes")


def says_what_is_stored(findings: Callable[[Mapping[str, Any]], Findings], metrics: Mapping[str, Any]) -> bool:
    """Whether the stored sentences and claims follow from the stored figures alone, as they are read from JSON."""
    read = json.loads(json.dumps(metrics))
    told, compared = findings(read), read["comparison"]
    return (list(told.sentences), [asdict(each) for each in told.claims]) == (compared["sentences"], compared["claims"])

"""Ordinary gradient matching on a run's own target, called DDM-match or GM in the paper."""

from __future__ import annotations

from typing import Literal

from ddm_framework import Workspace
from ddm_framework.stages import variant

Labels = Literal["hard", "learned"]


def ordinary_match(workspace: Workspace, labels: Labels, init: str | None = None) -> Workspace:
    """The same target with a synset matched to the clusters' gradients (not reversed), at the same checkpoint.

    Args:
        workspace: a run.
        labels: `hard`, the cluster's class, as in dataset condensation, or `learned`, as reverse matching needs.
        init: initial synthetic images; by default the recipe's.
    Source: Zhao et al. 2021, "Dataset condensation with gradient matching".
    """
    start = init or workspace.recipe.matching.init
    matching = {"direction": "forward", "pairing": "offset", "step_length": 0, "labels": labels, "init": start}
    return variant(workspace, f"ordinary_{labels}_{start}", matching=matching)


def labels_in_words(labels: Labels) -> str:
    """What ordinary matching was told of the classes."""
    return "the labels of the classes" if labels == "hard" else "learned labels"

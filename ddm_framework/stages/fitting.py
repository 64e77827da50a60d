"""What a run will need of memory and processors, estimated before anything is allocated, so that it can be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ddm_framework.data import DataInfo
from ddm_framework.network import EVALUATION, SECOND_ORDER, TRAINING, Cost, Network
from ddm_framework.recipe import Recipe
from ddm_framework.resources import check_fits
from ddm_framework.runs import Workspace

MEASURED = 0.6
"""Share of a `Cost` that items take at most (benchmarks/memory.py)."""
_BYTES = 4


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that a part of a run needs at the least, whatever `memory_mb` says.

    Attributes:
        what: needs it, as the subject of a sentence.
        values: float32 values.
        lower: the settings to lower.
    """

    what: str
    values: float
    lower: str


def check_memory(workspace: Workspace) -> None:
    """Refuse a run that this machine, or its accelerator, cannot hold.

    Raises:
        MemoryShortageError: naming the part, both sizes and the settings to lower.
    """
    on_card = workspace.device.type == "cuda"
    free = torch.cuda.mem_get_info(workspace.device)[0] if on_card else None
    for need in needs(workspace.recipe, workspace.info, len(workspace.data.train), workspace.built[0]):
        check_fits(need.values * _BYTES, need.what, need.lower, free)


def needs(recipe: Recipe, info: DataInfo, num_train: int, network: Network) -> Iterator[Need]:
    """What each part of a run needs for one network or cluster at a time, the smallest chunk that there is."""
    matching, online, training = recipe.matching, recipe.online, recipe.training
    size = "the size of the backbone"

    def one(cost: Cost, images: int, kept: float = 0.0) -> float:
        weights = (cost.weights + kept) * network.num_weights
        return MEASURED * (weights + float(cost.activations) * images * network.activation_values)

    if recipe.target.checkpoint is None:
        batch = min(training.batch_size, num_train)
        yield Need("training the target", one(TRAINING, batch), f"lower training.batch_size or {size}")
    clusters = recipe.clustering.clusters_per_class * info.num_classes
    images = matching.images_per_cluster
    # Of many images the whole `Cost`: their activations are what is measured least, and what ends a machine.
    matched = one(SECOND_ORDER, images) / MEASURED
    yield Need("matching one cluster", matched, f"lower matching.images_per_cluster or {size}")
    # Images and labels of every cluster, and of the class-wise synset beside.
    synset = float(clusters + info.num_classes) * images * (info.num_values + info.num_classes)
    lower = "lower matching.images_per_cluster or clusterer.clusters_per_class"
    yield Need("the synset", synset, lower)
    yield Need("asking one estimated network", one(EVALUATION, network.query_batch), f"lower {size}")
    asked, alone = online.num_perturbations or 2 * clusters, online.perturbations == "leave_one_out"
    # The design in 32 bits, and in 64 where its rank and W are found.
    design = 3.0 * ((clusters if alone else asked) + 1) * clusters
    lower = "clusterer.clusters_per_class" if alone else "online.num_perturbations"
    yield Need("the design of perturbations", design, f"lower {lower}")

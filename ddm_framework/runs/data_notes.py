"""What a reader of the results must know of the data: what was left out, images that occur twice, odd clusters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ddm_framework.data import DataSplits
from ddm_framework.data.duplicates import content_ids
from ddm_framework.offline import Partition

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace

UNEVEN = 20
"""Factor between the sizes of the largest and the smallest cluster from which on a reader is told."""


def data_notes(workspace: Workspace) -> list[str]:
    """Sentences, each about one thing."""
    return [*workspace.data.notes, *on_duplicates(workspace.data), *on_sizes(workspace.partition)]


def on_duplicates(data: DataSplits) -> Iterator[str]:
    """Training images that occur twice, and test images that were trained on."""
    trained, tested = content_ids(data.train.images, data.test.images)
    labels = data.train.labels.cpu()
    twice = trained.bincount()[trained] > 1
    if count := int(twice.sum()):
        # Images whose copies have several labels: more pairs of image and label than images.
        pairs = torch.stack([trained, labels], 1).unique(dim=0)[:, 0]
        torn = int((pairs.bincount(minlength=int(trained.max()) + 1)[trained] > 1).sum())
        told = f"; {torn} of them {'has a copy' if torn == 1 else 'have copies'} in another class" if torn else ""
        yield (
            f"{count} of {len(trained)} training images have an identical copy among them{told}. To delete one of them"
            " changes little, as its copies stay"
        )
    if leaked := int(torch.isin(tested, trained).sum()):
        yield f"{leaked} of {len(tested)} test images are also among the training images"


def on_sizes(partition: Partition) -> Iterator[str]:
    """Clusters that are much smaller than others."""
    sizes = partition.sizes
    low, high = int(sizes.min()), int(sizes.max())
    if high >= UNEVEN * low:
        small = int((sizes * UNEVEN <= high).sum())
        yield (
            f"{small} of {len(sizes)} clusters {'has' if small == 1 else 'have'} a twentieth of the {high} images of"
            f" the largest one or less, down to {low}: effects of so few images drown in noise; with"
            " clusterer.cluster_size small classes have fewer"
        )

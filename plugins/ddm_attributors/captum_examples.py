"""Clusters and queries as examples for captum: one gradient each, of a sum over the images of a group."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ddm_attributors.constants import as_buffers
from ddm_framework.data import ImageSet
from ddm_framework.network import Parameters
from ddm_framework.offline import Partition
from ddm_framework.runs import Workspace

PART = 128
"""Largest number of images in one example; a larger cluster becomes several examples."""
QUERIES_AT_A_TIME = 4
"""Captum runs one backward pass through the whole batch for each example, so large batches are slow."""


class GroupedNetwork(nn.Module):
    """A network on groups of images, (G, M, C, H, W) -> logits (G, M, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (G, M, classes)."""
        logits: Tensor = self.network(images.flatten(0, 1))
        return logits.unflatten(0, images.shape[:2])


class GroupCrossEntropy(nn.Module):
    """Cross entropy summed over a group: logits (G, M, classes), class ids (G, M) -> (G,)."""

    reduction = "none"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss in nats, (G,)."""
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.unflatten(0, labels.shape).sum(1)


class GroupSlope(nn.Module):
    """Inner product of logits (G, M, classes) with slopes of the same shape -> (G,)."""

    reduction = "none"

    def forward(self, logits: Tensor, slopes: Tensor) -> Tensor:
        """In the objective's unit, (G,)."""
        return (logits * slopes).sum((1, 2))


def grouped_network(workspace: Workspace, parameters: Parameters, epoch: int | None = None) -> GroupedNetwork:
    """The backbone with these weights, which require gradients; those that are not trained become buffers.

    Args:
        workspace: of the run.
        parameters: that are trained.
        epoch: whose constants it has; the last one's by default.
    """
    network = workspace.network if epoch is None else workspace.trained.at(epoch)
    return GroupedNetwork(as_buffers(workspace.logits_module(parameters, network), parameters))


def cluster_examples(train: ImageSet, partition: Partition) -> tuple[DataLoader[Any], Tensor]:
    """Each cluster as one example, or as several if it is large.

    Returns:
        A loader of E examples, one per batch: images (1, M, C, H, W) and class ids (1, M).
        The cluster of each example, int64 (E,).
    """
    parts = [(k, part) for k in range(partition.num_clusters) for part in partition.members(k).split(PART)]
    groups = [(train.images[part][None], train.labels[part][None]) for _, part in parts]
    owners = torch.tensor([k for k, _ in parts], device=train.labels.device)
    return DataLoader(groups, batch_size=None), owners


def query_examples(images: Tensor, slopes: Tensor) -> DataLoader[Any]:
    """Each query as a group of one."""
    return DataLoader(TensorDataset(images[:, None], slopes[:, None]), QUERIES_AT_A_TIME)

"""Divide the training data of each class into clusters, the units of attribution (Sec. 3.2, 6.1)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.data.splits import ImageSet
from ddm_framework.errors import DataError, PluginError
from ddm_framework.plugin.choice import Choice
from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Clustering


@dataclass(frozen=True, slots=True)
class Partition:
    """Which cluster each training sample is in.

    Attributes:
        clusters: int64 (N,), from 0 to K - 1; every cluster has a member.
        classes: int64 (K,), the class that all members of a cluster share.
    """

    clusters: Tensor
    classes: Tensor

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def sizes(self) -> Tensor:
        """Members of each cluster, int64 (K,)."""
        return self.clusters.bincount(minlength=self.num_clusters)

    def members(self, cluster: int) -> Tensor:
        """Positions of a cluster's samples in the training split, int64, ascending."""
        return (self.clusters == cluster).nonzero()[:, 0]

    def of_class(self, label: int) -> Tensor:
        """Ids of the clusters of a class, int64."""
        return (self.classes == label).nonzero()[:, 0]

    def class_wise(self, num_classes: int) -> Partition:
        """The coarse partition of Sec. 6.2, one cluster per class."""
        return Partition(self.classes[self.clusters], torch.arange(num_classes, device=self.classes.device))


@dataclass(frozen=True, slots=True)
class Divided:
    """Training data and their clusters.

    Attributes:
        data: N images; their labels are class ids (N,), or probabilities (N, classes).
        partition: of these N images into K clusters.
    """

    data: ImageSet
    partition: Partition

    def only(self, clusters: slice) -> Divided:
        """The samples of some of the clusters, which are numbered from 0 again."""
        ids = self.partition.clusters
        index = ((ids >= clusters.start) & (ids < clusters.stop)).nonzero()[:, 0]
        part = Partition(ids[index] - clusters.start, self.partition.classes[clusters])
        return Divided(self.data.take(index), part)


def make_partition(
    labels: Tensor,
    features: Tensor,
    clusterer: Choice,
    numbers: Sequence[int],
    class_names: tuple[str, ...],
    seed: int,
) -> Partition:
    """Cluster each class separately.

    Args:
        labels: int64 (N,).
        features: float (N, D).
        clusterer: called once per class.
        numbers: of clusters of each class, as `numbers_of_clusters` finds them.
        class_names: for messages.
        seed: each class has its own random stream.
    Raises:
        DataError: if a class has fewer samples than clusters.
        PluginError: if the clusterer breaks its contract, for instance by leaving a cluster empty.
    """
    clusters, start = torch.zeros(len(labels), dtype=torch.int64), 0
    for label, (name, number) in enumerate(zip(class_names, numbers, strict=True)):
        members = (labels.cpu() == label).nonzero()[:, 0]
        if len(members) < number:
            raise DataError(
                f"class {name} has {len(members)} training image{'s' if len(members) > 1 else ''}, fewer than"
                f" clusters_per_class ({number}); lower clusterer.clusters_per_class, give the class more images, or"
                " let each class have as many clusters as fit its size, with clusterer.cluster_size"
            )
        with warnings.catch_warnings():
            # scikit-learn's, of identical features; the run itself says how many images are identical.
            warnings.filterwarnings("ignore", "Number of distinct clusters")
            ids = clusterer(features[members].cpu(), number, generator(seed, "clusters", label))
        _check_ids(ids, len(members), number, clusterer.name, name)
        clusters[members] = ids + start
        start += number
    return Partition(clusters, torch.arange(len(class_names)).repeat_interleave(torch.tensor(list(numbers))))


def numbers_of_clusters(labels: Tensor, num_classes: int, settings: Clustering) -> list[int]:
    """How many clusters each class is divided into: the same for all, or as many as its size asks for.

    Args:
        labels: int64 (N,).
        num_classes: L.
        settings: `clusters_per_class` is C of Sec. 6.1; with a `cluster_size` a class of n images has n / cluster_size
            clusters, rounded, and at least one.
    """
    if settings.cluster_size is None:
        return [settings.clusters_per_class] * num_classes
    counts = labels.cpu().bincount(minlength=num_classes)
    return [max(1, round(count / settings.cluster_size)) for count in counts.tolist()]


def _check_ids(ids: object, count: int, num_clusters: int, clusterer: str, class_name: str) -> None:
    who = f"clusterer {clusterer!r} on class {class_name}"
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.shape != (count,):
        shape = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise PluginError(f"{who}: must return int64 ids of shape ({count},), returned {shape}")
    found = set(ids.tolist())
    if outside := sorted(found - set(range(num_clusters))):
        raise PluginError(f"{who}: ids must be 0 to {num_clusters - 1}, found {outside[:5]}")
    if empty := sorted(set(range(num_clusters)) - found):
        raise PluginError(
            f"{who}: cluster {', '.join(map(str, empty[:5]))} is empty; "
            f"every id from 0 to {num_clusters - 1} must be used"
        )

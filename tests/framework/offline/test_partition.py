"""Each class is divided by itself, every cluster has a member, and a clusterer that breaks the contract is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ddm_clusterers import kmeans, sequential
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddm_framework.errors import DataError, PluginError
from ddm_framework.network.memory import chunks
from ddm_framework.offline.partition import Partition, make_partition, numbers_of_clusters
from ddm_framework.plugin.choice import Choice
from ddm_framework.recipe.settings import Clustering

NAMES = ("cat", "dog", "owl")
LABELS = torch.tensor([2, 0, 1, 0, 2, 0, 1, 0, 2, 1, 0, 2, 2])
FEATURES = torch.arange(13.0)[:, None] ** 2


def divided(assign: Callable[..., Any], count: int = 3, seed: int = 0, **options: Any) -> Partition:
    return make_partition(LABELS, FEATURES, Choice("clusterer", "mine", options, assign), [count] * 3, NAMES, seed)


def test_sequential_runs_within_each_class() -> None:
    partition = divided(sequential.assign)
    assert partition.num_clusters == 9
    assert partition.classes.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert partition.clusters[LABELS == 0].tolist() == [0, 0, 1, 1, 2]
    assert partition.clusters[LABELS == 1].tolist() == [3, 4, 5]
    assert partition.clusters[LABELS == 2].tolist() == [6, 6, 7, 7, 8]
    assert partition.clusters.dtype == partition.classes.dtype == torch.int64
    assert partition.sizes.tolist() == [2, 2, 1, 1, 1, 1, 2, 2, 1]


def test_members_and_classes_of_clusters() -> None:
    partition = divided(sequential.assign)
    assert partition.members(6).tolist() == [0, 4]
    assert partition.of_class(1).tolist() == [3, 4, 5]
    assert torch.equal(partition.classes[partition.clusters], LABELS)


def test_class_wise_is_one_cluster_a_class() -> None:
    coarse = divided(sequential.assign).class_wise(3)
    assert torch.equal(coarse.clusters, LABELS)
    assert coarse.classes.tolist() == [0, 1, 2]
    assert coarse.sizes.tolist() == [5, 3, 5]
    assert coarse.of_class(2).tolist() == [2]


def test_clusterer_sees_the_features_of_one_class_and_a_generator_of_its_own() -> None:
    seen: list[tuple[list[float], int]] = []

    def assign(features: Tensor, num_clusters: int, generator: torch.Generator, /) -> Tensor:
        seen.append((features[:, 0].sqrt().tolist(), int(torch.randint(10**9, (), generator=generator))))
        return sequential.assign(features, num_clusters, generator)

    divided(assign)
    divided(assign)
    divided(assign, seed=1)
    assert [members for members, _ in seen[:3]] == [[1, 3, 5, 7, 10], [2, 6, 9], [0, 4, 8, 11, 12]]
    draws = [draw for _, draw in seen]
    assert draws[:3] == draws[3:6]
    assert len(set(draws)) == 6


@given(st.lists(st.integers(4, 30), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_no_chunk_of_clusters_has_an_empty_one(sizes: list[int], clusters_per_class: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=random)]
    features = torch.randint(3, (len(labels), 2), generator=random).float()
    choice = Choice("clusterer", "kmeans", {"restarts": 1}, kmeans.assign)
    names = tuple(map(str, range(len(sizes))))
    partition = make_partition(labels, features, choice, [clusters_per_class] * len(names), names, seed)
    assert torch.equal(partition.classes[partition.clusters], labels)
    for part in chunks(partition.num_clusters, 3):
        assert (partition.sizes[part] > 0).all()


def test_class_with_fewer_images_than_clusters_is_named() -> None:
    wanted = (
        r"class dog has 3 training images, fewer than clusters_per_class \(4\); "
        r"lower clusterer\.clusters_per_class, give the class more images, or .* with clusterer\.cluster_size"
    )
    with pytest.raises(DataError, match=wanted):
        divided(sequential.assign, 4)


@pytest.mark.parametrize(
    ("size", "wanted"), [(None, [7, 7, 7]), (20, [8, 8, 1]), (50, [3, 3, 1]), (1, [150, 150, 8]), (1000, [1, 1, 1])]
)
def test_a_class_has_as_many_clusters_as_fit_its_size(size: int | None, wanted: list[int]) -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([150, 150, 8]))
    numbers = numbers_of_clusters(labels, 3, Clustering(clusters_per_class=7, cluster_size=size))
    assert numbers == wanted
    features = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
    choice = Choice("clusterer", "mine", {}, sequential.assign)
    partition = make_partition(labels, features, choice, numbers, NAMES, 0)
    assert partition.classes.bincount().tolist() == wanted
    assert torch.equal(partition.classes[partition.clusters], labels)
    assert int(partition.sizes.max()) <= max(2 * (size or 22), 22)


def test_as_many_clusters_as_images_is_allowed() -> None:
    assert divided(kmeans.assign, 3).sizes[3:6].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (lambda n: torch.zeros(n), r"must return int64 ids of shape \(5,\), returned torch\.float32 \(5,\)"),
        (lambda n: torch.arange(n).int(), r"must return int64 ids of shape \(5,\), returned torch\.int32 \(5,\)"),
        (lambda n: torch.arange(n - 1), r"returned torch\.int64 \(4,\)"),
        (lambda n: torch.arange(n)[:, None], r"returned torch\.int64 \(5, 1\)"),
        (lambda n: list(range(n)), r"must return int64 ids of shape \(5,\), returned list"),
        (lambda n: None, "returned NoneType"),
        (lambda n: torch.arange(n), r"ids must be 0 to 2, found \[3, 4\]"),
        (lambda n: torch.arange(n) % 3 - 1, r"ids must be 0 to 2, found \[-1\]"),
        (lambda n: torch.zeros(n, dtype=torch.int64), "cluster 1, 2 is empty; every id from 0 to 2 must be used"),
    ],
)
def test_clusterer_that_breaks_its_contract_is_named(ids: Callable[[int], Any], message: str) -> None:
    with pytest.raises(PluginError, match=f"clusterer 'mine' on class cat: .*{message}"):
        divided(lambda features, _num_clusters, _generator, /: ids(len(features)))

"""Gradients of many clusters at once are the gradients of each cluster's mean loss, whatever the sizes and chunks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from ddm_framework.data.splits import ImageSet
from ddm_framework.network.memory import Budget
from ddm_framework.network.stacks import Parameters, take
from ddm_framework.offline.partition import Divided, Partition
from ddm_framework.offline.real_gradients import BLOCK, cluster_gradients

if TYPE_CHECKING:
    from conftest import Toy


def images_in(sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and cluster ids, mixed up."""
    random = torch.Generator().manual_seed(1)
    clusters = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    clusters = clusters[torch.randperm(len(clusters), generator=random)]
    images = torch.randn(len(clusters), 1, 4, 4, generator=random, dtype=torch.float64)
    return images, torch.randint(3, (len(clusters),), generator=random), clusters


def divided(images: Tensor, labels: Tensor, clusters: Tensor) -> Divided:
    """The images in their clusters, whose classes do not matter."""
    return Divided(
        ImageSet(images, labels), Partition(clusters, torch.zeros(int(clusters.max()) + 1, dtype=torch.int64))
    )


def one_at_a_time(toy: Toy, images: Tensor, labels: Tensor, clusters: Tensor, count: int) -> list[Parameters]:
    each = [clusters == cluster for cluster in range(count)]
    return [toy.gradient(toy.initial, images[members], labels[members]) for members in each]


@pytest.mark.parametrize("sizes", [[1], [1, 40, 3], [BLOCK, BLOCK + 1, 1, 2 * BLOCK, BLOCK - 1], [2] * 40, [100]])
def test_agrees_with_the_loop_for_uneven_sizes(toy: Toy, sizes: list[int]) -> None:
    images, labels, clusters = images_in(sizes)
    found = cluster_gradients(toy.network, toy.initial, divided(images, labels, clusters), Budget(64))
    for cluster, wanted in enumerate(one_at_a_time(toy, images, labels, clusters, len(sizes))):
        torch.testing.assert_close(take(found, cluster), wanted, rtol=0, atol=1e-12)


@given(st.lists(st.integers(1, 2 * BLOCK + 2), min_size=1, max_size=6))
@examples(max_examples=10, deadline=None)
def test_agrees_with_the_loop_for_any_sizes(toy: Toy, sizes: list[int]) -> None:
    images, labels, clusters = images_in(sizes)
    found = cluster_gradients(toy.network, toy.initial, divided(images, labels, clusters), Budget(64))
    for cluster, wanted in enumerate(one_at_a_time(toy, images, labels, clusters, len(sizes))):
        torch.testing.assert_close(take(found, cluster), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("blocks", [1, 2, 3, 1000])
def test_chunks_change_nothing(toy: Toy, monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    images, labels, clusters = images_in([1, 40, 3, 17])
    whole = cluster_gradients(toy.network, toy.initial, divided(images, labels, clusters), Budget(64))
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: blocks)
    parts = cluster_gradients(toy.network, toy.initial, divided(images, labels, clusters), Budget(64))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-14)


def test_gradients_weighted_by_size_sum_to_that_of_all_images(toy: Toy) -> None:
    images, labels, clusters = images_in([1, 40, 3])
    found = cluster_gradients(toy.network, toy.initial, divided(images, labels, clusters), Budget(64))
    for name, wanted in toy.gradient(toy.initial, images, labels).items():
        total = torch.tensordot(clusters.bincount().double(), found[name], 1) / len(clusters)
        torch.testing.assert_close(total, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spoilt", [0, 1, 2])
@pytest.mark.parametrize("value", [10.0, float("nan")])
def test_clusters_do_not_mix(toy: Toy, spoilt: int, value: float) -> None:
    images, labels, clusters = images_in([5, 20, 1])
    before = cluster_gradients(toy.network, toy.initial, divided(images, labels, clusters), Budget(64))
    changed = torch.where((clusters == spoilt)[:, None, None, None], value, images)
    after = cluster_gradients(toy.network, toy.initial, divided(changed, labels, clusters), Budget(64))
    for cluster in {0, 1, 2} - {spoilt}:
        torch.testing.assert_close(take(before, cluster), take(after, cluster), rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [[1], [BLOCK, BLOCK + 1, 1, 2 * BLOCK, BLOCK - 1]])
def test_a_large_network_is_differentiated_a_cluster_after_the_other(toy: Toy, sizes: list[int]) -> None:
    images, labels, clusters = images_in(sizes)
    large = dataclasses.replace(toy.network, grouped=None, activation_values=2**20)
    found = cluster_gradients(large, toy.initial, divided(images, labels, clusters), Budget(64))
    for cluster, wanted in enumerate(one_at_a_time(toy, images, labels, clusters, len(sizes))):
        torch.testing.assert_close(take(found, cluster), wanted, rtol=0, atol=1e-12)

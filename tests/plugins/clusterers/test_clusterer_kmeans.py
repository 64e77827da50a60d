"""K-means finds what is there, draws from the caller's generator alone, and leaves no cluster empty."""

from __future__ import annotations

import warnings

import pytest
import torch
from ddm_clusterers.kmeans import assign
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(num_blobs: int, each: int) -> tuple[Tensor, Tensor]:
    """Points around far centres, mixed up, and which centre each is around."""
    random = generator()
    owners = torch.arange(num_blobs).repeat(each)
    centres = 100 * torch.eye(num_blobs)
    return centres[owners] + torch.randn(len(owners), num_blobs, generator=random), owners


def test_clear_clusters_are_found() -> None:
    features, owners = blobs(4, 10)
    ids = assign(features, 4, generator())
    assert ids.dtype == torch.int64
    pairs = {(int(owner), int(each)) for owner, each in zip(owners, ids, strict=True)}
    assert len(pairs) == 4


def test_each_sample_is_nearest_to_the_mean_of_its_own_cluster() -> None:
    features = torch.randn(60, 3, generator=generator(1))
    ids = assign(features, 5, generator())
    means = torch.stack([features[ids == each].mean(0) for each in range(5)])
    assert torch.equal(torch.cdist(features, means).argmin(1), ids)


def test_generator_is_the_only_source_of_randomness() -> None:
    features = torch.rand(80, 2, generator=generator(1))
    torch.manual_seed(0)
    first = assign(features, 7, generator(), restarts=1)
    torch.manual_seed(1)
    assert torch.equal(assign(features, 7, generator(), restarts=1), first)
    assert any(not torch.equal(assign(features, 7, generator(seed), restarts=1), first) for seed in range(1, 5))


def test_more_restarts_are_never_looser() -> None:
    features = torch.rand(60, 2, generator=generator(2))

    def spread(restarts: int) -> float:
        ids = assign(features, 6, generator(3), restarts=restarts)
        return sum(float((features[ids == each] - features[ids == each].mean(0)).square().sum()) for each in range(6))

    assert spread(20) <= spread(1) + 1e-4


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("num_clusters", [1, 2, 7, 12])
def test_no_cluster_is_empty_even_if_all_samples_coincide(num_clusters: int) -> None:
    ids = assign(torch.ones(12, 3), num_clusters, generator())
    assert ids.unique().tolist() == list(range(num_clusters))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.data())
@settings(max_examples=25, deadline=None)
def test_every_id_is_used_however_many_samples_coincide(values: list[int], data: st.DataObject) -> None:
    num_clusters = data.draw(st.integers(1, len(values)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = assign(torch.tensor(values).float()[:, None], num_clusters, generator(), restarts=1)
    assert ids.unique().tolist() == list(range(num_clusters))


def test_as_many_clusters_as_samples() -> None:
    assert assign(torch.randn(6, 2, generator=generator()), 6, generator()).sort().values.tolist() == list(range(6))

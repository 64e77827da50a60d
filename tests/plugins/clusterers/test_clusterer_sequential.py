"""Runs of samples in file order."""

from __future__ import annotations

import torch
from ddm_clusterers.sequential import assign
from hypothesis import given
from hypothesis import strategies as st

RANDOM = torch.Generator()


def test_runs_of_equal_length() -> None:
    assert assign(torch.zeros(6, 2), 3, RANDOM).tolist() == [0, 0, 1, 1, 2, 2]
    assert assign(torch.zeros(5, 2), 3, RANDOM).tolist() == [0, 0, 1, 1, 2]


@given(st.integers(1, 200), st.data())
def test_runs_ascend_use_every_id_and_differ_by_one_sample(count: int, data: st.DataObject) -> None:
    num_clusters = data.draw(st.integers(1, count))
    ids = assign(torch.zeros(count, 1), num_clusters, RANDOM)
    assert ids.dtype == torch.int64
    assert ids.tolist() == sorted(ids.tolist())
    sizes = ids.bincount(minlength=num_clusters)
    assert len(sizes) == num_clusters
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def test_features_and_generator_do_not_matter() -> None:
    random = torch.Generator().manual_seed(3)
    before = random.get_state()
    ids = assign(torch.randn(7, 2, generator=torch.Generator().manual_seed(1)), 3, random)
    assert torch.equal(ids, assign(torch.zeros(7, 9), 3, RANDOM))
    assert torch.equal(random.get_state(), before)

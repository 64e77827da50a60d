"""Clusterers: `assign(features, num_clusters, generator, /, *, ...) -> Tensor`."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.testing.contract import advice, expect, untouched_randomness
from ddm_framework.testing.samples import features
from ddm_framework.testing.subject import Subject

NUM_SAMPLES = 24
_ADVICE = "it must divide any features (N, D), float32, into any number of clusters from 1 to N"


def assigned(subject: Subject, values: Tensor, num_clusters: int, seed: int = 0) -> Tensor:
    """Ids by the clusterer, whose type and shape are those of the contract."""
    with advice(_ADVICE):
        ids = subject.choice(values, num_clusters, torch.Generator().manual_seed(seed))
    found = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
    expect(
        isinstance(ids, Tensor) and ids.dtype == torch.int64 and ids.shape == (len(values),),
        f"it returns {found} for {len(values)} samples; return an int64 tensor ({len(values)},)",
    )
    assert isinstance(ids, Tensor)
    return ids


def _expect_all_used(ids: Tensor, num_clusters: int, what: str) -> None:
    found = sorted(set(ids.tolist()))
    expect(
        found == list(range(num_clusters)),
        f"{what}: of the ids 0 to {num_clusters - 1} it uses {found}; number clusters from 0, and give an empty cluster"
        " a sample of the largest",
    )


def check_returns_an_id_for_each_sample(subject: Subject) -> None:
    """It returns int64 ids, one per sample."""
    assigned(subject, features(NUM_SAMPLES), 4)


def check_every_id_is_used(subject: Subject) -> None:
    """Every id from 0 to num_clusters - 1 is used, and no other."""
    for num_clusters in (2, 3, 7):
        ids = assigned(subject, features(NUM_SAMPLES), num_clusters)
        _expect_all_used(ids, num_clusters, f"{NUM_SAMPLES} samples, {num_clusters} clusters")


def check_one_cluster(subject: Subject) -> None:
    """One cluster takes in everything."""
    _expect_all_used(assigned(subject, features(NUM_SAMPLES), 1), 1, "one cluster")


def check_as_many_clusters_as_samples(subject: Subject) -> None:
    """As many clusters as samples: each sample is a cluster."""
    _expect_all_used(assigned(subject, features(5), 5), 5, "5 samples, 5 clusters")


def check_samples_that_coincide(subject: Subject) -> None:
    """Samples that are all alike are divided nevertheless."""
    _expect_all_used(assigned(subject, torch.ones(6, 3), 3), 3, "6 samples that are all alike, 3 clusters")


def check_one_feature(subject: Subject) -> None:
    """A single feature is enough."""
    _expect_all_used(assigned(subject, features(NUM_SAMPLES, 1), 3), 3, "samples of one feature, 3 clusters")


def check_same_generator_same_clusters(subject: Subject) -> None:
    """The same seed gives the same clusters, whatever the global random state is."""
    found = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        found.append(assigned(subject, features(NUM_SAMPLES), 4, seed=7))
    expect(
        torch.equal(*found),
        "two calls with generators of one seed differ; draw from the given generator alone (a library's seed: "
        "int(torch.randint(2**31 - 1, (), generator=generator)))",
    )


def check_leaves_global_randomness_alone(subject: Subject) -> None:
    """The global random states of torch, numpy and Python stay as they are."""
    with untouched_randomness() as touched:
        assigned(subject, features(NUM_SAMPLES), 4)
    expect(not touched, f"it changed the global random state of {', '.join(touched)}; draw from the given generator")


def check_features_stay_as_they_are(subject: Subject) -> None:
    """The features are not written to."""
    values = features(NUM_SAMPLES)
    before = values.clone()
    assigned(subject, values, 3)
    expect(torch.equal(values, before), "it writes to the features; work on a copy (features.clone())")

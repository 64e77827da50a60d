"""Matching all clusters at once is matching each alone with ordinary autograd, and it does lower the distance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from ddm_distances import cosine, mse
from sklearn.datasets import load_digits
from torch import Tensor

from ddm_framework.data.splits import ImageSet
from ddm_framework.errors import DivergenceError
from ddm_framework.network.memory import Budget
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, take
from ddm_framework.network.target import Target
from ddm_framework.network.training import start, train
from ddm_framework.offline.matching import Distance, cluster_chunks, match
from ddm_framework.offline.pairing import possible_pairs
from ddm_framework.offline.partition import Divided, Partition
from ddm_framework.offline.real_gradients import class_gradients, trajectory_gradients
from ddm_framework.offline.synset import Synset, paired_gradients, synset_gradients
from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Matching, Training

if TYPE_CHECKING:
    from conftest import Toy

SEED = 5
ALL = slice(0, 6)
DISTANCES: dict[str, Distance] = {"cosine": cosine.distance, "mse": mse.distance}
STILL = 1e-30
"""A learning rate at which nothing moves, so that the synset is what matching starts from."""

WHOLE = {"direction": "forward", "step_length": 0, "labels": "hard", "images_per_cluster": 6}
"""A cluster of six has the very gradient that is wanted: the whole cluster under its own labels."""


def settings(**changes: Any) -> Matching:
    return Matching(**{"steps": 3, "step_length": 2, "lr": 0.3, "label_lr": 0.2, **changes})


def target_of(toy: Toy) -> Target:
    return Target(toy.network, toy.trajectory)


def matched(toy: Toy, options: Matching, clusters: slice = ALL, distance: Distance = cosine.distance) -> Synset:
    return match(target_of(toy), Divided(toy.data, toy.partition), clusters, distance, options, SEED, budget=Budget(64))


@pytest.fixture(scope="module")
def start_of(toy: Toy) -> Callable[..., Tensor]:
    """`start_of(images_per_cluster, init)`: the images that matching starts from, whatever else it is told."""

    @cache
    def start(count: int, init: str = "real") -> Tensor:
        still = settings(steps=1, images_per_cluster=count, init=init, optimizer="sgd", lr=STILL, label_lr=STILL)
        return matched(toy, still).images

    return start


def vector(gradient: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in gradient.values()])


def wanted_gradient(toy: Toy, options: Matching, cluster: int, epoch: int) -> Tensor:
    gradient = vector(toy.real_gradient(cluster, epoch))
    return -gradient if options.direction == "reverse" else gradient


def plain_distance(name: str, synthetic: Tensor, target: Tensor) -> Tensor:
    if name == "mse":
        return (synthetic - target).pow(2).sum() / target.pow(2).sum()
    return 1 - synthetic @ target / (synthetic.norm() * target.norm())


@dataclass(frozen=True)
class Alone:
    """One cluster, matched by itself."""

    images: Tensor
    labels: Tensor
    cosine: Tensor
    real_norm: Tensor


def alone(toy: Toy, options: Matching, distance: str, cluster: int, begin: Tensor) -> Alone:
    """Alg. 1 for one cluster: a plain loop with `torch.autograd` and an ordinary optimiser."""
    pairs = possible_pairs(sorted(toy.trajectory), options)
    drawn = torch.randint(len(pairs), (options.steps,), generator=generator(SEED, "pairs")).tolist()
    images = begin.clone().requires_grad_()
    logits = torch.zeros(len(begin), 3, dtype=begin.dtype, requires_grad=True)
    certain = F.one_hot(toy.partition.classes[cluster].expand(len(begin)), 3).double()
    groups = [{"params": [images], "lr": options.lr}, {"params": [logits], "lr": options.label_lr}]
    adam = partial(torch.optim.Adam, betas=(options.betas[0], options.betas[1]))
    optimizer = (adam if options.optimizer == "adam" else torch.optim.SGD)(groups)

    def labels() -> Tensor:
        return logits.softmax(1) if options.labels == "learned" else certain

    def synthetic(epoch: int, *, create_graph: bool) -> Tensor:
        return vector(toy.gradient(toy.trajectory[epoch], images, labels(), create_graph=create_graph))

    for step, index in enumerate(drawn):
        for group, lr in zip(optimizer.param_groups, (options.lr, options.label_lr), strict=True):
            cosine_share = (1 + math.cos(math.pi * step / options.steps)) / 2
            group["lr"] = lr * cosine_share if options.schedule == "cosine" else lr
        real, synthetic_epoch = pairs[index]
        optimizer.zero_grad()
        target = wanted_gradient(toy, options, cluster, real)
        plain_distance(distance, synthetic(synthetic_epoch, create_graph=True), target).backward()
        optimizer.step()
    cosines = [
        1 - plain_distance("cosine", synthetic(end, create_graph=False), wanted_gradient(toy, options, cluster, real))
        for real, end in pairs
    ]
    summed = torch.stack([wanted_gradient(toy, options, cluster, real) for real in {real for real, _ in pairs}]).sum(0)
    size = len(toy.partition.members(cluster))
    return Alone(images.detach(), labels().detach(), torch.stack(cosines).mean(), size * summed.norm())


def assert_each_alone(toy: Toy, options: Matching, distance: str, begin: Tensor) -> None:
    found = matched(toy, options, distance=DISTANCES[distance])
    for cluster in range(6):
        wanted = alone(toy, options, distance, cluster, begin[cluster])
        for each in fields(wanted):
            value = getattr(found, each.name)[cluster]
            torch.testing.assert_close(value, getattr(wanted, each.name), rtol=0, atol=1e-8)


@pytest.mark.parametrize("pairing", ["offset", "mirror", "final"])
@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize("labels", ["learned", "hard"])
def test_one_step_agrees_with_a_plain_loop(
    toy: Toy, start_of: Callable[..., Tensor], pairing: str, direction: str, distance: str, labels: str
) -> None:
    for count, optimizer in itertools.product((1, 2), ("adam", "sgd")):
        choices = {"pairing": pairing, "direction": direction, "labels": labels, "optimizer": optimizer}
        options = settings(**choices, steps=1, images_per_cluster=count)
        assert_each_alone(toy, options, distance, start_of(count))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "images_per_cluster": 2},
        {"schedule": "constant", "pairing": "mirror"},
        {"betas": [0.5, 0.9], "images_per_cluster": 2},
        {"labels": "hard", "direction": "forward", "step_length": 1},
        {"init": "noise", "pairing": "final", "images_per_cluster": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_several_steps_agree_with_a_plain_loop(
    toy: Toy, start_of: Callable[..., Tensor], changes: dict[str, Any], distance: str
) -> None:
    options = settings(steps=4, **changes)
    assert_each_alone(toy, options, distance, start_of(options.images_per_cluster, options.init))


def test_synset_gradients_are_those_of_each_cluster_at_one_network(toy: Toy) -> None:
    synset = matched(toy, settings(images_per_cluster=2))
    found = synset_gradients(toy.network, toy.target, synset.images, synset.labels)
    for cluster in range(6):
        wanted = toy.gradient(toy.target, synset.images[cluster], synset.labels[cluster])
        torch.testing.assert_close(take(found, cluster), wanted, rtol=0, atol=1e-12)


def test_paired_gradients_are_those_of_each_network_on_its_own_images(toy: Toy) -> None:
    synset = matched(toy, settings(images_per_cluster=2))
    networks = [toy.trajectory[epoch % 4] for epoch in range(6)]
    stack = {name: torch.stack([each[name] for each in networks]) for name in toy.initial}
    found = paired_gradients(toy.network, stack, synset.images, synset.labels)
    for index, parameters in enumerate(networks):
        wanted = toy.gradient(parameters, synset.images[index], synset.labels[index])
        torch.testing.assert_close(take(found, index), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", [[slice(0, 2), slice(2, 6)], [slice(0, 3), slice(3, 5), slice(5, 6)]])
@pytest.mark.parametrize("init", ["real", "noise"])
def test_chunks_of_clusters_change_nothing(toy: Toy, parts: list[slice], init: str) -> None:
    options = settings(images_per_cluster=2, init=init)
    whole, joined = matched(toy, options), Synset.joined([matched(toy, options, part) for part in parts])
    for each in fields(Synset):
        torch.testing.assert_close(getattr(joined, each.name), getattr(whole, each.name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("memory_mb", [16, 17, 40, 256, 4096])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("images_per_cluster", [1, 400])
def test_chunks_hold_each_cluster_once(toy: Toy, memory_mb: int, total: int, images_per_cluster: int) -> None:
    options = settings(images_per_cluster=images_per_cluster)
    pairs = possible_pairs(sorted(toy.trajectory), options)
    parts = cluster_chunks(toy.network, pairs, options, total, Budget(memory_mb))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))


def test_little_memory_makes_more_chunks(toy: Toy) -> None:
    options = settings(images_per_cluster=400)
    pairs = possible_pairs(sorted(toy.trajectory), options)
    sizes = [len(cluster_chunks(toy.network, pairs, options, 100, Budget(memory_mb))) for memory_mb in (16, 32, 1024)]
    assert sizes[0] > sizes[1] > sizes[2] == 1


def test_real_start_is_of_the_clusters_own_images_each_once_before_any_twice(
    toy: Toy, start_of: Callable[..., Tensor]
) -> None:
    begin = start_of(4)
    for cluster in range(6):
        real = toy.cluster(cluster).images
        same = (begin[cluster][:, None] == real[None]).flatten(2).all(2)
        assert (same.sum(1) == 1).all()
        assert same.sum(0).max() == math.ceil(4 / len(real))


def test_noise_start_is_standard_normal(start_of: Callable[..., Tensor]) -> None:
    begin = start_of(200, "noise")
    assert abs(begin.mean()) < 0.02
    assert abs(begin.std() - 1) < 0.02
    assert not torch.equal(begin[0], begin[1])


def test_labels_start_uniform_or_stay_those_of_the_class(toy: Toy) -> None:
    still = settings(optimizer="sgd", lr=STILL, label_lr=STILL)
    torch.testing.assert_close(matched(toy, still).labels, torch.full((6, 1, 3), 1 / 3, dtype=torch.float64))
    certain = F.one_hot(toy.partition.classes, 3).double()[:, None]
    assert torch.equal(matched(toy, settings(labels="hard")).labels, certain)


def test_learned_labels_are_probabilities(toy: Toy) -> None:
    labels = matched(toy, settings(steps=20)).labels
    torch.testing.assert_close(labels.sum(2), torch.ones(6, 1, dtype=torch.float64))
    assert (labels > 0).all()


def mean_distances(toy: Toy, options: Matching, distance: Distance, steps: int) -> Tensor:
    """Distance of each cluster's synthetic gradient to its target at the one pair there is, after so many steps."""
    changes = {"steps": steps} if steps else {"steps": 1, "optimizer": "sgd", "lr": STILL, "label_lr": STILL}
    [(real, end)] = possible_pairs(sorted(toy.trajectory), options)
    synset = matched(toy, options.model_copy(update=changes), distance=distance)
    gradients = synset_gradients(toy.network, toy.trajectory[end], synset.images, synset.labels)
    names = {name: each[0] for name, each in gradients.items()}
    found = []
    for cluster in range(6):
        target = wanted_gradient(toy, options, cluster, real)
        parts = target.split([each.numel() for each in names.values()])
        shaped = {name: part.view(each.shape) for (name, each), part in zip(names.items(), parts, strict=True)}
        found.append(distance(take(gradients, cluster), shaped))
    return torch.stack(found)


@pytest.mark.parametrize("distance", [cosine.distance, mse.distance, partial(cosine.distance, per="tensor")])
@pytest.mark.parametrize(("labels", "direction"), [("learned", "reverse"), ("hard", "forward")])
def test_a_step_lowers_every_clusters_distance_and_fifty_lower_their_mean(
    toy: Toy, distance: Distance, labels: str, direction: str
) -> None:
    options = settings(
        step_length=3, labels=labels, direction=direction, optimizer="sgd", lr=1e-2, label_lr=1e-2, schedule="constant"
    )
    before, after_one, after_fifty = (mean_distances(toy, options, distance, steps) for steps in (0, 1, 50))
    assert (after_one < before).all()
    assert after_fifty.mean() < after_one.mean()


@pytest.mark.parametrize(("optimizer", "steps"), [("adam", 1), ("sgd", 50)])
@pytest.mark.parametrize("distance", [cosine.distance, mse.distance])
def test_what_matches_from_the_start_stays(
    toy: Toy, start_of: Callable[..., Tensor], optimizer: str, steps: int, distance: Distance
) -> None:
    options = settings(**WHOLE, optimizer=optimizer, steps=steps)
    found, begin = matched(toy, options, slice(5, 6), distance), start_of(6)[5]
    assert len(toy.partition.members(5)) == 6
    torch.testing.assert_close(found.cosine, torch.ones(1, dtype=torch.float64))
    assert (found.images[0] - begin).abs().max() < 1e-6


@pytest.mark.parametrize("clusters", [ALL, slice(3, 5), slice(2, 4)])
def test_divergence_names_the_step_the_cluster_and_the_settings(toy: Toy, clusters: slice) -> None:
    images = torch.where((toy.partition.clusters == 3)[:, None, None, None], math.nan, toy.data.images)
    divided = Divided(ImageSet(images, toy.data.labels), toy.partition)
    wanted = (
        r"matching diverged at step 1: the synthetic images of cluster 3 \(class 1\) or their gradients are NaN or "
        r"infinite; lower matching\.lr \(0\.3\) or matching\.label_lr \(0\.2\)"
    )
    with pytest.raises(DivergenceError, match=wanted):
        match(target_of(toy), divided, clusters, cosine.distance, settings(), SEED, budget=Budget(64))


@pytest.mark.parametrize("steps", [1, 5])
def test_a_step_that_is_far_too_long_is_divergence_even_if_it_is_the_last(toy: Toy, steps: int) -> None:
    # No recipe may ask for so much, but the toy computes in 64 bits, where less does not diverge at once.
    asked = settings(steps=steps).model_copy(update={"lr": 1e250})
    with pytest.raises(DivergenceError, match=r"matching diverged at step [12]: .* lower matching\.lr \(1e\+250\)"):
        matched(toy, asked)


def test_learned_labels_beat_hard_labels_on_real_digits(
    make_network: Callable[..., tuple[Network, Parameters]],
) -> None:
    """A reversed gradient of the last bias needs probabilities outside the corner that hard labels are."""
    digits = load_digits(n_class=3)
    images = torch.from_numpy(digits.images[:90]).float()[:, None] / 8 - 1
    data = ImageSet(images, torch.from_numpy(digits.target[:90]))
    network, initial = make_network(size=8, dtype=torch.float32, width=8)
    training = Training(epochs=4, lr=0.2, batch_size=16)
    states = train(network, start(initial, 2), data, torch.ones(2, 90), training, SEED)
    trajectory = {0: initial} | {state.epoch: take(state.parameters, 0) for state in states}
    partition = Partition(data.labels * 2 + torch.arange(90) % 2, torch.arange(3).repeat_interleave(2))
    cosines = {}
    for labels in ("learned", "hard"):
        options = Matching(steps=60, step_length=2, labels=labels)
        target, divided = Target(network, trajectory), Divided(data, partition)
        found = match(target, divided, ALL, cosine.distance, options, SEED, budget=Budget(64))
        cosines[labels] = found.cosine
    assert cosines["learned"].min() > cosines["hard"].max()
    assert cosines["learned"].mean() > cosines["hard"].mean() + 0.2


def test_advance_is_called_once_a_step(toy: Toy) -> None:
    calls: list[None] = []
    arguments = (target_of(toy), Divided(toy.data, toy.partition), ALL, cosine.distance)
    match(*arguments, settings(steps=7), SEED, budget=Budget(64), advance=lambda: calls.append(None))
    assert len(calls) == 7


def test_cosine_of_tiny_gradients_is_not_diminished(toy: Toy) -> None:
    """Late in training a cluster's gradient can be very small, and its direction still is one."""
    certain = {**toy.initial, "5.bias": torch.tensor([0.0, 0.0, 28.0], dtype=torch.float64)}
    real = toy.cluster(5)
    assert vector(toy.gradient(certain, real.images, real.labels)).norm() < 1e-10
    options = settings(**WHOLE, optimizer="sgd", lr=STILL)
    target, divided = Target(toy.network, {0: certain}), Divided(toy.data, toy.partition)
    found = match(target, divided, slice(5, 6), cosine.distance, options, SEED, budget=Budget(64))
    torch.testing.assert_close(found.cosine, torch.ones(1, dtype=torch.float64))


def test_synset_survives_the_way_to_a_file_and_back(toy: Toy) -> None:
    synset = matched(toy, settings())
    tensors = synset.tensors("cluster.")
    assert sorted(tensors) == ["cluster.cosine", "cluster.images", "cluster.labels", "cluster.real_norm"]
    back = Synset.from_tensors(tensors, "cluster.")
    assert len(back) == 6
    assert all(torch.equal(getattr(back, each.name), getattr(synset, each.name)) for each in fields(Synset))


def test_gradients_of_classes_are_the_weighted_means_of_their_clusters(toy: Toy) -> None:
    pairs = [(0, 2), (2, 3)]
    coarse = toy.partition.class_wise(3)
    parts = [(toy.partition, slice(0, 6)), (coarse, slice(0, 3))]
    fine, direct = (
        trajectory_gradients(target_of(toy), Divided(toy.data, partition), clusters, pairs, Budget(64))
        for partition, clusters in parts
    )
    merged = class_gradients(fine, toy.partition, 3)
    assert sorted(merged) == sorted(direct) == [0, 2]
    torch.testing.assert_close(merged, direct, rtol=0, atol=1e-12)

"""On one thread of a processor a network has the same bits in every stack; elsewhere the target is its control."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.memory import Budget
from ddm_framework.network.networks import build_network
from ddm_framework.network.stacks import Parameters, broadcast, concatenate, take
from ddm_framework.network.target import Target
from ddm_framework.network.training import start, start_each, train
from ddm_framework.offline.matching import match
from ddm_framework.offline.partition import Divided, Partition
from ddm_framework.offline.real_gradients import cluster_gradients
from ddm_framework.offline.synset import Synset, synset_gradients
from ddm_framework.online.finetuning import finetune
from ddm_framework.plugin.choosing import choose
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.settings import Matching, Online, Training

CLUSTERS = 11
SHAPES = {"convnet": (3, 32, 32), "alexnet": (3, 32, 32), "resnet": (3, 16, 16), "vit": (3, 16, 16)}
OPTIONS = {
    "convnet": {"width": 16},
    "alexnet": {"width": 16},
    "resnet": {"width": 8, "blocks": [1, 1]},
    "vit": {"width": 24, "depth": 2, "heads": 2, "patch_size": 4},
}


@dataclass
class Case:
    target: Target
    divided: Divided
    synset: Synset


@pytest.fixture(scope="module", params=list(SHAPES))
def case(request: pytest.FixtureRequest) -> Case:
    """A network of 20 weights' noise per checkpoint, and 33 random images in eleven clusters of one or more."""
    name, shape = request.param, SHAPES[request.param]
    info = DataInfo(shape, 4, (0.0,) * 3, (1.0,) * 3, tuple("abcd"))
    choice = choose(load_plugins(), "backbone", name, OPTIONS[name])
    network, initial = build_network(choice, info, 0, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    near = {key: each + 0.01 * torch.randn(each.shape, generator=random) for key, each in initial.items()}
    images, labels = torch.randn(33, *shape, generator=random), torch.arange(33) % 4
    partition = Partition(torch.arange(33) % CLUSTERS, torch.arange(CLUSTERS) % 4)
    synthetic = torch.randn(CLUSTERS, 1, *shape, generator=random)
    probabilities = torch.randn(CLUSTERS, 1, 4, generator=random).softmax(-1)
    synset = Synset(synthetic, probabilities, torch.ones(CLUSTERS), torch.ones(CLUSTERS))
    return Case(Target(network, {0: initial, 1: near}), Divided(ImageSet(images, labels), partition), synset)


def networks(target: Target, count: int) -> Parameters:
    random = torch.Generator().manual_seed(1)
    stack = broadcast(target.final, count)
    return {key: each + 0.01 * torch.randn(each.shape, generator=random) for key, each in stack.items()}


@pytest.mark.parametrize("batch", [1, 3, 5, 20])
@pytest.mark.parametrize("own", [False, True], ids=["shared images", "own images"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
def test_logits_and_gradients(case: Case, batch: int, own: bool, size: int) -> None:
    network, stack = case.target.network, networks(case.target, 12)
    random = torch.Generator().manual_seed(2)
    lead = (12, batch) if own else (batch,)
    images = torch.randn(*lead, *network.info.shape, generator=random)
    labels, weights = torch.randint(4, lead, generator=random), torch.full((12, batch), 1 / batch)
    some, part = take(stack, slice(3, 3 + size)), slice(3, 3 + size)
    seen, told = (images[part], labels[part]) if own else (images, labels)
    assert torch.equal(network.stacked(some, seen), network.stacked(stack, images)[part])
    whole, found = network.gradients(stack, images, labels, weights), network.gradients(some, seen, told, weights[part])
    assert same(found, take(whole, part))


@pytest.mark.parametrize("parts", [[11], [1] * 11, [2, 9], [5, 3, 3]], ids=str)
def test_training(case: Case, parts: list[int]) -> None:
    settings, count = Training(epochs=1, batch_size=8, lr=0.1), sum(parts)
    present = (torch.rand(count, 33, generator=torch.Generator().manual_seed(3)) < 0.8).float()
    network, initial = case.target.network, case.target.initial
    *_, whole = train(network, start(initial, count), case.divided.data, present, settings, 0)
    ends = [list(train(network, start(initial, len(part)), case.divided.data, part, settings, 0))[-1]
            for part in present.split(parts)]  # fmt: skip
    assert same(concatenate(each.parameters for each in ends), whole.parameters)


@pytest.mark.parametrize("parts", [[1] * 5, [2, 3]], ids=str)
def test_training_in_batch_orders_of_their_own(case: Case, parts: list[int]) -> None:
    settings, seeds = Training(epochs=1, batch_size=8, lr=0.1), [1, 2, 3, 4, 5]
    network, present = case.target.network, torch.ones(5, 33)

    def end(some: list[int]) -> Parameters:
        state = start_each([case.target.initial] * len(some))
        *_, last = train(network, state, case.divided.data, present[: len(some)], settings, some)
        return last.parameters

    edges = [sum(parts[:index]) for index in range(len(parts) + 1)]
    found = [end(seeds[low:high]) for low, high in itertools.pairwise(edges)]
    assert same(concatenate(found), end(seeds))


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_real_gradients(case: Case, monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    arguments = (case.target.network, case.target.final, case.divided, Budget(256))
    whole = cluster_gradients(*arguments)
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: blocks)
    assert same(cluster_gradients(*arguments), whole)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_matching(case: Case, size: int) -> None:
    distance = choose(load_plugins(), "distance", "cosine", {})
    settings = Matching(steps=3, pairing="final")

    def matched(clusters: slice) -> Synset:
        return match(case.target, case.divided, clusters, distance, settings, 0, budget=Budget(256))

    parts = [slice(low, min(low + size, CLUSTERS)) for low in range(0, CLUSTERS, size)]
    whole, found = matched(slice(0, CLUSTERS)), Synset.joined([matched(part) for part in parts])
    for each in fields(Synset):
        assert torch.equal(getattr(found, each.name), getattr(whole, each.name)), each.name


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("rows", "gradients"), [(1, 64), (3, 64), (7, 1), (7, 3), (2, 2)])
def test_fine_tuning(case: Case, monkeypatch: pytest.MonkeyPatch, steps: int, rows: int, gradients: int) -> None:
    perturbations = (torch.rand(7, CLUSTERS, generator=torch.Generator().manual_seed(4)) < 0.6).float()
    online = Online(steps=steps, step_size=0.1)

    def tuned(some: Tensor) -> Parameters:
        return finetune(case.target, case.synset, some, online, "reverse", Budget(256))

    whole = tuned(perturbations)
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: gradients)
    assert same(concatenate(tuned(part) for part in perturbations.split(rows)), whole)


def test_synset_gradients_of_one_cluster(case: Case) -> None:
    arguments = (case.target.network, case.target.final)
    whole = synset_gradients(*arguments, case.synset.images, case.synset.labels)
    one = synset_gradients(*arguments, case.synset.images[4:5], case.synset.labels[4:5])
    assert same(one, take(whole, slice(4, 5)))


def test_the_control_takes_the_rounding_of_its_stack_away(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose rounding depends on the stack: each logit is off by the same amount as the target's."""
    network, target = case.target.network, case.target.final
    images, stack = case.divided.data.images, concatenate([networks(case.target, 3), broadcast(target, 1)])
    wanted = network.logits(stack, images)
    honest = type(network).logits

    def rounded(self: object, stack: Parameters, *rest: Tensor) -> Tensor:
        return honest(self, stack, *rest) + 0.5 * len(next(iter(stack.values())))  # type: ignore[arg-type]

    monkeypatch.setattr(type(network), "logits", rounded)
    found = network.controlled_logits(stack, target, images)
    torch.testing.assert_close(found, wanted + 0.5)
    assert torch.equal(found[3], network.logits_of(target, images))


def same(some: Parameters, other: Parameters) -> bool:
    return all(torch.equal(each, other[name]) for name, each in some.items())

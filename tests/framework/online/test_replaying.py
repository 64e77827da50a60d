"""The dial: a plain loop agrees, all epochs are exact retraining, and a network that lacks nothing is the target."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ddm_framework.network.memory import Budget
from ddm_framework.network.stacks import Parameters, take
from ddm_framework.network.target import Target
from ddm_framework.network.training import TrainingState, _order, learning_rate, start, train
from ddm_framework.offline.synset import Synset
from ddm_framework.online.estimating import perturbed_networks
from ddm_framework.online.replaying import Replay, replayed, share_of_step, steps_of_sets
from ddm_framework.plugin import load_plugins
from ddm_framework.recipe import Recipe, load_recipe
from ddm_framework.recipe.settings import Online, Training

if TYPE_CHECKING:
    from conftest import Toy

SEED, EPOCHS = 3, 3
ROWS = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1.0]])
TRAININGS: list[dict[str, Any]] = [{}, {"momentum": 0.9, "schedule": "cosine", "weight_decay": 0.01}]


@dataclass
class Trained:
    """A target that was really trained, and its states after each epoch."""

    target: Target
    states: list[TrainingState]
    recipe: Recipe

    def replay(self, toy: Toy, epochs: int, *, controlled: bool = False) -> Replay:
        velocity = take(self.states[EPOCHS - epochs].velocity, 0)
        return Replay(toy.data, toy.partition.clusters, epochs, velocity, controlled)


def trained(toy: Toy, changes: dict[str, Any], step_size: float = 0.1) -> Trained:
    training = Training(epochs=EPOCHS, lr=0.3, batch_size=5, **changes)
    states = [start(toy.initial, 1)]
    states += train(toy.network, states[0], toy.data, torch.ones(1, len(toy.data)), training, SEED)
    general = load_recipe("digits_convnet", load_plugins())
    recipe = replace(
        general,
        training=training,
        online=Online(replay=1, replay_step_size=step_size),
        general=general.general.model_copy(update={"seed": SEED}),
    )
    trajectory = {state.epoch: take(state.parameters, 0) for state in states}
    return Trained(Target(toy.network, trajectory), states, recipe)


def synset() -> Synset:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 1, 4, 4, generator=random, dtype=torch.float64)
    labels = torch.randn(6, 1, 3, generator=random, dtype=torch.float64).softmax(2)
    return Synset(images, labels, torch.ones(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64))


def plain(toy: Toy, found: Trained, row: Tensor, epochs: int) -> Parameters:
    """The same for one network: cluster after cluster, batch after batch."""
    training, begin = found.recipe.training, EPOCHS - epochs
    state = found.states[begin]
    theta, velocity = take(state.parameters, 0), take(state.velocity, 0)
    norm = torch.cat([each.flatten() for each in theta.values()]).norm()
    rates = [learning_rate(training, epoch) for epoch in range(EPOCHS)]
    moved = {name: each.clone() for name, each in theta.items()}
    for cluster in (row == 0).nonzero()[:, 0].tolist():
        gradient = toy.gradient(theta, synset().images[cluster], synset().labels[cluster])
        length = torch.cat([each.flatten() for each in gradient.values()]).norm()
        factor = found.recipe.online.replay_step_size * sum(rates[:begin]) / sum(rates) * norm / length
        factor = factor * float((row == 0).sum()) ** -0.25
        moved = {name: each - factor * gradient[name] for name, each in moved.items()}
    theta = moved
    for epoch in range(begin, EPOCHS):
        for batch in _order(len(toy.data), SEED, epoch).split(training.batch_size):
            leaves = {name: each.detach().requires_grad_() for name, each in theta.items()}
            logits = functional_call(toy.network.module, leaves, (toy.data.images[batch],))
            losses = F.cross_entropy(logits, toy.data.labels[batch], reduction="none")
            kept = row[toy.partition.clusters[batch]].double()
            gradients = torch.autograd.grad((losses * kept).sum() / training.batch_size, list(leaves.values()))
            for (name, each), gradient in zip(leaves.items(), gradients, strict=True):
                pull = gradient + training.weight_decay * each.detach()
                velocity[name] = training.momentum * velocity[name] + pull
                theta[name] = each.detach() - rates[epoch] * velocity[name]
    return theta


@pytest.mark.parametrize("changes", TRAININGS, ids=str)
@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("controlled", [False, True])
def test_replayed_networks_agree_with_a_plain_loop(
    toy: Toy, changes: dict[str, Any], epochs: int, controlled: bool
) -> None:
    found = trained(toy, changes)
    stack = replayed(
        found.target, synset(), ROWS.double(), found.replay(toy, epochs, controlled=controlled), found.recipe
    )
    for index, row in enumerate(ROWS):
        torch.testing.assert_close(take(stack, index), plain(toy, found, row, epochs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("changes", TRAININGS, ids=str)
@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("controlled", [False, True])
def test_a_network_that_lacks_nothing_is_the_target(
    toy: Toy, changes: dict[str, Any], epochs: int, controlled: bool
) -> None:
    found = trained(toy, changes)
    stack = replayed(found.target, synset(), ROWS, found.replay(toy, epochs, controlled=controlled), found.recipe)
    assert all(torch.equal(each[0], found.target.final[name]) for name, each in stack.items())


def test_several_clusters_share_a_shorter_step_and_one_keeps_its_own() -> None:
    rows = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [0.5, 1, 1, 1], [0, 0, 0, 0], [0, 0.5, 0.5, 1]])
    wanted = [[0, 0, 0, 0], [1, 0, 0, 0], [0.5, 0, 0, 0], [0.5] * 4, [2**-0.5, 2**-1.5, 2**-1.5, 0]]
    torch.testing.assert_close(1 - steps_of_sets(rows, 0.5), torch.tensor(wanted))
    assert torch.equal(steps_of_sets(rows, 0.0), rows)


@pytest.mark.parametrize("changes", TRAININGS, ids=str)
def test_all_epochs_are_exact_retraining(toy: Toy, changes: dict[str, Any]) -> None:
    found = trained(toy, changes, step_size=1.0)
    stack = replayed(found.target, synset(), ROWS, found.replay(toy, EPOCHS), found.recipe)
    kept = ROWS[:, toy.partition.clusters]
    *_, exact = train(toy.network, start(toy.initial, 3), toy.data, kept, found.recipe.training, SEED)
    assert all(torch.equal(each, exact.parameters[name]) for name, each in stack.items())


@pytest.mark.parametrize("at_a_time", [1, 2, 64])
def test_networks_at_a_time_change_nothing(toy: Toy, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    found = trained(toy, TRAININGS[1])
    replay = found.replay(toy, 2)
    [(_, whole)] = perturbed_networks(found.target, synset(), ROWS, found.recipe, replay)
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: at_a_time)
    parts = list(perturbed_networks(found.target, synset(), ROWS, found.recipe, replay))
    assert [row for part, _ in parts for row in range(part.start, part.stop)] == [0, 1, 2]
    for name, each in whole.items():
        torch.testing.assert_close(torch.cat([stack[name] for _, stack in parts]), each, rtol=0, atol=1e-10)


def test_a_class_is_deleted_with_all_its_samples(toy: Toy) -> None:
    found = trained(toy, {})
    classes = Synset(*(each[:3] for each in (synset().images, synset().labels, synset().cosine, synset().real_norm)))
    rows = torch.tensor([[1.0, 0, 1]])
    replay = Replay(toy.data, toy.data.labels, EPOCHS, found.replay(toy, EPOCHS).velocity, controlled=False)
    stack = replayed(found.target, classes, rows, replay, found.recipe)
    kept = (toy.data.labels != 1).float()[None]
    *_, exact = train(toy.network, start(toy.initial, 1), toy.data, kept, found.recipe.training, SEED)
    assert all(torch.equal(each, exact.parameters[name]) for name, each in stack.items())


def test_the_step_is_the_share_of_the_training_before_it() -> None:
    constant = Training(epochs=4)
    assert [share_of_step(constant, epoch) for epoch in range(5)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    cosine = Training(epochs=2, schedule="cosine", lr=1.0)
    rates = [1.0, (1 + math.cos(math.pi / 2)) / 2]
    assert share_of_step(cosine, 1) == pytest.approx(rates[0] / sum(rates))


@pytest.mark.parametrize("other", [{"anchor": 1.0}, {"start": "initial"}])
def test_replay_excludes_other_ways(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="two ways to do the same"):
        Online(replay="auto", **other)
    assert Online(replay=2, replay_step_size=0.0).replay == 2

"""Fine-tuning many networks at once is fine-tuning each alone: Eq. 9 by plain loops, its lengths and its sign."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework.network.memory import Budget
from ddm_framework.network.stacks import Parameters, broadcast, concatenate, flat, take
from ddm_framework.network.target import Target
from ddm_framework.network.training import _order, learning_rate
from ddm_framework.offline.synset import Synset
from ddm_framework.online.estimating import perturbed_networks
from ddm_framework.online.finetuning import (
    Anchor,
    anchored,
    finetune,
    retrain_on_synset,
    step_lengths,
)
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.settings import Online, Training

if TYPE_CHECKING:
    from conftest import Toy

ROWS = torch.tensor(
    [[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0]]
).float()
SEED = 2


def synset_of(images_per_cluster: int, seed: int = 0) -> Synset:
    """Six clusters of random images and labels, with gradients of different lengths."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(6, images_per_cluster, 1, 4, 4, generator=random, dtype=torch.float64)
    labels = torch.randn(6, images_per_cluster, 3, generator=random, dtype=torch.float64).softmax(2)
    real_norm = 0.1 + torch.rand(6, generator=random, dtype=torch.float64)
    return Synset(images, labels, torch.ones(6, dtype=torch.float64), real_norm)


def finetuned(
    toy: Toy,
    synset: Synset,
    rows: Tensor = ROWS,
    direction: Literal["reverse", "forward"] = "reverse",
    memory_mb: int = 64,
    **online: Any,
) -> Parameters:
    target, options = Target(toy.network, toy.trajectory), Online(**online)
    return finetune(target, synset, rows, options, direction, Budget(memory_mb))


def anchor_of(toy: Toy, epochs: int) -> Anchor:
    """All training images, in the six clusters that `ROWS` speaks of."""
    count = len(toy.data)
    return Anchor(toy.data, torch.arange(count) % 6, epochs)


def length(parameters: Parameters) -> Tensor:
    return torch.cat([each.flatten() for each in parameters.values()]).norm()


def alone(toy: Toy, synset: Synset, row: Tensor, direction: str, online: Online) -> Parameters:
    """Eq. 9 for one network, one deleted cluster after another."""
    parameters = {name: each.clone() for name, each in toy.target.items()}
    sign = 1 if direction == "reverse" else -1
    for _ in range(online.steps):
        moved = {name: each.clone() for name, each in parameters.items()}
        for cluster in (row == 0).nonzero()[:, 0].tolist():
            gradient = toy.gradient(parameters, synset.images[cluster], synset.labels[cluster])
            factor = torch.tensor(online.step_size, dtype=torch.float64)
            if online.scale != "raw":
                factor = online.step_size * length(toy.target) / length(gradient)
            if online.scale == "cluster_share":
                factor = factor * synset.real_norm[cluster] / (sum(synset.real_norm.tolist()) / 6)
            for name, each in gradient.items():
                moved[name] -= sign * factor / (1 if online.scale == "raw" else online.steps) * each
        parameters = moved
    return parameters


@pytest.mark.parametrize("scale", ["common", "cluster_share", "raw"])
@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("images_per_cluster", [1, 2])
def test_networks_agree_with_a_plain_loop(
    toy: Toy, scale: str, direction: str, steps: int, images_per_cluster: int
) -> None:
    synset, options = synset_of(images_per_cluster), {"scale": scale, "steps": steps, "step_size": 0.1}
    stack = finetuned(toy, synset, direction=direction, **options)
    for index, row in enumerate(ROWS):
        wanted = alone(toy, synset, row, direction, Online(**options))
        torch.testing.assert_close(take(stack, index), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", ["common", "cluster_share", "raw"])
@pytest.mark.parametrize("steps", [1, 3])
def test_what_lacks_nothing_is_the_target_itself(toy: Toy, scale: str, steps: int) -> None:
    stack = finetuned(toy, synset_of(1), scale=scale, steps=steps)
    torch.testing.assert_close(take(stack, 0), toy.target, rtol=0, atol=0)


@pytest.mark.parametrize("scale", ["common", "cluster_share", "raw"])
@pytest.mark.parametrize("at_a_time", [1, 2, 5, 64])
def test_gradients_at_a_time_change_nothing(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, scale: str, at_a_time: int
) -> None:
    options = {"scale": scale, "steps": 3, "step_size": 0.1}
    whole = finetuned(toy, synset_of(2), **options)
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: at_a_time)
    torch.testing.assert_close(finetuned(toy, synset_of(2), **options), whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rows", [leave_one_out(6), ROWS], ids=["leave-one-out", "several"])
@pytest.mark.parametrize("begin", ["target", "initial", "anchored"])
@pytest.mark.parametrize("at_a_time", [1, 2, 3, 64])
def test_networks_at_a_time_change_nothing(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, rows: Tensor, begin: str, at_a_time: int
) -> None:
    online = Online(start="initial" if begin == "initial" else "target", steps=2, step_size=0.1)
    recipe = replace(load_recipe("digits_convnet", load_plugins()), online=online, training=Training(lr=0.3))
    target = Target(toy.network, toy.trajectory)
    anchor = anchor_of(toy, 1) if begin == "anchored" else None

    def perturbed() -> tuple[list[int], Parameters]:
        parts = list(perturbed_networks(target, synset_of(1), rows, recipe, anchor))
        return [row for part, _ in parts for row in range(part.start, part.stop)], concatenate(s for _, s in parts)

    order, whole = perturbed()
    monkeypatch.setattr(Budget, "items", lambda *_args, **_options: at_a_time)
    order_in_parts, in_parts = perturbed()
    assert order == order_in_parts == list(range(len(rows)))
    torch.testing.assert_close(in_parts, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_every_deletion_moves_by_one_common_length(toy: Toy, direction: str) -> None:
    stack = finetuned(toy, synset_of(2), leave_one_out(6), direction, step_size=0.03)
    moves = torch.linalg.vector_norm(flat(stack) - flat(broadcast(toy.target, 7)), dim=1)
    wanted = 0.03 * length(toy.target) * torch.tensor([0, 1, 1, 1, 1, 1, 1])
    torch.testing.assert_close(moves, wanted, rtol=0, atol=1e-12)


def test_shares_have_the_common_length_on_average_and_the_ratios_of_the_real_gradients(toy: Toy) -> None:
    synset = synset_of(1)
    lengths = step_lengths(toy.target, synset, Online(scale="cluster_share", step_size=0.03))
    torch.testing.assert_close(lengths.mean(), 0.03 * length(toy.target))
    torch.testing.assert_close(lengths / lengths[0], synset.real_norm / synset.real_norm[0])


def test_reverse_goes_downhill_on_the_synset_and_forward_uphill(toy: Toy) -> None:
    synset = synset_of(2)
    before = torch.stack([loss_on(toy, toy.target, synset, cluster) for cluster in range(6)])
    for direction, sign in (("reverse", -1), ("forward", 1)):
        stack = finetuned(toy, synset, leave_one_out(6), direction, step_size=1e-4)
        after = torch.stack([loss_on(toy, take(stack, cluster + 1), synset, cluster) for cluster in range(6)])
        assert ((after - before).sign() == sign).all()


def loss_on(toy: Toy, parameters: Parameters, synset: Synset, cluster: int) -> Tensor:
    return F.cross_entropy(toy.module(parameters)(synset.images[cluster]), synset.labels[cluster]).detach()


def test_forward_mirrors_reverse_for_one_step(toy: Toy) -> None:
    back, forth = (finetuned(toy, synset_of(1), direction=each, step_size=0.1) for each in ("reverse", "forward"))
    torch.testing.assert_close((flat(back) + flat(forth)) / 2, flat(broadcast(toy.target, 5)), rtol=0, atol=1e-12)


def test_one_step_without_two_clusters_is_the_sum_of_the_steps_without_each(toy: Toy) -> None:
    rows = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 1], [0, 1, 1, 1, 0, 1]]).float()
    moves = flat(finetuned(toy, synset_of(1), rows, step_size=0.1)) - flat(broadcast(toy.target, 3))
    torch.testing.assert_close(moves[2], moves[0] + moves[1], rtol=0, atol=1e-12)


def test_more_steps_go_as_far_in_smaller_strides(toy: Toy) -> None:
    near = [finetuned(toy, synset_of(1), step_size=1e-6, steps=steps) for steps in (1, 10)]
    moves = [flat(each)[1:] - flat(broadcast(toy.target, 4)) for each in near]
    assert ((moves[0] - moves[1]).norm(dim=1) < 1e-3 * moves[0].norm(dim=1)).all()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_gradient_of_zero_moves_nothing(toy: Toy, steps: int) -> None:
    last = ("5.weight", "5.bias")
    indifferent = {name: torch.zeros_like(each) if name in last else each for name, each in toy.target.items()}
    synset = synset_of(1)
    uniform = Synset(synset.images, torch.full_like(synset.labels, 1 / 3), synset.cosine, synset.real_norm)
    stack = finetune(Target(toy.network, {0: indifferent}), uniform, ROWS, Online(steps=steps), "reverse", Budget(64))
    torch.testing.assert_close(stack, broadcast(indifferent, 5), rtol=0, atol=0)


@pytest.mark.parametrize("images_per_cluster", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"momentum": 0.9, "weight_decay": 0.1, "schedule": "cosine"}], ids=str)
def test_retraining_on_the_kept_synset_agrees_with_a_plain_loop(
    toy: Toy, images_per_cluster: int, changes: dict[str, Any]
) -> None:
    synset, training = synset_of(images_per_cluster), Training(lr=0.3, **changes)
    stack = retrain_on_synset(Target(toy.network, toy.trajectory), synset, ROWS, Online(steps=4), training, SEED)
    for index, row in enumerate(ROWS):
        found = toy.module(toy.initial)
        optimizer = torch.optim.SGD(
            found.parameters(), training.lr, momentum=training.momentum, weight_decay=training.weight_decay
        )
        kept = row.bool()
        images, labels = synset.images[kept].flatten(0, 1), synset.labels[kept].flatten(0, 1)
        for _ in range(4):
            optimizer.zero_grad()
            loss = F.cross_entropy(found(images), labels, reduction="sum") / (6 * images_per_cluster)
            loss.backward()
            optimizer.step()
        wanted = {name: each.detach() for name, each in found.named_parameters()}
        torch.testing.assert_close(take(stack, index), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"momentum": 0.9, "weight_decay": 0.1, "schedule": "cosine"}], ids=str)
def test_anchored_networks_agree_with_a_plain_loop(toy: Toy, epochs: int, changes: dict[str, Any]) -> None:
    training, anchor = Training(lr=0.3, batch_size=5, **changes), anchor_of(toy, epochs)
    stack = finetuned(toy, synset_of(1), step_size=0.2)
    found = anchored(Target(toy.network, toy.trajectory), stack, ROWS, anchor, training, SEED)

    def trained(row: Tensor, way: Parameters) -> Parameters:
        module = toy.module(toy.target)
        optimizer = torch.optim.SGD(
            module.parameters(), 0.3, momentum=training.momentum, weight_decay=training.weight_decay
        )
        for epoch in range(epochs):
            settings = training.model_copy(update={"epochs": epochs})
            optimizer.param_groups[0]["lr"] = learning_rate(settings, epoch)
            batches = _order(len(anchor.data.labels), SEED, epoch).split(5)
            for batch in batches:
                optimizer.zero_grad()
                losses = F.cross_entropy(module(anchor.data.images[batch]), anchor.data.labels[batch], reduction="none")
                ((losses * row[anchor.clusters[batch]]).sum() / 5).backward()
                optimizer.step()
                with torch.no_grad():
                    for name, each in module.named_parameters():
                        each += way[name] / (epochs * len(batches))
        return {name: each.detach() for name, each in module.named_parameters()}

    still = trained(torch.ones(6), {name: torch.zeros_like(each) for name, each in toy.target.items()})
    for index, row in enumerate(ROWS):
        way = {name: each[index] - toy.target[name] for name, each in stack.items()}
        wanted = {name: toy.target[name] + each - still[name] for name, each in trained(row, way).items()}
        torch.testing.assert_close(take(found, index), wanted, rtol=0, atol=1e-10)


def test_a_network_that_lacks_nothing_stays_the_target_under_an_anchor(toy: Toy) -> None:
    stack = finetuned(toy, synset_of(1), ROWS[:2])
    found = anchored(
        Target(toy.network, toy.trajectory), stack, ROWS[:2], anchor_of(toy, 1), Training(batch_size=4), SEED
    )
    torch.testing.assert_close(take(found, 0), toy.target, rtol=0, atol=1e-12)
    assert length({name: each[1] - toy.target[name] for name, each in found.items()}) > 0

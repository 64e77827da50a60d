"""A stack of networks trains as each would alone with ordinary PyTorch, minus the terms of its deleted samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from ddm_framework.data.splits import ImageSet
from ddm_framework.errors import DivergenceError
from ddm_framework.network.augmentation import augmentations, augmented
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, take
from ddm_framework.network.training import TrainingState, smoothed, start, start_each, train
from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Training

if TYPE_CHECKING:
    from conftest import Toy

SEED = 3


def settings(**changes: Any) -> Training:
    return Training(**{"epochs": 3, "lr": 0.3, "batch_size": 8, **changes})


def plainly_trained(
    toy: Toy, labels: Tensor, present: Tensor, options: Training, *, seed: int = SEED, begin: Parameters | None = None
) -> list[Parameters]:
    """One network's weights after each epoch, by an optimizer of torch and a loop over batches."""
    module = toy.module(begin or toy.initial)
    optimizer = optimizer_of(module, options)
    scheduler = scheduler_of(optimizer, options)
    loss_of = nn.CrossEntropyLoss(reduction="sum", label_smoothing=options.label_smoothing)
    reached = []
    for epoch in range(options.epochs):
        order = torch.randperm(len(labels), generator=generator(seed, "order", epoch))
        drawn = augmentations(options, toy.data.images.shape, [seed], epoch, torch.device("cpu"))
        for batch in order.split(options.batch_size):
            kept = batch[present[batch]]
            optimizer.zero_grad()
            seen = augmented(toy.data.images[kept], kept, drawn)
            loss = loss_of(module(seen), labels[kept]) / options.batch_size
            loss.backward()
            optimizer.step()
        scheduler.step()
        reached.append({name: each.detach().clone() for name, each in module.named_parameters()})
    return reached


def optimizer_of(module: nn.Module, options: Training) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            module.parameters(), options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
    kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    first, second = options.betas
    return kind(module.parameters(), options.lr, (first, second), options.eps, options.weight_decay)


def scheduler_of(optimizer: torch.optim.Optimizer, options: Training) -> torch.optim.lr_scheduler.LRScheduler:
    warm, then = options.warmup_epochs, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    if options.schedule == "cosine":
        then = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs - warm)  # type: ignore[assignment]
    if not warm:
        return then
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (warm + 1), 1.0, warm)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, then], [warm])


def presence(toy: Toy) -> Tensor:
    """Three networks: of everything, without cluster 0, and without clusters 1, 2 and 5."""
    clusters = toy.partition.clusters
    rows = [torch.ones_like(clusters), clusters != 0, ~torch.isin(clusters, torch.tensor([1, 2, 5]))]
    return torch.stack([row.bool() for row in rows])


def trained(
    toy: Toy, options: Training, present: Tensor, labels: Tensor | None = None, state: TrainingState | None = None
) -> Iterator[TrainingState]:
    begin = state or start(toy.initial, len(present))
    chosen = toy.data.labels if labels is None else labels
    return train(toy.network, begin, ImageSet(toy.data.images, chosen), present.float(), options, SEED)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9},
        {"weight_decay": 0.05},
        {"momentum": 0.5, "weight_decay": 0.01, "schedule": "cosine"},
        {"batch_size": 7},
        {"batch_size": 100},
        {"augmentation": ["crop", "flip"]},
        {"optimizer": "adam", "lr": 0.05},
        {"optimizer": "adam", "lr": 0.05, "betas": [0.5, 0.9], "eps": 1e-3, "weight_decay": 0.1, "schedule": "cosine"},
        {"optimizer": "adamw", "lr": 0.05, "weight_decay": 0.1, "warmup_epochs": 1, "batch_size": 7},
        {"label_smoothing": 0.2, "momentum": 0.9},
        {"warmup_epochs": 2, "schedule": "cosine"},
        {"warmup_epochs": 1, "schedule": "cosine", "optimizer": "adam", "lr": 0.05, "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_stack_agrees_with_ordinary_training(toy: Toy, changes: dict[str, Any]) -> None:
    options, present = settings(**changes), presence(toy)
    states = list(trained(toy, options, present))
    assert [state.epoch for state in states] == [1, 2, 3]
    for row, kept in enumerate(present):
        for state, wanted in zip(states, plainly_trained(toy, toy.data.labels, kept, options), strict=True):
            torch.testing.assert_close(take(state.parameters, row), wanted, rtol=0, atol=1e-12)


def test_labels_may_be_probabilities(toy: Toy) -> None:
    random = torch.Generator().manual_seed(1)
    labels = torch.randn(len(toy.data), 3, generator=random, dtype=torch.float64).softmax(1)
    present = presence(toy)
    *_, last = trained(toy, settings(), present, labels)
    for row, kept in enumerate(present):
        wanted = plainly_trained(toy, labels, kept, settings())[-1]
        torch.testing.assert_close(take(last.parameters, row), wanted, rtol=0, atol=1e-12)


def test_networks_that_are_computed_by_vmap_train_alike(toy: Toy) -> None:
    present, options = presence(toy).float(), settings(momentum=0.9, batch_size=7)
    lasts = []
    for network in (toy.network, dataclasses.replace(toy.network, grouped=None)):
        *_, last = train(network, start(toy.initial, 3), toy.data, present, options, SEED)
        lasts.append(last.parameters)
    torch.testing.assert_close(*lasts, rtol=0, atol=1e-12)


def test_networks_may_each_have_a_start_and_an_order_of_their_own(toy: Toy) -> None:
    seeds, begins, present = [5, 6, 7], [toy.initial, toy.trajectory[1], toy.trajectory[2]], presence(toy)
    options, images, labels = settings(momentum=0.9, batch_size=7), toy.data.images, toy.data.labels
    *_, last = train(toy.network, start_each(begins), ImageSet(images, labels), present.float(), options, seeds)
    for row, (seed, begin) in enumerate(zip(seeds, begins, strict=True)):
        wanted = plainly_trained(toy, labels, present[row], options, seed=seed, begin=begin)[-1]
        torch.testing.assert_close(take(last.parameters, row), wanted, rtol=0, atol=1e-12)


def test_equal_seeds_are_one_seed(toy: Toy) -> None:
    present, images, labels = presence(toy).float(), toy.data.images, toy.data.labels
    lasts = []
    for seed in (SEED, [SEED] * 3):
        *_, last = train(toy.network, start(toy.initial, 3), ImageSet(images, labels), present, settings(), seed)
        lasts.append(last.parameters)
    torch.testing.assert_close(*lasts, rtol=0, atol=0)


def test_deleted_samples_change_nothing_by_their_content(toy: Toy) -> None:
    present = presence(toy)
    *_, last = trained(toy, settings(), present)
    images = toy.data.images.clone()
    images[~present[1]] = 1e3
    *_, other = train(
        toy.network, start(toy.initial, 3), ImageSet(images, toy.data.labels), present.float(), settings(), SEED
    )
    torch.testing.assert_close(take(last.parameters, 1), take(other.parameters, 1), rtol=0, atol=0)


def test_without_any_sample_nothing_moves(toy: Toy) -> None:
    *_, last = trained(toy, settings(momentum=0.9), torch.zeros(2, len(toy.data), dtype=torch.bool))
    torch.testing.assert_close(take(last.parameters, 1), toy.initial, rtol=0, atol=0)


def test_networks_of_a_stack_do_not_mix(toy: Toy) -> None:
    present = presence(toy)
    *_, together = trained(toy, settings(momentum=0.9), present)
    *_, swapped = trained(toy, settings(momentum=0.9), present[[2, 0, 1]])
    torch.testing.assert_close(take(together.parameters, torch.tensor([2, 0, 1])), swapped.parameters, rtol=0, atol=0)


@pytest.mark.parametrize("count", [3, 8])
def test_bits_do_not_depend_on_how_many_others_are_in_the_stack(
    make_network: Callable[..., tuple[Network, Parameters]], toy: Toy, count: int
) -> None:
    """The target, trained as a stack of two, is compared with retrainings in stacks of many."""
    network, initial = make_network(dtype=torch.float32)
    images, labels = toy.data.images.float(), toy.data.labels
    lasts = []
    for copies in (1, count):
        states = train(
            network, start(initial, copies), ImageSet(images, labels), torch.ones(copies, 21), settings(), SEED
        )
        *_, last = states
        lasts.append(take(last.parameters, copies - 1))
    torch.testing.assert_close(*lasts, rtol=0, atol=0)


@pytest.mark.parametrize("epochs_before", [0, 1, 2])
def test_resuming_gives_the_same_bits(toy: Toy, epochs_before: int) -> None:
    options, present = settings(momentum=0.9, schedule="cosine"), presence(toy)
    states = [start(toy.initial, 3), *trained(toy, options, present)]
    resumed = list(trained(toy, options, present, state=states[epochs_before]))
    assert [state.epoch for state in resumed] == list(range(epochs_before + 1, 4))
    for name, each in states[-1].parameters.items():
        assert torch.equal(each, resumed[-1].parameters[name])
        assert torch.equal(states[-1].velocity[name], resumed[-1].velocity[name])


def test_nothing_is_left_to_do_after_the_last_epoch(toy: Toy) -> None:
    *_, last = trained(toy, settings(), presence(toy))
    assert list(trained(toy, settings(), presence(toy), state=last)) == []


def test_training_changes_no_state_that_was_yielded_before(toy: Toy) -> None:
    states = trained(toy, settings(momentum=0.9), presence(toy))
    first = next(states)
    kept = {name: each.clone() for name, each in first.parameters.items()}
    list(states)
    torch.testing.assert_close(first.parameters, kept, rtol=0, atol=0)


def test_batch_order_depends_on_the_seed_and_the_epoch_alone(toy: Toy) -> None:
    present = presence(toy)
    lasts = []
    for seed in (SEED, SEED, SEED + 1):
        torch.manual_seed(len(lasts))
        images, labels = toy.data.images, toy.data.labels
        *_, last = train(
            toy.network, start(toy.initial, 3), ImageSet(images, labels), present.float(), settings(), seed
        )
        lasts.append(last.parameters["0.weight"])
    assert torch.equal(lasts[0], lasts[1])
    assert not torch.equal(lasts[0], lasts[2])


def test_divergence_names_the_epoch_and_the_setting(toy: Toy) -> None:
    states = trained(toy, settings(lr=1e30, epochs=5), presence(toy))
    with pytest.raises(DivergenceError, match=r"training diverged in epoch \d .*; lower training\.lr \(1e\+30\)"):
        list(states)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_goes_on_from_its_state_to_the_last_bit(toy: Toy, optimizer: str) -> None:
    options, present = settings(optimizer=optimizer, lr=0.05, weight_decay=0.1, batch_size=7), presence(toy)
    states = list(trained(toy, options, present))
    *_, resumed = trained(toy, options, present, state=states[0])
    for field in ("parameters", "velocity", "squares"):
        wanted = getattr(states[-1], field)
        assert all(torch.equal(each, wanted[name]) for name, each in getattr(resumed, field).items())


def test_the_loss_of_a_network_smooths_class_ids_and_leaves_probabilities(toy: Toy) -> None:
    network = dataclasses.replace(toy.network, smoothing=0.3)
    images, labels = toy.data.images[:5], toy.data.labels[:5]
    logits = network(toy.initial, images)
    wanted = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.3)(logits, labels)
    torch.testing.assert_close(network.loss(toy.initial, images, labels), wanted)
    probabilities = smoothed(labels, 3, 0.3, images.dtype)
    torch.testing.assert_close(network.loss(toy.initial, images, probabilities), wanted)
    stack = {name: each[None] for name, each in toy.initial.items()}
    found = network.gradients(stack, images, labels, torch.ones(1, 5, dtype=images.dtype))
    leaves = {name: each.detach().requires_grad_() for name, each in toy.initial.items()}
    slopes = torch.autograd.grad(network.loss(leaves, images, probabilities).sum(), list(leaves.values()))
    for (name, each), slope in zip(found.items(), slopes, strict=True):
        torch.testing.assert_close(each[0], slope, msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam", "momentum": 0.9}, "momentum belongs to `optimizer: sgd`"),
        ({"warmup_epochs": 3}, "must be fewer than epochs"),
        ({"label_smoothing": 1.0}, "less than 1"),
    ],
)
def test_settings_that_do_not_go_together_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)

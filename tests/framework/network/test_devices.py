"""The same numbers on a GPU as on a processor, and nobody who waits for the GPU within a step.

`pytest -m cuda` runs what needs a GPU. The same tests run on the processor too, so that they work when one comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from ddm_backbones import convnet
from ddm_distances.cosine import distance
from torch import Tensor

from ddm_framework.data import DataInfo, ImageSet, StoredImages
from ddm_framework.network import (
    Budget,
    Network,
    Parameters,
    Target,
    broadcast,
    build_network,
    flat,
    start,
    take,
    train,
)
from ddm_framework.offline import Divided, Partition, Synset, match
from ddm_framework.online import leave_one_out, perturbed_networks
from ddm_framework.online.displacements import Displacements
from ddm_framework.online.replaying import Replay
from ddm_framework.plugin import load_plugins
from ddm_framework.recipe import Recipe
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.settings import Matching, Training

needs_gpu = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
INFO = DataInfo((1, 8, 8), 3, (0.5,), (0.25,), ("a", "b", "c"))
TRAINING = Training(epochs=4, lr=0.1, batch_size=16, momentum=0.9, augmentation=["crop", "flip"])
RECIPE = """\
device: cpu
dataset: {use: digits}
backbone: {use: convnet, width: 8, depth: 2}
clusterer: {use: kmeans, clusters_per_class: 2}
distance: {use: cosine}
training: {epochs: 4, lr: 0.1, batch_size: 16, momentum: 0.9, augmentation: [crop, flip]}
matching: {steps: 4, step_length: 1}
online: {replay: 2}
objectives: [{use: output_shift}]
study: {use: attribution}
"""


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """A GPU's convolutions round to ten bits by default, as far as a tolerance would have to be wide."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("devices") / "recipe.yaml"
    path.write_text(RECIPE)
    return load_recipe(str(path), load_plugins())


def network_on(device: str) -> tuple[Network, Parameters]:
    build = partial(convnet.build, width=8, depth=2)
    network, initial = build_network(build, INFO, 0, torch.device(device))
    return network, initial


def images_on(device: str) -> ImageSet:
    """48 images as they are stored, uint8, read on the device."""
    random = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (48, 1, 8, 8), generator=random, dtype=torch.uint8)
    stored = StoredImages.of(pixels, INFO.mean, INFO.std).to(torch.device(device))
    return ImageSet(stored, (torch.arange(48) % 3).to(device))


def divided_on(device: str) -> Divided:
    clusters = (torch.arange(48) % 3) * 2 + (torch.arange(48) // 3) % 2
    return Divided(images_on(device), Partition(clusters.to(device), torch.tensor([0, 0, 1, 1, 2, 2]).to(device)))


def bank_on(device: str) -> list[Parameters]:
    """A bank of five networks after each epoch."""
    network, initial = network_on(device)
    kept = torch.ones(5, 48)
    kept[torch.arange(4), torch.arange(4)] = 0
    states = train(network, start(initial, 5), images_on(device), kept.to(device), TRAINING, 0)
    return [state.parameters for state in states]


def target_on(device: str) -> Target:
    network, initial = network_on(device)
    epochs = {epoch + 1: take(each, 4) for epoch, each in enumerate(bank_on(device))}
    return Target(network, {0: initial, **epochs})


def synset_on(device: str) -> Synset:
    settings = Matching(steps=30, step_length=1)
    return match(target_on(device), divided_on(device), slice(0, 6), distance, settings, 0, budget=Budget(64))


def moved(target: Target, device: str) -> Target:
    """The target of the processor on another device, so that one step alone is compared."""
    network, _ = network_on(device)
    return Target(
        network,
        {epoch: {name: each.to(device) for name, each in theta.items()} for epoch, theta in target.trajectory.items()},
    )


def assert_near(found: Tensor, wanted: Tensor, within: float) -> None:
    error = (found.cpu() - wanted).norm() / wanted.norm()
    assert error <= within, f"relative error {error:.2e}"


@pytest.mark.parametrize("device", DEVICES)
def test_a_bank_is_that_of_the_processor(device: str) -> None:
    for found, wanted in zip(bank_on(device), bank_on("cpu"), strict=True):
        assert_near(flat(found), flat(wanted), 1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_of_a_stack_is_the_one_that_is_trained_alone(device: str) -> None:
    network, initial = network_on(device)
    kept = torch.ones(1, 48, device=device)
    *_, alone = train(network, start(initial, 1), images_on(device), kept, TRAINING, 0)
    assert_near(flat(alone.parameters), flat(take(bank_on(device)[-1], slice(4, 5))).cpu(), 1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_matching_is_that_of_the_processor(device: str) -> None:
    wanted, target = synset_on("cpu"), target_on("cpu")
    settings = Matching(steps=30, step_length=1)
    found = match(moved(target, device), divided_on(device), slice(0, 6), distance, settings, 0, budget=Budget(64))
    assert found.images.device.type == device
    assert_near(found.images, wanted.images, 1e-2)  # thirty steps of Adam, which divides by small numbers
    assert_near(found.labels, wanted.labels, 1e-2)
    assert_near(found.real_norm, wanted.real_norm, 1e-4)
    assert (found.cosine.cpu() - wanted.cosine).abs().max() <= 1e-2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_on_the_synset_is_that_of_the_processor(recipe: Recipe, device: str, steps: int) -> None:
    asked = replace(recipe, online=recipe.online.changed({"replay": 0, "steps": steps, "step_size": 0.01}))
    found, wanted = (estimated(asked, each, None) for each in (device, "cpu"))
    assert_near(found, wanted, 1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_a_replay_is_that_of_the_processor(recipe: Recipe, device: str) -> None:
    found, wanted = (estimated(recipe, each, 2) for each in (device, "cpu"))
    assert_near(found, wanted, 1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_of_an_influence_function_is_that_of_the_processor(recipe: Recipe, device: str) -> None:
    asked = replace(recipe, online=recipe.online.changed({"direction": "influence"}))
    found, wanted = (
        Displacements(moved(target_on("cpu"), each), 2, {0: 0.1, 1: 0.1}, divided_on(each), asked).block(0, 6)
        for each in (device, "cpu")
    )
    assert_near(flat(found), flat(wanted), 1e-3)


def estimated(recipe: Recipe, device: str, epochs: int | None) -> Tensor:
    """All networks without one cluster, (7, weights), from the target and the synset of the processor."""
    target, divided, known = moved(target_on("cpu"), device), divided_on(device), synset_on("cpu")
    synset = Synset.from_tensors({name: each.to(device) for name, each in known.tensors().items()})
    zero = {name: torch.zeros_like(each) for name, each in target.initial.items()}
    replay = None if epochs is None else Replay(divided.data, divided.partition.clusters, epochs, zero, True)
    parts = perturbed_networks(target, synset, leave_one_out(6), recipe, replay)
    return torch.cat([flat(stack) for _, stack in parts])


@pytest.mark.parametrize("device", DEVICES)
def test_nobody_waits_for_the_device_within_a_step(device: str) -> None:
    network, initial = network_on(device)
    data, kept = images_on(device), torch.ones(8, 48, device=device)
    stack, share = broadcast(initial, 8), kept[:, :16] / 16
    batch, labels = torch.arange(16, device=device), data.labels[:16]
    network.gradients(stack, data.images[batch], labels, share)  # what is set up once may wait
    with unsynchronised(device):
        network.gradients(stack, data.images[batch], labels, share)
    train_an_epoch: Callable[[], object] = lambda: list(  # noqa: E731
        train(network, start(initial, 8), data, kept, TRAINING.model_copy(update={"epochs": 1}), 0)
    )
    train_an_epoch()
    assert waits(device, train_an_epoch) <= 8  # for the draws of the epoch, and to see that it did not diverge
    divided, target = divided_on(device), target_on(device)

    def matched(steps: int) -> int:
        settings = Matching(steps=steps, step_length=1)
        return waits(device, lambda: match(target, divided, slice(0, 6), distance, settings, 0, budget=Budget(64)))

    matched(1)
    assert matched(21) == matched(1)


@contextmanager
def unsynchronised(device: str) -> Iterator[None]:
    """Whoever waits for the GPU raises."""
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waits(device: str, work: Callable[[], object]) -> int:
    """How often something waits for the GPU."""
    import warnings

    if device == "cpu":
        work()
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


@pytest.mark.parametrize("device", DEVICES)
def test_images_too_large_for_the_device_are_read_a_batch_at_a_time(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = images_on(device)
    monkeypatch.setattr("ddm_framework.data.images.RESIDENT_BYTES", 100)
    streamed = images_on(device)
    assert isinstance(streamed.images, StoredImages)
    assert streamed.images.pixels.device.type == "cpu"
    index = torch.tensor([5, 2, 40], device=device)
    assert streamed.images[index].device.type == device
    assert torch.equal(streamed.images[index], resident.images[index])
    network, initial = network_on(device)
    kept = torch.ones(2, 48, device=device)
    found, wanted = (
        [state.parameters for state in train(network, start(initial, 2), data, kept, TRAINING, 0)]
        for data in (streamed, resident)
    )
    assert_near(flat(found[-1]), flat(wanted[-1]).cpu(), 1e-6)

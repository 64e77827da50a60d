"""How fast this machine is: a few real steps of a recipe's own network on its own data, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from ddm_framework.data import DataSplits
from ddm_framework.network import Network, Parameters, Target, broadcast, start, train
from ddm_framework.offline.features import extract_features
from ddm_framework.offline.matching import image_gradients
from ddm_framework.offline.real_gradients import BLOCK
from ddm_framework.randomness import generator
from ddm_framework.recipe import Recipe
from ddm_framework.stages.costs import Linear, Sizes, Speed

LONG = 0.7
"""Seconds of one step from which on it is timed once, and larger stacks are not timed at all."""
FEATURED = 256
"""Images that features and clusters are timed on at most."""
SHARED = 1.25
"""How much longer a step takes where every core has one of its own: caches and memory are shared."""


def rough_seconds(recipe: Recipe, data: DataSplits, network: Network, initial: Parameters, sizes: Sizes) -> float:
    """Seconds of a run, from one step of training alone; not twice too few or too many, and known in a moment."""
    step = _training(recipe, data, network, initial, 1, most=2) / sizes.batch_size
    matched = sizes.steps * (sizes.clusters + sizes.classes) * sizes.images_per_cluster * 3
    passes = sizes.train * (sizes.epochs + sizes.real_epochs + sizes.networks * sizes.replayed)
    banks = (sizes.certified + sizes.banked) * sizes.epochs * sizes.train / sizes.workers
    return step * (passes + banks + matched + sizes.networks * sizes.queries / 3)


def measured(
    recipe: Recipe, data: DataSplits, network: Network, initial: Parameters, sizes: Sizes, load: float = 0.0
) -> Speed:
    """Time a few steps of each kind, at the sizes of stacks that the run will have.

    Args:
        recipe: settled, so that device and threads are known.
        data: on the device.
        network, initial: as they are built.
        sizes: of the run.
        load: seconds that the data took.
    """
    alone = _training(recipe, data, network, initial, 1)
    many = sizes.trained_at_a_time
    retrains = sizes.replayed or sizes.certified or sizes.banked
    stacked = (
        alone * many if many == 1 or alone > LONG or not retrains else _training(recipe, data, network, initial, many)
    )
    few, whole = min(sizes.classes, sizes.matched_at_a_time), min(sizes.clusters, sizes.matched_at_a_time)
    matched = _matching(recipe, data, network, initial, few)
    at_once = whole if whole > few and matched * whole / few < 4 * LONG else few
    return Speed(
        step=Linear.through((1, alone), (many, stacked)),
        match=Linear.through(
            (few, matched), (at_once, matched if at_once == few else _matching(recipe, data, network, initial, whole))
        ),
        forward=_forward(data, network, initial, min(sizes.asked_at_a_time, sizes.networks)),
        gradient=_gradient(data, network, initial),
        cluster=_clustering(recipe, data, network, initial),
        load=load,
        shared=SHARED if sizes.workers > 1 else 1.0,
    )


def _training(
    recipe: Recipe, data: DataSplits, network: Network, initial: Parameters, count: int, most: int = 4
) -> float:
    """Seconds of one step of training of a stack of so many networks."""
    some = data.train.take(torch.arange(min(recipe.training.batch_size, len(data.train))))
    # So short that nothing diverges; one epoch is one step.
    settings = recipe.training.model_copy(update={"epochs": 4, "lr": 1e-6, "schedule": "constant"})
    weights = torch.ones(count, len(some), device=some.labels.device)
    steps = iter(train(network, start(initial, count), some, weights, settings, 0))
    return _mean(lambda: next(steps), some.labels.device, most)


def _matching(recipe: Recipe, data: DataSplits, network: Network, initial: Parameters, count: int) -> float:
    """Seconds of one step of matching of a stack of so many clusters."""
    images_each = recipe.matching.images_per_cluster
    # As many as there are, over and over: their values do not matter, their number does.
    index = torch.arange(count * images_each) % len(data.train)
    images = data.train.images[index].unflatten(0, (count, images_each))
    size = max(count, network.padded_size(count, shared=False))
    images = images[torch.arange(size).clamp_max(count - 1)]
    logits = images.new_zeros(size, images_each, data.info.num_classes)
    targets = broadcast(initial, size)
    gradients = image_gradients(Target(network, {0: initial}), recipe.distance)
    return _mean(lambda: gradients(images, logits, targets, initial), images.device)


def _forward(data: DataSplits, network: Network, initial: Parameters, count: int) -> float:
    """Seconds of one image through one network of a stack."""
    images = data.test.images[torch.arange(min(network.query_batch, len(data.test)))]
    stack = broadcast(initial, min(count, 8) if network.activation_values * len(images) * count > 2**27 else count)
    members = len(next(iter(stack.values())))
    return _mean(lambda: network.logits(stack, images), images.device) / (members * len(images))


def _gradient(data: DataSplits, network: Network, initial: Parameters) -> float:
    """Seconds of the gradient of one image within a block of real ones."""
    count = 1 if network.is_large else 8
    index = torch.arange(count * BLOCK) % len(data.train)
    images, labels = data.train.images[index], data.train.labels[index.to(data.train.labels.device)]
    shares = images.new_ones(count, BLOCK)
    stack, blocks = broadcast(initial, count), (images.unflatten(0, (count, BLOCK)), labels.view(count, BLOCK))
    return _mean(lambda: network.gradients(stack, *blocks, shares), images.device) / len(index)


def _clustering(recipe: Recipe, data: DataSplits, network: Network, initial: Parameters) -> Linear:
    """Seconds of putting images into clusters, besides their features, and of what is imported for it."""
    if recipe.clustering.features not in ("target", "pixels"):
        return Linear(0.0, 0.0)  # of a model of its own, which is not loaded for this
    each_class = max(1, len(data.train) // data.info.num_classes)
    some = data.train.take(torch.arange(min(FEATURED, len(data.train))))
    features = extract_features(recipe.clustering.features, some.images, network, initial)
    number = min(recipe.clustering.clusters_per_class, len(features))
    # As many as a class has, if need be over and over with some noise.
    count = min(each_class, 8 * FEATURED)
    rows = features[torch.arange(count) % len(features)]
    rows = rows + 0.01 * rows.std() * torch.randn(rows.shape, generator=generator(0, "timing"))
    begun = time.perf_counter()
    recipe.clusterer(rows[:number], min(number, count), generator(0, "timing"))  # imports its libraries
    imported = time.perf_counter()
    recipe.clusterer(rows, min(number, count), generator(0, "timing"))
    return Linear(imported - begun, (time.perf_counter() - imported) / count)


def _mean(work: Callable[[], Any], device: torch.device, most: int = 4) -> float:
    """Mean seconds of a few calls; the first one warms up and does not count, unless it is long."""
    found: list[float] = []
    for _ in range(most):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - begun)
        if sum(found) > LONG:
            break
    return statistics.mean(found[1:] or found)

"""A run of one second with components of its own, on which attributors and studies are checked."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo, DataSplits
from ddm_framework.network.stacks import Gradient
from ddm_framework.online.questions import Objective, Reference, declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.declarations import objective
from ddm_framework.plugin.registry import Registry
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import Clustering, General, Matching, Online, Training
from ddm_framework.report.blocks import Report
from ddm_framework.runs.opening import num_cores
from ddm_framework.runs.run_folder import RunFolder
from ddm_framework.runs.workspace import Workspace
from ddm_framework.stages.pipeline import execute
from ddm_framework.testing.contract import undisturbed

NUM_CLASSES, PER_CLASS, SIDE = 3, 24, 6
CLUSTERS_PER_CLASS = 2


def stripes() -> DataSplits:
    """Noisy stripes of three phases, 6 x 6 pixels: 36 training, 18 validation and 18 test images."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(NUM_CLASSES * PER_CLASS) % NUM_CLASSES
    phases = (torch.arange(SIDE)[None] + torch.arange(NUM_CLASSES)[:, None]) % NUM_CLASSES == 0
    drawn = torch.rand(len(labels), 1, SIDE, SIDE, generator=random)
    pixels = 0.4 * phases[labels].float()[:, None, None] + 0.6 * drawn
    num_test = len(labels) // 4
    return DataSplits.from_pixels(
        (pixels[num_test:], labels[num_test:]),
        (pixels[:num_test], labels[:num_test]),
        class_names=("left", "middle", "right"),
        validation=1 / 3,
    )


def network(data: DataInfo, /) -> nn.Module:
    """A convolution, a norm and a linear layer."""
    layers = nn.Conv2d(data.shape[0], 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.AvgPool2d(2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * (SIDE // 2) ** 2, data.num_classes))


def alternating(features: Tensor, num_clusters: int, generator: torch.Generator, /) -> Tensor:  # noqa: ARG001
    """Every `num_clusters`-th sample is in the same cluster."""
    return torch.arange(len(features)) % num_clusters


def squared(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Squared difference of the unit vectors of two gradients."""
    ours, theirs = (torch.cat([each[name].flatten() for name in target]) for each in (synthetic, target))
    return (nn.functional.normalize(ours, dim=0) - nn.functional.normalize(theirs, dim=0)).square().sum()


@objective(more_influential="smaller")
def confidence(logits: Tensor, reference: Reference, /) -> Tensor:
    """Log probability of the label or else of the target's prediction, (N, 1)."""
    classes = reference.target_logits.argmax(1) if reference.labels is None else reference.labels
    return logits.log_softmax(1).gather(1, classes[:, None])


@objective(more_influential="smaller", set_level=True)
def mean_confidence(logits: Tensor, reference: Reference, /) -> Tensor:
    """The mean of it over all queries, (1, 1)."""
    return confidence(logits, reference).mean(0, keepdim=True)


@objective(more_influential="larger")
def probabilities(logits: Tensor, reference: Reference, /) -> Tensor:  # noqa: ARG001
    """Every class's probability, (N, classes)."""
    return logits.softmax(1)


def nothing(workspace: Workspace, /) -> Report:  # noqa: ARG001
    """Asks nothing."""
    return Report([])


SINGLE = declared(Choice("objective", "confidence", {}, confidence))
WHOLE_SET = declared(Choice("objective", "mean_confidence", {}, mean_confidence))
SEVERAL = declared(Choice("objective", "probabilities", {}, probabilities))
OBJECTIVES: tuple[Objective, ...] = (SINGLE, WHOLE_SET, SEVERAL)


def small_recipe(threads: int = 1) -> Recipe:
    """Everything about the small run."""
    return Recipe(
        name="small_run",
        general=General(seed=0, device="cpu", threads=threads, memory_mb=64),
        dataset=Choice("dataset", "stripes", {}, stripes),
        backbone=Choice("backbone", "network", {}, network),
        clusterer=Choice("clusterer", "alternating", {}, alternating),
        clustering=Clustering(clusters_per_class=CLUSTERS_PER_CLASS),
        distance=Choice("distance", "squared", {}, squared),
        training=Training(epochs=4, lr=0.1, batch_size=12, checkpoint_every=2),
        matching=Matching(steps=4, step_length=2),
        online=Online(),
        objectives=(SINGLE.choice, WHOLE_SET.choice),
        study=Choice("study", "nothing", {}, nothing),
    )


@cache
def _finished() -> Path:
    """The folder of the run, made once in a process and removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="ddm-small-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with undisturbed():
        execute(small_recipe(), Registry((), []), folder / "runs" / "small")
    return folder / "runs" / "small"


def small_workspace(registry: Registry) -> Workspace:
    """The finished small run with nothing loaded yet, and with the components of a registry.

    It claims all cores for one process, so that networks are retrained in it: workers would not know the recipe.
    """
    folder = RunFolder.existing(_finished())
    return Workspace(small_recipe(num_cores()), folder, registry, torch.device("cpu"), loaded_data=stripes())

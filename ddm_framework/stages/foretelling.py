"""What a run will cost, told before it begins: `ddm run --dry-run`, and one line before every long run."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import torch

from ddm_framework.data import DataSplits, StoredImages, load_data
from ddm_framework.network import EVALUATION, SECOND_ORDER, TRAINING, Budget, Network, build_network
from ddm_framework.offline import numbers_of_clusters, possible_pairs
from ddm_framework.plugin import Registry
from ddm_framework.plugin.declarations import retrainings_of
from ddm_framework.recipe import Recipe
from ddm_framework.runs import STAGES, RunFolder, Workspace, num_cores, settle
from ddm_framework.runs.real_training import AUTO_SHARE
from ddm_framework.stages.costs import Costs, Sizes, costs_of
from ddm_framework.stages.inputs import stage_inputs
from ddm_framework.stages.timed_steps import measured, rough_seconds

TOLD_FROM = 60.0
"""Seconds from which on a run is told to be long."""
ROUGHLY = 0.75
"""Share of these from which on a rough estimate is worth a better one."""
PARTS = {
    "training": ("train",),
    "partition": ("cluster",),
    "matching": ("match",),
    "online": ("perturb", "perturb and replay", "certificate", "study", "study with its bank"),
}
"""The parts of each stage of a run folder."""


def dry_run(recipe: Recipe, registry: Registry, out: Path, *, fresh: bool = False) -> Costs:
    """What a run would cost: its data are loaded and a few steps are timed, and nothing is written.

    Args:
        recipe: checked.
        registry: of its components.
        out: the run folder, which need not be there; stages that it holds cost nothing.
        fresh: stages that it holds with other settings would be made again, instead of refusing.
    Raises:
        DDMError: as the run itself, for data or a backbone that do not fit, or a folder with another run.
    """
    folder = RunFolder.open(out)
    recipe, device = settle(recipe, folder)
    begun = time.perf_counter()
    data = load_data(recipe).to(device)
    load = time.perf_counter() - begun
    brought = recipe.target.checkpoint is not None
    network, initial = build_network(
        recipe.backbone,
        data.info,
        recipe.general.seed,
        device,
        parameters=recipe.training.parameters,
        brought=brought,
    )
    sizes, held = sizes_of(recipe, data, network), _held()
    speed = measured(recipe, data, network, initial, sizes, load)
    inputs = stage_inputs(recipe, registry, data.fingerprint())
    if not fresh:
        folder.check(inputs)
    return _without(costs_of(sizes, speed, held, _untold(recipe)), _parts(folder.reusable(inputs)), brought=brought)


def _certified(recipe: Recipe) -> int:
    """Networks that the certificate retrains."""
    asked = recipe.certificate
    return asked.retrainings and asked.retrainings + (asked.singles or 0)


def foretell(workspace: Workspace) -> None:
    """Say what a run will cost if that is more than a minute; a quick run is told apart by one or two steps."""
    recipe, folder, display = workspace.recipe, workspace.folder, workspace.display
    if display.console.quiet:
        return
    network, initial = workspace.built
    sizes = sizes_of(recipe, workspace.data, network)
    if rough_seconds(recipe, workspace.data, network, initial, sizes) < ROUGHLY * TOLD_FROM:
        return
    held = _held()
    speed = measured(recipe, workspace.data, network, initial, sizes)
    done = ["load", *_parts(filter(folder.is_done, STAGES))]
    costs = _without(costs_of(sizes, speed, held), done, brought=recipe.target.checkpoint is not None)
    if costs.seconds >= TOLD_FROM:
        display.tell(costs.sentence())


def sizes_of(recipe: Recipe, data: DataSplits, network: Network) -> Sizes:
    """What the cost of a run follows from.

    Args:
        recipe: settled.
        data: of the run.
        network: its backbone.
    """
    training, matching, online = recipe.training, recipe.matching, recipe.online
    budget, count = Budget(recipe.general.chunk_mb), len(data.train)
    clusters = sum(numbers_of_clusters(data.train.labels, data.info.num_classes, recipe.clustering))
    brought = recipe.target.checkpoint is not None
    if brought:
        saved = list(range(len(recipe.target.trajectory) + 1))
    else:
        saved = sorted({*range(0, training.epochs, training.checkpoint_every), training.epochs})
    pairs = possible_pairs(saved, matching)
    reals = len({real for real, _ in pairs})
    rows = clusters if online.perturbations == "leave_one_out" else online.num_perturbations or 2 * clusters
    asked_for = recipe.study.options.get("queries")
    cost, images = (TRAINING, training.batch_size) if online.replay else (EVALUATION, network.query_batch)
    trains = recipe.general.threads if isinstance(recipe.general.threads, int) else 1
    return Sizes(
        train=count,
        queries=min(asked_for, len(data.test)) if isinstance(asked_for, int) else len(data.test),
        values=data.info.num_values,
        classes=data.info.num_classes,
        data_bytes=_data_bytes(data),
        weights=network.num_weights,
        activations=network.activation_values,
        batch_size=min(training.batch_size, count),
        epochs=0 if brought else training.epochs,
        checkpoints=len(saved),
        momentum=bool(training.momentum),
        clusters=clusters,
        images_per_cluster=matching.images_per_cluster,
        steps=matching.steps,
        pairs=len(pairs),
        real_epochs=reals,
        networks=rows + 1,
        replayed=0 if brought else _replayed(recipe, saved),
        certified=0 if brought else _certified(recipe),
        banked=_banked(recipe, clusters, data.info.num_classes),
        workers=1 if recipe.general.device == "cuda" else max(1, num_cores() // trains),
        trained_at_a_time=budget.fitting(network, TRAINING, training.batch_size),
        matched_at_a_time=budget.fitting(network, SECOND_ORDER, matching.images_per_cluster, kept=reals),
        asked_at_a_time=budget.fitting(network, cost, images),
        kept_bytes=online.keep_mb * 2.0**20,
    )


def _replayed(recipe: Recipe, saved: list[int]) -> int:
    """Epochs that each estimated network is trained for: those of a replay, or of an anchor."""
    online, total = recipe.online, recipe.training.epochs
    if online.anchor:
        return max(1, round(online.anchor))
    if online.replay != "auto":
        return online.replay
    wanted = max(1, round(total / AUTO_SHARE))
    return min((total - epoch for epoch in saved if epoch < total), key=lambda epochs: abs(epochs - wanted))


def _banked(recipe: Recipe, clusters: int, classes: int) -> int:
    declared = retrainings_of(recipe.study.target)
    return 0 if declared is None else declared(recipe.study.options, clusters, classes)


def _untold(recipe: Recipe) -> list[str]:
    """What the model does not count."""
    told = []
    if retrainings_of(recipe.study.target) is None:
        told.append(f"study {recipe.study.name} does not say what it computes besides the question on its queries")
    if "methods" in recipe.study.options:
        told.append("what the study's methods compute themselves")
    if recipe.clustering.features not in ("target", "pixels"):
        told.append("the features of the clusterer's own model")
    return told


def _parts(stages: Iterable[str]) -> list[str]:
    return [part for stage in stages for part in PARTS[stage]]


def _without(costs: Costs, done: Collection[str], *, brought: bool) -> Costs:
    """Without what is done already; a network that was trained elsewhere is not trained."""
    skipped = {*done, "train"} if brought else set(done)
    return Costs([each for each in costs.stages if each.name not in skipped], costs.untold)


def _data_bytes(data: DataSplits) -> float:
    parts = (data.train.images, data.validation.images, data.test.images)
    stored = isinstance(parts[0], StoredImages)
    return float(sum(len(each) for each in parts) * data.info.num_values * (1 if stored else 4))


def _held() -> float:
    """Bytes that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return float(pages * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return float(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0.0

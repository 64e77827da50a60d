"""The offline stages: train the target with its trajectory, divide the data, distil both synsets (Alg. 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddm_framework.errors import RunFolderError
from ddm_framework.network import Budget, Gradient, Target, read_state, start, take, train
from ddm_framework.network.checkpoints import fitted
from ddm_framework.network.memory import halved
from ddm_framework.offline import (
    Divided,
    Partition,
    Synset,
    class_gradients,
    cluster_chunks,
    extract_features,
    make_partition,
    match,
    numbers_of_clusters,
    possible_pairs,
    trajectory_gradients,
)
from ddm_framework.offline.directions import Distance
from ddm_framework.recipe import Matching
from ddm_framework.runs import Workspace, artifacts
from ddm_framework.runs.run_folder import StageClock


def train_target(workspace: Workspace, clock: StageClock) -> None:
    """Train the target, saving θ_0 and every `checkpoint_every`-th epoch; continues after an interruption."""
    settings, folder = workspace.recipe.training, workspace.folder
    due = {*range(0, settings.epochs, settings.checkpoint_every), settings.epochs}
    begun, saved = start(workspace.untrained, 1), set(artifacts.saved_epochs(folder))
    state = artifacts.load_state(folder, workspace.device, begun)
    if state is None and saved == due:
        return  # killed between the last epoch and the manifest
    if state is None or not {epoch for epoch in due if epoch <= state.epoch} <= saved:
        state = begun
        artifacts.save_checkpoint(folder, 0, workspace.untrained)
    data, seed = workspace.data.train, workspace.recipe.general.seed
    everything = torch.ones(len(state), len(data), device=workspace.device)
    with workspace.display.bar("training the target (epochs)", settings.epochs, state.epoch) as advance:
        for reached in train(workspace.network, state, data, everything, settings, seed):
            if reached.epoch in due:
                if settings.has_moments and reached.epoch < settings.epochs:  # for `online.replay`
                    artifacts.save_velocity(folder, reached.epoch, take(reached.velocity, 0))
                if reached.squares and reached.epoch < settings.epochs:
                    artifacts.save_squares(folder, reached.epoch, take(reached.squares, 0))
                artifacts.save_checkpoint(folder, reached.epoch, take(reached.parameters, 0))
                artifacts.save_state(folder, reached)
                clock.saved()
            advance()
    artifacts.remove_state(folder)


def adopt_target(workspace: Workspace, _clock: StageClock) -> None:
    """Adopt a network that was trained elsewhere; its checkpoints count as epochs.

    Raises:
        DDMError: if a file is damaged or does not fit the backbone.
    """
    brought = workspace.recipe.target
    assert brought.checkpoint is not None
    network, initial = workspace.built
    paths = (*brought.trajectory, brought.checkpoint)
    known: Mapping[str, Tensor] = network.buffers
    for epoch, path in reversed(list(enumerate(paths))):  # the last first: what the others have of their own shows
        last = epoch == len(paths) - 1
        parameters, constants = fitted(network, initial, read_state(path), path, whole=last)
        own = {name: each for name, each in constants.items() if not torch.equal(each, known[name])}
        artifacts.save_checkpoint(workspace.folder, epoch, parameters)
        if own:
            artifacts.save_constants(workspace.folder, epoch, own)
        known = {**known, **own} if last else known
    for note in network.notes:
        workspace.display.say(note)
    if workspace.recipe.online.replay == "auto" and workspace.own_training is None:
        workspace.display.say("how the target was trained is not known, so its end is not repeated (replay: 0)")
    if not brought.trajectory:
        workspace.display.say(
            "only the last checkpoint of the target is known: the synset is matched there alone (pairing: final)"
        )


def divide(workspace: Workspace, _clock: StageClock) -> None:
    """Cluster the training split, class by class."""
    recipe, data = workspace.recipe, workspace.data.train
    workspace.display.say("clustering the training data")
    features = extract_features(recipe.clustering.features, data.images, workspace.network, workspace.target)
    partition = make_partition(
        data.labels,
        features,
        recipe.clusterer,
        numbers_of_clusters(data.labels, workspace.info.num_classes, recipe.clustering),
        workspace.info.class_names,
        recipe.general.seed,
    )
    artifacts.save_partition(workspace.folder, partition)


def distil(workspace: Workspace, clock: StageClock) -> None:
    """Distil the cluster-wise and the class-wise synset, a chunk of clusters at a time."""
    if artifacts.has_synsets(workspace.folder):  # killed between the last file and the manifest
        artifacts.remove_synset_chunks(workspace.folder)
        return
    fine = workspace.partition
    if len(fine.clusters) != len(workspace.data.train):
        raise RunFolderError("the partition is of another training split; run with --fresh to make it again")
    recipe, num_classes = workspace.recipe, workspace.info.num_classes
    levels = {"cluster": fine, "class": fine.class_wise(num_classes)}
    pairs = possible_pairs(sorted(workspace.trajectory), recipe.matching)
    parts = {
        level: cluster_chunks(workspace.network, pairs, recipe.matching, each.num_clusters, workspace.budget)
        for level, each in levels.items()
    }
    real: dict[str, dict[int, Gradient]] = {}
    if len(parts["cluster"]) == 1:  # the gradients of all clusters fit the memory at once, and those of classes follow
        [everything] = parts["cluster"]
        known = trajectory_gradients(workspace.trained, workspace.divided, everything, pairs, workspace.budget)
        real = {"cluster": known, "class": class_gradients(known, fine, num_classes)}
    synsets = {
        level: _distil_level(workspace, level, each, parts[level], real.get(level), clock)
        for level, each in levels.items()
    }
    artifacts.save_synsets(workspace.folder, synsets)
    artifacts.remove_synset_chunks(workspace.folder)


@dataclass(frozen=True, slots=True)
class Matched:
    """What all chunks of clusters have in common when they are matched; see `match`."""

    target: Target
    divided: Divided
    distance: Distance
    settings: Matching
    seed: int
    budget: Budget
    real: Mapping[int, Gradient] | None


def match_chunk(common: Matched, clusters: slice, advance: Callable[[], None]) -> Synset:
    """Match one chunk of clusters; a unit of work for an engine."""

    def some(part: slice) -> Synset:
        real = common.real and {epoch: take(each, part) for epoch, each in common.real.items()}
        return match(
            common.target,
            common.divided,
            slice(clusters.start + part.start, clusters.start + part.stop),
            common.distance,
            common.settings,
            common.seed,
            budget=common.budget,
            advance=advance,
            real=real,
        )

    parts = halved(clusters.stop - clusters.start, some, "clusters that are matched")
    return Synset.joined([synset for _, synset in parts])


def _distil_level(
    workspace: Workspace,
    level: str,
    partition: Partition,
    parts: Sequence[slice],
    real: Mapping[int, Gradient] | None,
    clock: StageClock,
) -> Synset:
    recipe, folder = workspace.recipe, workspace.folder
    names = [f"{level}_{part.start:05d}_{part.stop:05d}" for part in parts]
    known = [artifacts.load_synset_chunk(folder, name, workspace.device) for name in names]
    found = {number: synset for number, synset in enumerate(known) if synset is not None}
    missing = [number for number, synset in enumerate(known) if synset is None]
    engine, target = workspace.engine, workspace.trained
    if engine.workers > 1 and len(missing) > 1:  # the checkpoints themselves, for workers open no files
        target = replace(target, trajectory=dict(target.trajectory))
    common = Matched(
        target,
        Divided(workspace.data.train, partition),
        recipe.distance,
        recipe.matching,
        recipe.general.seed,
        workspace.budget,
        real,
    )
    steps, tasks = recipe.matching.steps, (parts[number] for number in missing)
    total = steps * len(parts)
    with workspace.display.bar(f"matching, {level}-wise (steps)", total, steps * len(found)) as advance:
        results = engine.results(match_chunk, common, tasks, len(missing), units=steps, advance=advance)
        with closing(results):
            for place, synset in results:
                artifacts.save_synset_chunk(folder, names[missing[place]], synset)
                clock.saved()
                found[missing[place]] = synset
    return Synset.joined([found[number] for number in range(len(parts))])

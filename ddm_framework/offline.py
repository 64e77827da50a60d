"""The offline stages: train the target with its trajectory, divide the data, distil both synsets (Alg. 1)."""

from __future__ import annotations

import torch

from ddm_framework import files
from ddm_framework.errors import RunFolderError
from ddm_framework.features import extract_features
from ddm_framework.matching import Synset, cluster_chunks, match
from ddm_framework.networks import take
from ddm_framework.pairing import draw_pairs
from ddm_framework.partition import Partition, make_partition
from ddm_framework.run_folder import StageClock
from ddm_framework.training import TARGET_COPIES, start, train
from ddm_framework.workspace import Workspace


def train_target(workspace: Workspace, clock: StageClock) -> None:
    """Train the target, saving θ_0 and every `checkpoint_every`-th epoch; goes on where it was interrupted."""
    settings, folder = workspace.recipe.training, workspace.folder
    images, labels = workspace.data.train.images, workspace.data.train.labels
    due = {*range(0, settings.epochs, settings.checkpoint_every), settings.epochs}
    state, saved = files.load_state(folder, workspace.device), set(files.saved_epochs(folder))
    if state is None and saved == due:
        return  # killed between the last epoch and the manifest
    if state is None or not {epoch for epoch in due if epoch <= state.epoch} <= saved:
        state = start(workspace.untrained, TARGET_COPIES)
        files.save_checkpoint(folder, 0, workspace.untrained)
    everything = torch.ones(TARGET_COPIES, len(images), device=workspace.device)
    seed = workspace.recipe.general.seed
    with workspace.display.bar("training the target (epochs)", settings.epochs, state.epoch) as advance:
        for reached in train(workspace.network, state, images, labels, everything, settings, seed):
            if reached.epoch in due:
                files.save_checkpoint(folder, reached.epoch, take(reached.parameters, 0))
                files.save_state(folder, reached)
                clock.saved()
            advance()
    files.remove_state(folder)


def divide(workspace: Workspace) -> None:
    """Cluster the training split, class by class."""
    recipe, data = workspace.recipe, workspace.data.train
    workspace.display.say("clustering the training data")
    features = extract_features(recipe.clustering.features, data.images, workspace.network, workspace.target)
    partition = make_partition(
        data.labels,
        features,
        recipe.clusterer,
        recipe.clustering.clusters_per_class,
        workspace.info.class_names,
        recipe.general.seed,
    )
    files.save_partition(workspace.folder, partition)


def distil(workspace: Workspace, clock: StageClock) -> None:
    """Distil the class-wise and the cluster-wise synset, a chunk of clusters at a time."""
    if files.has_synsets(workspace.folder):  # killed between the last file and the manifest
        files.remove_synset_chunks(workspace.folder)
        return
    fine = workspace.partition
    if len(fine.clusters) != len(workspace.data.train):
        raise RunFolderError("the partition is of another training split; run with --fresh to make it again")
    levels = {"class": fine.class_wise(workspace.info.num_classes), "cluster": fine}
    synsets = {level: _distil_level(workspace, level, partition, clock) for level, partition in levels.items()}
    files.save_synsets(workspace.folder, synsets)
    files.remove_synset_chunks(workspace.folder)


def _distil_level(workspace: Workspace, level: str, partition: Partition, clock: StageClock) -> Synset:
    recipe = workspace.recipe
    memory_mb, settings = recipe.general.memory_mb, recipe.matching
    pairs = draw_pairs(sorted(workspace.trajectory), settings)
    parts = cluster_chunks(workspace.network, pairs, settings, partition.num_clusters, memory_mb)
    finished = []
    with workspace.display.bar(f"matching, {level}-wise (steps)", settings.steps * len(parts)) as advance:
        for part in parts:
            name = f"{level}_{part.start:05d}_{part.stop:05d}"
            synset = files.load_synset_chunk(workspace.folder, name, workspace.device)
            if synset is None:
                synset = match(
                    workspace.network,
                    workspace.trajectory,
                    workspace.data.train,
                    partition,
                    part,
                    recipe.distance,
                    settings,
                    recipe.general.seed,
                    memory_mb,
                    advance,
                )
                files.save_synset_chunk(workspace.folder, name, synset)
                clock.saved()
            else:
                for _ in range(settings.steps):
                    advance()
            finished.append(synset)
    return Synset.joined(finished)

"""The artifacts of a run: what each file holds, and how it is written and read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ddm_framework.data import DataInfo
from ddm_framework.errors import RunFolderError
from ddm_framework.network import Constants, Parameters, TrainingState
from ddm_framework.offline import Partition, Synset
from ddm_framework.runs.run_folder import RunFolder
from ddm_framework.runs.safe_files import AGAIN, load_json
from ddm_framework.runs.tensor_files import load_tensors, prefixed, save_tensors, under

_EPOCH = re.compile(r"epoch_(\d+)\.safetensors")


def save_info(folder: RunFolder, info: DataInfo, sizes: Mapping[str, int]) -> None:
    """Record shape, classes, normalisation and sizes of the data in the manifest."""
    folder.note(data={**asdict(info), "sizes": dict(sizes)})


def load_info(folder: RunFolder) -> DataInfo:
    """The recorded DataInfo.

    Raises:
        RunFolderError: if the manifest has none, or one that contradicts itself.
    """
    try:
        info = TypeAdapter(DataInfo).validate_python(folder.manifest.get("data"))
    except ValidationError:
        raise RunFolderError(f"the manifest in {folder.path} says nothing of the data; run the recipe again") from None
    numbers = (*info.mean, *info.std)
    sound = (
        min(*info.shape, info.num_classes) > 0
        and len(info.class_names) == info.num_classes
        and len(info.mean) == len(info.std) == info.shape[0]
        and all(map(math.isfinite, numbers))
        and min(info.std) > 0
    )
    if not sound:
        raise RunFolderError(f"what the manifest in {folder.path} says of the data cannot be; run the recipe again")
    return info


def save_checkpoint(folder: RunFolder, epoch: int, parameters: Parameters) -> None:
    """θ_t of the target."""
    _save(folder, "training", _checkpoint(folder, epoch), parameters)


def save_constants(folder: RunFolder, epoch: int, constants: Constants) -> None:
    """Buffers and frozen weights that came with θ_t of a network that was trained elsewhere, where they are its own."""
    _save(folder, "training", _constants(folder, epoch), constants)


def load_constants(folder: RunFolder, device: torch.device) -> dict[int, Constants]:
    """Constants that checkpoints have of their own, by epoch."""
    epochs = [epoch for epoch in saved_epochs(folder) if _constants(folder, epoch).is_file()]
    return {epoch: _load(folder, "training", _constants(folder, epoch), device) for epoch in epochs}


def _constants(folder: RunFolder, epoch: int) -> Path:
    return folder.file("offline", "trajectory", f"constants_{epoch:03d}.safetensors")


def save_velocity(folder: RunFolder, epoch: int, velocity: Parameters) -> None:
    """Momentum's buffer, or Adam's mean of gradients, at θ_t of the target."""
    _save(folder, "training", _velocity(folder, epoch), velocity)


def load_velocity(folder: RunFolder, epoch: int, device: torch.device, like: Parameters) -> Parameters | None:
    """Momentum's buffer at θ_t of the target, which has the shapes of `like`; None if it was not saved.

    Raises:
        RunFolderError: if it does not fit.
    """
    path = _velocity(folder, epoch)
    return _fitting(path, _load(folder, "training", path, device), like) if path.is_file() else None


def _velocity(folder: RunFolder, epoch: int) -> Path:
    return folder.file("offline", "trajectory", f"velocity_{epoch:03d}.safetensors")


def save_squares(folder: RunFolder, epoch: int, squares: Parameters) -> None:
    """Adam's mean of squared gradients at θ_t of the target."""
    _save(folder, "training", _squares(folder, epoch), squares)


def load_squares(folder: RunFolder, epoch: int, device: torch.device, like: Parameters) -> Parameters | None:
    """Adam's mean of squared gradients at θ_t of the target, with the shapes of `like`; None if it was not saved.

    Raises:
        RunFolderError: if it does not fit.
    """
    path = _squares(folder, epoch)
    return _fitting(path, _load(folder, "training", path, device), like) if path.is_file() else None


def _squares(folder: RunFolder, epoch: int) -> Path:
    return folder.file("offline", "trajectory", f"squares_{epoch:03d}.safetensors")


def saved_epochs(folder: RunFolder) -> list[int]:
    """Epochs with a checkpoint, ascending."""
    names = (path.name for path in folder.files("training"))
    return sorted(int(match[1]) for match in map(_EPOCH.fullmatch, names) if match)


def load_checkpoint(folder: RunFolder, epoch: int, device: torch.device) -> Parameters:
    """θ_t of the target."""
    return _load(folder, "training", _checkpoint(folder, epoch), device)


def _checkpoint(folder: RunFolder, epoch: int) -> Path:
    return folder.file("offline", "trajectory", f"epoch_{epoch:03d}.safetensors")


def load_trajectory(
    folder: RunFolder, device: torch.device, like: Parameters | None = None
) -> Mapping[int, Parameters]:
    """All saved checkpoints by epoch, each loaded when it is first asked for.

    Args:
        folder: of the run.
        device: to load them to.
        like: parameters of the network, whose names, shapes and types those of each checkpoint must be.
    Raises:
        RunFolderError: if there is none; when one is asked for, if it does not fit the network.
    """
    epochs = saved_epochs(folder)
    if not epochs:
        raise RunFolderError(
            f"{folder.file('offline', 'trajectory')} holds no checkpoint; run with --fresh to train again"
        )
    return _Checkpoints(folder, epochs, device, like)


class _Checkpoints(Mapping[int, Parameters]):
    """Checkpoints by epoch; what was loaded is kept."""

    def __init__(self, folder: RunFolder, epochs: Sequence[int], device: torch.device, like: Parameters | None) -> None:
        self._epochs = epochs
        self._load = cache(
            lambda epoch: _fitting(_checkpoint(folder, epoch), load_checkpoint(folder, epoch, device), like)
        )

    def __getitem__(self, epoch: int) -> Parameters:
        if epoch not in self._epochs:
            raise KeyError(epoch)
        return self._load(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)


def _fitting(path: Path, parameters: Parameters, like: Parameters | None) -> Parameters:
    """The parameters of a file, if they are those of the network."""
    if like is None:
        return parameters
    found, wanted = ({name: (each.shape, each.dtype) for name, each in some.items()} for some in (parameters, like))
    if found != wanted:
        wrong = next(name for name in {**wanted, **found} if found.get(name) != wanted.get(name))
        raise _unfit(path, f"{wrong!r} is not as in the recipe's backbone")
    return parameters


def _unfit(path: Path, told: str) -> RunFolderError:
    return RunFolderError(f"{path} is not what ddm wrote there: {told}; {AGAIN}")


def save_state(folder: RunFolder, state: TrainingState) -> None:
    """Everything that is needed to continue training after an interruption."""
    tensors = {**prefixed(state.parameters, "parameters."), **prefixed(state.velocity, "velocity.")}
    tensors |= prefixed(state.squares, "squares.")
    _save(folder, "training", _resume(folder), {**tensors, "epoch": torch.tensor(state.epoch)})


def load_state(folder: RunFolder, device: torch.device, like: TrainingState | None = None) -> TrainingState | None:
    """The state of an interrupted training, if there is one.

    Args:
        folder: of the run.
        device: to load it to.
        like: a state with the names, shapes and types that its tensors must have.

    Raises:
        RunFolderError: if it does not fit.
    """
    path = _resume(folder)
    if not path.is_file():
        return None
    tensors = _load(folder, "training", path, device, ("epoch",))
    wanted = (None, None) if like is None else (like.parameters, like.velocity)
    parameters = _fitting(path, under(tensors, "parameters."), wanted[0])
    velocity = _fitting(path, under(tensors, "velocity."), wanted[1])
    squares = under(tensors, "squares.")  # Adam alone has them
    squares = _fitting(path, squares, wanted[0]) if squares else {}
    if tensors["epoch"].ndim or tensors["epoch"].dtype != torch.int64:
        raise _unfit(path, "its epoch is no number")
    return TrainingState(int(tensors["epoch"]), parameters, velocity, squares)


def remove_state(folder: RunFolder) -> None:
    """Training is over."""
    _resume(folder).unlink(missing_ok=True)


def _resume(folder: RunFolder) -> Path:
    return folder.file("offline", "trajectory", "resume.safetensors")


def save_partition(folder: RunFolder, partition: Partition) -> None:
    """Cluster of each sample, class of each cluster."""
    path = folder.file("offline", "partition.safetensors")
    _save(folder, "partition", path, {"clusters": partition.clusters, "classes": partition.classes})


def load_partition(folder: RunFolder, device: torch.device) -> Partition:
    """The partition."""
    path = folder.file("offline", "partition.safetensors")
    tensors = _load(folder, "partition", path, device, ("clusters", "classes"))
    clusters, classes = tensors["clusters"], tensors["classes"]
    sound = clusters.ndim == classes.ndim == 1 and clusters.dtype == classes.dtype == torch.int64
    if not sound or min(len(classes), len(clusters)) == 0 or int(classes.min()) < 0:
        raise _unfit(path, "it holds no clusters")
    if not torch.equal(clusters.unique(), torch.arange(len(classes), device=clusters.device)):
        raise _unfit(path, f"its samples are not in clusters 0 to {len(classes) - 1}")
    return Partition(clusters, classes)


def save_synset_chunk(folder: RunFolder, name: str, synset: Synset) -> None:
    """A finished chunk of clusters, from which matching continues after an interruption."""
    _save(folder, "matching", folder.file("offline", "synset", f"{name}.safetensors"), synset.tensors())


def load_synset_chunk(folder: RunFolder, name: str, device: torch.device) -> Synset | None:
    """A chunk that was finished before; None if it was not."""
    path = folder.file("offline", "synset", f"{name}.safetensors")
    if not path.is_file():
        return None
    return Synset.from_tensors(_load(folder, "matching", path, device, [each.name for each in fields(Synset)]))


def save_synsets(folder: RunFolder, synsets: Mapping[str, Synset]) -> None:
    """The whole synset, cluster-wise and class-wise."""
    named = (synset.tensors(f"{level}.").items() for level, synset in synsets.items())
    _save(folder, "matching", _synsets(folder), dict(chain.from_iterable(named)))


def has_synsets(folder: RunFolder) -> bool:
    """Whether the whole synset was saved."""
    return _synsets(folder).is_file()


def remove_synset_chunks(folder: RunFolder) -> None:
    """The whole synset was saved."""
    chunk_folder = folder.file("offline", "synset")
    for path in chunk_folder.glob("*.safetensors"):
        path.unlink()
    with suppress(OSError):  # somebody else's file is in it, or there was no chunk
        chunk_folder.rmdir()


def _synsets(folder: RunFolder) -> Path:
    return folder.file("offline", "synset.safetensors")


def load_synset(folder: RunFolder, level: str, device: torch.device) -> Synset:
    """The `cluster`- or `class`-wise synset."""
    names = (f"{level}.{each.name}" for each in fields(Synset))
    synset = Synset.from_tensors(_load(folder, "matching", _synsets(folder), device, names), f"{level}.")
    count, images = len(synset.cosine), synset.images
    shapes = (images.shape[:2], images.ndim, synset.labels.ndim, synset.cosine.shape, synset.real_norm.shape)
    if shapes != (synset.labels.shape[:2], 5, 3, (count,), (count,)) or count != len(images):
        raise _unfit(_synsets(folder), f"the shapes of the {level}-wise synset do not go together")
    if not all(each.is_floating_point() and bool(each.isfinite().all()) for each in (images, synset.labels)):
        raise _unfit(_synsets(folder), f"the {level}-wise synset holds other things than finite numbers")
    return synset


def save_attribution(folder: RunFolder, tensors: Mapping[str, Tensor]) -> None:
    """The tensors of the study's report."""
    _save(folder, "online", folder.file("online", "attribution.safetensors"), tensors)


def load_metrics(folder: RunFolder) -> dict[str, Any]:
    """The numbers of a finished run."""
    metrics: dict[str, Any] = load_json(folder.file("metrics.json"))
    return metrics


def _save(folder: RunFolder, stage: str, path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_tensors(path, tensors, folder.stamp(stage, path))


def _load(
    folder: RunFolder, stage: str, path: Path, device: torch.device, names: Iterable[str] = ()
) -> dict[str, Tensor]:
    tensors = load_tensors(path, names, folder.stamp(stage, path))
    return {name: each.to(device) for name, each in tensors.items()}

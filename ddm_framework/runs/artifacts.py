"""The artifacts of a run: what each file holds, and how it is written and read."""

from __future__ import annotations

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
from ddm_framework.runs.safe_files import load_json
from ddm_framework.runs.tensor_files import load_tensors, prefixed, save_tensors, under

_EPOCH = re.compile(r"epoch_(\d+)\.safetensors")


def save_info(folder: RunFolder, info: DataInfo, sizes: Mapping[str, int]) -> None:
    """Record shape, classes, normalisation and sizes of the data in the manifest."""
    folder.note(data={**asdict(info), "sizes": dict(sizes)})


def load_info(folder: RunFolder) -> DataInfo:
    """The recorded DataInfo.

    Raises:
        RunFolderError: if the manifest has none.
    """
    try:
        return TypeAdapter(DataInfo).validate_python(folder.manifest.get("data"))
    except ValidationError:
        raise RunFolderError(f"the manifest in {folder.path} says nothing of the data; run the recipe again") from None


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
    """Momentum's buffer at θ_t of the target."""
    _save(folder, "training", _velocity(folder, epoch), velocity)


def load_velocity(folder: RunFolder, epoch: int, device: torch.device) -> Parameters | None:
    """Momentum's buffer at θ_t of the target; None if it was not saved."""
    return _load(folder, "training", _velocity(folder, epoch), device) if _velocity(folder, epoch).is_file() else None


def _velocity(folder: RunFolder, epoch: int) -> Path:
    return folder.file("offline", "trajectory", f"velocity_{epoch:03d}.safetensors")


def saved_epochs(folder: RunFolder) -> list[int]:
    """Epochs with a checkpoint, ascending."""
    names = (path.name for path in folder.files("training"))
    return sorted(int(match[1]) for match in map(_EPOCH.fullmatch, names) if match)


def load_checkpoint(folder: RunFolder, epoch: int, device: torch.device) -> Parameters:
    """θ_t of the target."""
    return _load(folder, "training", _checkpoint(folder, epoch), device)


def _checkpoint(folder: RunFolder, epoch: int) -> Path:
    return folder.file("offline", "trajectory", f"epoch_{epoch:03d}.safetensors")


def load_trajectory(folder: RunFolder, device: torch.device) -> Mapping[int, Parameters]:
    """All saved checkpoints by epoch, each loaded when it is first asked for.

    Raises:
        RunFolderError: if there is none.
    """
    epochs = saved_epochs(folder)
    if not epochs:
        raise RunFolderError(
            f"{folder.file('offline', 'trajectory')} holds no checkpoint; run with --fresh to train again"
        )
    return _Checkpoints(folder, epochs, device)


class _Checkpoints(Mapping[int, Parameters]):
    """Checkpoints by epoch; what was loaded is kept."""

    def __init__(self, folder: RunFolder, epochs: Sequence[int], device: torch.device) -> None:
        self._epochs = epochs
        self._load = cache(lambda epoch: load_checkpoint(folder, epoch, device))

    def __getitem__(self, epoch: int) -> Parameters:
        if epoch not in self._epochs:
            raise KeyError(epoch)
        return self._load(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)


def save_state(folder: RunFolder, state: TrainingState) -> None:
    """Everything that is needed to continue training after an interruption."""
    tensors = {**prefixed(state.parameters, "parameters."), **prefixed(state.velocity, "velocity.")}
    _save(folder, "training", _resume(folder), {**tensors, "epoch": torch.tensor(state.epoch)})


def load_state(folder: RunFolder, device: torch.device) -> TrainingState | None:
    """The state of an interrupted training, if there is one."""
    if not _resume(folder).is_file():
        return None
    tensors = _load(folder, "training", _resume(folder), device, ("epoch",))
    return TrainingState(int(tensors["epoch"]), under(tensors, "parameters."), under(tensors, "velocity."))


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
    return Partition(tensors["clusters"], tensors["classes"])


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
    return Synset.from_tensors(_load(folder, "matching", _synsets(folder), device, names), f"{level}.")


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

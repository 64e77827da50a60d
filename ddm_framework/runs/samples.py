"""The samples of a run one by one: which file each is, its cluster, and whether the network believed its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ddm_framework.data import ImageSet
from ddm_framework.data.images import BLOCK
from ddm_framework.errors import DDMError, RunFolderError, readable
from ddm_framework.files import FileError, read_text
from ddm_framework.network import Network, Parameters
from ddm_framework.runs.run_folder import SAMPLES, RunFolder
from ddm_framework.runs.safe_files import AGAIN, save_text

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace

MOST_CHECKPOINTS = 10
"""Checkpoints at which margins are measured, evenly spaced and θ_τ among them; all if there are fewer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a run's data, as a row of `samples.csv`.

    Attributes:
        sample: its index in the source's own order.
        file: its path; empty where it is no file.
        split: `train`, `validation` or `test`.
        label: name of its class; the column is called `class`.
        cluster: that it is in; None of a sample that was not trained on, as all that follows.
        training_loss: cross entropy at θ_τ.
        margin: mean over the training of the logit of its class minus the largest other one.
        suspicion: share of the other training samples whose margin is larger, so 1 is the most suspicious.
    """

    sample: int
    file: str
    split: str
    label: str
    cluster: int | None = None
    training_loss: float | None = None
    margin: float | None = None
    suspicion: float | None = None


@dataclass(frozen=True, slots=True)
class Member(Sample):
    """A training sample with its part in the effect of its cluster.

    Attributes:
        rough_share: of the cluster's effect; all of a cluster sum to 1. A first-order estimate, rough for one sample;
            None where the members' gradients do not explain where the network moved.
    """

    rough_share: float | None = None


def columns_of(kind: type[Sample]) -> tuple[str, ...]:
    """Names of the columns of a list of such samples."""
    return tuple("class" if each.name == "label" else each.name for each in fields(kind))


COLUMNS = columns_of(Sample)
"""Of `samples.csv`."""


@dataclass(frozen=True, slots=True)
class Belief:
    """How well the network believed the labels of N training samples.

    Attributes:
        loss: cross entropy at θ_τ, float64 (N,).
        margin: mean over the training of the logit of the label minus the largest other one, float64 (N,).
    """

    loss: Tensor
    margin: Tensor

    @property
    def suspicion(self) -> Tensor:
        """Share of the other samples whose margin is larger, float64 (N,)."""
        count = len(self.margin)
        rank = torch.searchsorted(self.margin.sort().values, self.margin, right=True)
        return (count - rank).double() / max(count - 1, 1)


def belief(workspace: Workspace, most: int = MOST_CHECKPOINTS) -> Belief:
    """Loss and area under the margin of every training sample.

    The margin is measured on logits at saved checkpoints without θ_0, and each counts for the epochs since the one
    before it, as if every epoch had been measured. Of a network that was trained elsewhere, `target.epochs` says which
    epochs these are; otherwise its checkpoints are evenly spaced, the first the start. With its last state alone, it is
    the margin at the end.

    Args:
        workspace: of a run whose target is trained.
        most: checkpoints to measure at.
    Source: Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking, Eq. 1.
    """
    data, target = workspace.data.train, workspace.trained
    area, total = torch.zeros(len(data), dtype=torch.float64), 0
    loss = torch.zeros(len(data), dtype=torch.float64)
    places = epochs_of(workspace)
    for epoch, weight in weighted_epochs(list(places), most):
        place = places[epoch]
        margin, loss = _measured(target.at(place), target.trajectory[place], data)
        area, total = area + weight * margin, total + weight
    return Belief(loss, area / total)


def epochs_of(workspace: Workspace) -> dict[int, int]:
    """Places of the checkpoints in the trajectory by the epochs after which they were kept, ascending.

    Checkpoints of a training elsewhere are counted, whatever their epochs.
    """
    places = sorted(workspace.trajectory)
    told = workspace.recipe.target.epochs if workspace.recipe.target.checkpoint is not None else None
    return dict(zip(told or places, places, strict=True))


def how_measured(workspace: Workspace) -> str:
    """Where along the training margins are measured, as a sentence."""
    places, brought = epochs_of(workspace), workspace.recipe.target
    count = len(weighted_epochs(list(places), MOST_CHECKPOINTS))
    if brought.checkpoint is None:
        return f"Margins are means over the training, measured at {count} of its epochs."
    if len(places) == 1:
        return (
            "Margins are measured at the network itself, for no checkpoint of its training was given; what it learnt by"
            " heart until then looks believed."
        )
    weighted = (
        "weighted by the epochs between them" if brought.epochs else "taken as evenly spaced, the first the start"
    )
    return f"Margins are means over the {count} checkpoints that were given and count, {weighted}."


def weighted_epochs(saved: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Evenly spaced saved epochs after θ_0, ascending, each with the number of epochs since the one before it."""
    later = sorted(epoch for epoch in saved if epoch > 0) or [max(saved)]
    count = min(most, len(later))
    chosen = [later[round(index * len(later) / count) - 1] for index in range(1, count + 1)]
    return [(epoch, max(epoch - before, 1)) for before, epoch in zip([0, *chosen], chosen, strict=False)]


def _measured(network: Network, parameters: Parameters, data: ImageSet) -> tuple[Tensor, Tensor]:
    """Margin and cross entropy of each sample at one θ, float64 (N,) each."""
    margins, losses = [], []
    for images, labels in zip(data.images.split(BLOCK), data.labels.split(BLOCK), strict=True):
        logits = network.logits_of(parameters, images).double()
        own = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        margins.append((own - others).cpu())
        losses.append(F.cross_entropy(logits, labels, reduction="none").cpu())
    return torch.cat(margins), torch.cat(losses)


def samples_of(workspace: Workspace) -> list[Sample]:
    """Every sample of a run: the training samples in the order of its training split, then validation and test."""
    found, clusters = belief(workspace), workspace.partition.clusters.tolist()
    told = zip(clusters, found.loss.tolist(), found.margin.tolist(), found.suspicion.tolist(), strict=True)
    trained = [Sample(*named, *rest) for named, rest in zip(_named(workspace, "train"), told, strict=True)]
    return [*trained, *(Sample(*named) for split in ("validation", "test") for named in _named(workspace, split))]


def _named(workspace: Workspace, split: str) -> Iterator[tuple[int, str, str, str]]:
    """What is known of each sample without its cluster: index, file, split and class."""
    images: ImageSet = getattr(workspace.data, split)
    names, origin = workspace.info.class_names, images.origin
    places = range(len(images)) if origin is None else origin.positions.tolist()
    files = ("",) * len(images) if origin is None or not origin.files else origin.files
    for place, file, label in zip(places, files, images.labels.tolist(), strict=True):
        yield place, readable(file), split, readable(names[label])


def save_samples(workspace: Workspace) -> None:
    """Write `samples.csv` beside `metrics.json`."""
    save_text(workspace.folder.file(SAMPLES), as_csv(samples_of(workspace)))


def as_csv(samples: Sequence[Sample]) -> str:
    """Rows under a header, UTF-8, with `\\n` at the end of each line; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns_of(type(samples[0])) if samples else COLUMNS)
    for each in samples:
        writer.writerow(["" if cell is None else _cell(cell) for cell in astuple(each)])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


def as_dict(sample: Sample) -> dict[str, Any]:
    """By the names of the columns."""
    return dict(zip(columns_of(type(sample)), astuple(sample), strict=True))


def read_samples(folder: RunFolder) -> list[Sample] | None:
    """The rows of a run's `samples.csv`; None if it has none, as runs of older versions.

    Raises:
        RunFolderError: if the file is not as ddm wrote it.
    """
    path = folder.file(SAMPLES)
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise RunFolderError(f"{path} has other columns than {', '.join(COLUMNS)}; {AGAIN}")
        return _ROWS.validate_python([_from_text(row) for row in reader])
    except FileError as error:
        if error.is_missing:
            return None
        raise RunFolderError(f"{error}; {AGAIN}") from error
    except (ValueError, csv.Error, ValidationError) as error:
        told = str(error).splitlines()[0]
        raise RunFolderError(f"{path} cannot be read ({told}); {AGAIN}") from error


_ROWS = TypeAdapter(list[Sample])


def _from_text(row: Mapping[str, Any]) -> dict[str, Any]:
    known = {("label" if name == "class" else name): value for name, value in row.items()}
    return {name: value for name, value in known.items() if value != "" or name in {"file", "label"}}


def members_of(samples: Sequence[Sample], cluster: int) -> list[Sample]:
    """The training samples of a cluster.

    Raises:
        DDMError: if there is no such cluster.
    """
    found = [each for each in samples if each.cluster == cluster]
    if not found:
        most = max((each.cluster for each in samples if each.cluster is not None), default=0)
        raise DDMError(f"there is no cluster {cluster}; clusters are 0 to {most}")
    return found


def known_samples(folder: Path) -> list[Sample] | None:
    """The rows of the `samples.csv` of a finished run, without loading anything else."""
    return read_samples(RunFolder.existing(folder))

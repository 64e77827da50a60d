"""Which training samples are suspicious? The least believed first, with what else is known of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework.answers.sample_influence import Influence, influences
from ddm_framework.data import ImageSet, corrupted_in
from ddm_framework.data.images import BLOCK
from ddm_framework.errors import DDMError, RunFolderError, readable
from ddm_framework.offline import Partition
from ddm_framework.report import Block, Pictures, Report, Section, Table, Text, page
from ddm_framework.runs import Workspace, artifacts, save_text
from ddm_framework.runs.samples import COLUMNS, Sample, as_dict, how_measured, read_samples, samples_of

FOLDER = "audit"
"""Where the page and the list of an audit lie in the run folder."""
SHOWN, MOST_CLUSTERS = 60, 10
"""Samples that the page shows, and clusters that it names."""
LIST_COLUMNS = ("drop", *COLUMNS[:4], "predicted", *COLUMNS[4:], "self_influence", "loss_without")
"""Of the list for whoever checks the labels; `drop` is theirs to fill in."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The training samples of a run, judged one by one.

    Attributes:
        samples: of the training split, in its order.
        order: positions of them, the most suspicious first, int64 (N,).
        predicted: what the network says they are, int64 (N,).
        influence: of each on itself and on the validation loss.
        partition: their clusters.
        measured: where along the training margins were measured, a sentence.
        detection: area under the ROC curve of finding labels that the recipe spoilt on purpose; None if it spoilt none.
    """

    samples: Sequence[Sample]
    order: Tensor
    predicted: Tensor
    influence: Influence
    partition: Partition
    measured: str
    detection: float | None

    @property
    def num_disbelieved(self) -> int:
        """Samples whose margin is below 0: over the training, the network mostly said something else."""
        return sum(each.margin is not None and each.margin < 0 for each in self.samples)

    def first(self, count: int | None) -> list[int]:
        """Positions of the most suspicious samples; by default of all that the network disbelieved."""
        return self.order[: self.num_disbelieved if count is None else count].tolist()


def audit(workspace: Workspace) -> Audit:
    """Judge every training sample of a finished run.

    Samples are ordered by the area under their margin along the trajectory, which tells labels that the network had to
    learn by heart from such as it would have guessed. Losses at the end tell less: what is learnt by heart has a small
    one.

    Source: Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking.
    """
    data = workspace.data.train
    listed = read_samples(workspace.folder) or samples_of(workspace)
    trained = [each for each in listed if each.split == "train"]
    if len(trained) != len(data):
        raise RunFolderError(f"{workspace.folder.file('samples.csv')} is of other data; run with --fresh")
    margins = torch.tensor([each.margin for each in trained], dtype=torch.float64)
    order = margins.argsort(stable=True)
    predicted = workspace.target_logits(data.images).argmax(1).cpu()
    found = influences(workspace)
    where = how_measured(workspace)
    return Audit(trained, order, predicted, found, workspace.partition, where, _detection(workspace, margins))


def _detection(workspace: Workspace, margins: Tensor) -> float | None:
    from sklearn.metrics import roc_auc_score

    wrong = corrupted_in(workspace.data, workspace.recipe.corruption).relabelled
    return float(roc_auc_score(wrong.numpy(), -margins.numpy())) if wrong.any() and not wrong.all() else None


def told(
    workspace: Workspace,
    *,
    top: int | None = None,
    out: Path | None = None,
    drop: Path | None = None,
    before: Workspace | None = None,
) -> dict[str, Any]:
    """Audit a run, write a page and a list, and say the most important as plain values.

    Args:
        workspace: of a finished run.
        top: samples to show and to drop; by default those that the network disbelieved, of which `SHOWN` are shown.
        out: folder of the page and the list; `RUN/audit` by default.
        drop: where to write a list of these samples which `dataset.drop` takes.
        before: a run on the same data with more samples, to compare with.
    Raises:
        RunFolderError: if a file cannot be written.
    """
    found, folder = audit(workspace), out or workspace.folder.file(FOLDER)
    chosen = found.first(top)
    files = {"page": folder / "audit.html", "list": folder / "audit.csv"}
    compared = None if before is None else comparison(workspace, before)
    save_text(files["page"], _page(workspace, found, chosen[: SHOWN if top is None else top], compared))
    save_text(files["list"], _table(found, workspace.info.class_names, found.order.tolist()))
    if drop is not None:
        save_text(drop, _table(found, workspace.info.class_names, chosen, drop="yes"))
    shown = [_as_values(found, workspace.info.class_names, place) for place in chosen[: 10 if top is None else top]]
    return {
        "num_samples": len(found.samples),
        "num_disbelieved": found.num_disbelieved,
        "measured": found.measured,
        "detection_auc": found.detection,
        "samples": shown,
        "clusters": _suspicious_clusters(found, workspace.info.class_names),
        "compared": compared,
        **{name: str(path) for name, path in files.items()},
        "drop": None if drop is None else {"file": str(drop), "num_samples": len(chosen)},
    }


def comparison(workspace: Workspace, before: Workspace) -> dict[str, Any]:
    """Accuracy and mean loss on validation and test images, before some samples were dropped and after.

    Raises:
        DDMError: if the two runs were tested on different images.
    """
    if not _same(workspace, before, "test"):
        raise DDMError(
            f"{before.folder.path} was tested on other images than {workspace.folder.path}, so their figures cannot be"
            " compared; name a run on the same data"
        )
    return {
        "num_training": {"before": len(before.data.train), "after": len(workspace.data.train)},
        **{
            split: {name: _measured(each, split) for name, each in (("before", before), ("after", workspace))}
            for split in ("validation", "test")
            if len(getattr(workspace.data, split)) and _same(workspace, before, split)
        },
    }


def _same(workspace: Workspace, before: Workspace, split: str) -> bool:
    """Whether a split of two runs holds the same images and labels; normalised differently they are the same."""
    images, others = (getattr(each.data, split) for each in (workspace, before))
    if workspace.info.class_names != before.info.class_names or not torch.equal(images.labels, others.labels):
        return False
    if workspace.info.shape != before.info.shape:
        return False
    blocks = zip(images.images.split(BLOCK), others.images.split(BLOCK), strict=True)
    return all(
        torch.allclose(workspace.info.to_pixels(ours), before.info.to_pixels(theirs), atol=1e-4)
        for ours, theirs in blocks
    )


def _measured(workspace: Workspace, split: str) -> dict[str, float]:
    images: ImageSet = getattr(workspace.data, split)
    logits = workspace.target_logits(images.images)
    correct = (logits.argmax(1) == images.labels).double().mean()
    return {"accuracy": float(correct), "loss": float(F.cross_entropy(logits.double(), images.labels))}


def _as_values(found: Audit, names: Sequence[str], place: int) -> dict[str, Any]:
    """What is known of a sample, by the columns of the list."""
    influence = found.influence
    return {
        **as_dict(found.samples[place]),
        "predicted": readable(names[int(found.predicted[place])]),
        "self_influence": float(influence.on_itself[place]),
        "loss_without": None if influence.loss_without is None else float(influence.loss_without[place]),
    }


def _table(found: Audit, names: Sequence[str], places: Sequence[int], drop: str = "") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, LIST_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for place in places:
        cells = {"drop": drop, **_as_values(found, names, place)}
        writer.writerow({key: f"{each:.7g}" if isinstance(each, float) else each for key, each in cells.items()})
    return text.getvalue()


def _suspicious_clusters(found: Audit, names: Sequence[str]) -> list[dict[str, Any]]:
    """Clusters by the share of their members that the network disbelieved, the largest first."""
    clusters = found.partition.clusters.cpu()
    doubtful = torch.tensor([each.margin is not None and each.margin < 0 for each in found.samples]).double()
    sizes = found.partition.sizes.cpu()
    share = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, clusters, doubtful) / sizes
    order = share.argsort(descending=True, stable=True)[:MOST_CLUSTERS].tolist()
    classes = found.partition.classes.tolist()
    return [
        {
            "cluster": each,
            "class": readable(names[classes[each]]),
            "images": int(sizes[each]),
            "disbelieved": float(share[each]),
        }
        for each in order
        if share[each] > 0
    ]


def _page(workspace: Workspace, found: Audit, shown: Sequence[int], compared: Mapping[str, Any] | None) -> str:
    report = Report(
        sections=[
            *_compared_section(compared),
            _samples_section(workspace, found, shown),
            *_clusters_section(workspace, found),
        ],
        question="Which training images may be labelled wrongly?",
        answer=f"Of {len(found.samples)} training images the network disbelieved {found.num_disbelieved}.",
    )
    return page(workspace, report, {}, artifacts.load_metrics(workspace.folder))


def _samples_section(workspace: Workspace, found: Audit, shown: Sequence[int]) -> Section:
    names = workspace.info.class_names
    blocks: list[Block] = [Text(f"{_HOW} {found.measured}")]
    if found.influence.loss_without is not None:
        blocks.append(Text(_ROUGH))
    if shown:
        images = workspace.data.train.images[torch.tensor(shown, device=workspace.data.train.labels.device)].cpu()
        blocks.append(Pictures(images, [_caption(found, names, place) for place in shown]))
    else:
        blocks.append(Text("There is none."))
    return Section("Suspicious images, the most suspicious first", blocks)


def _caption(found: Audit, names: Sequence[str], place: int) -> str:
    sample, predicted = found.samples[place], readable(names[int(found.predicted[place])])
    named = sample.file or f"sample {sample.sample}"
    says = "and it says so" if predicted == sample.label else f"it says {predicted}"
    return f"{named}: labelled {sample.label}, {says}; margin {sample.margin:.2f}, loss {sample.training_loss:.2g}"


def _clusters_section(workspace: Workspace, found: Audit) -> Iterator[Section]:
    listed = _suspicious_clusters(found, workspace.info.class_names)
    if listed:
        rows = [(each["class"], each["cluster"], each["images"], each["disbelieved"]) for each in listed]
        table = Table(["class", "cluster", "images", "share disbelieved"], rows)
        yield Section("Clusters whose images the network disbelieved", [table])


def _compared_section(compared: Mapping[str, Any] | None) -> Iterator[Section]:
    if compared is None:
        return
    rows = [
        (f"{split} {what}", compared[split]["before"][what], compared[split]["after"][what])
        for split in ("validation", "test")
        if split in compared
        for what in ("accuracy", "loss")
    ]
    count = compared["num_training"]
    rows.insert(0, ("training images", count["before"], count["after"]))
    yield Section("Before and after samples were dropped", [Table(["", "before", "after"], rows)])


_HOW = (
    "Ordered by the margin: the logit of an image's label minus the largest other one. Below 0 the network mostly said"
    " something else, and learnt the label by heart if at all. The label may be right and the picture hard, so look"
    " before you drop."
)
_ROUGH = (
    "The list beside this page also holds, for each image, the length of its own gradients (self_influence) and by how"
    " much the validation loss would change without it (loss_without, above 0 where it helps). Both are first-order"
    " estimates at a few checkpoints, rough for a single image."
)

"""A network that was trained elsewhere, from Python: `from_module`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ddm_framework.api import Run
from ddm_framework.data import DataInfo, DataSplits, origin_of
from ddm_framework.errors import DataError, DDMError
from ddm_framework.network import read_state
from ddm_framework.plugin import Choice, load_plugins
from ddm_framework.progress import SILENT, ProgressDisplay
from ddm_framework.recipe import Target, load_recipe
from ddm_framework.recipe.recipe import GIVEN
from ddm_framework.runs import RunFolder, save_tensors
from ddm_framework.stages import pipeline

Split = tuple[Tensor, Tensor] | Dataset[Any]
"""Images (N, C, H, W), float in [0, 1] or uint8, with class ids (N,); or a data set of such pairs, one per sample."""
Checkpoint = str | Path | Mapping[str, Tensor]
"""A state dict, or a file that holds one."""


def from_module(
    module: nn.Module,
    train: Split,
    test: Split,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    validation: float = 0.0,
    recipe: str | Path = "digits_convnet",
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    fresh: bool = False,
    display: ProgressDisplay = SILENT,
) -> Run:
    """Attribute a network that you trained elsewhere to the data that you trained it on.

    Args:
        module: the finished network, (B, C, H, W) -> logits (B, classes), without batch norm. It is not changed.
        train: what it was trained on.
        test: what is asked about.
        checkpoints: states that were kept during training, the earliest first, without the last, which `module` holds.
            Without them, matching sees the end of training alone (`pairing: final`).
        class_names: one per class; numbers by default.
        mean, std: what its inputs were normalised by, one number per channel, in units of [0, 1]; by default it takes
            pixels as they are.
        validation: share of the training images held out. What the network was trained on is no validation, so none is
            by default.
        recipe: whose clusterer, distance, matching, online settings, objectives and study are used.
        settings: overrides of the recipe, such as `clusterer.clusters_per_class=5`.
        out: the run folder; `runs/<name of the module's class>` by default.
        plugins: local files to load as plugins.
        fresh: redo the first stage whose inputs changed, and what follows from it, instead of refusing.
        display: where progress is shown.
    Returns:
        The run. To take it up later, call this again with the same arguments; `open_run` cannot make the module.
    Raises:
        DDMError: for data, checkpoints or settings that do not fit.
    """
    registry = load_plugins([Path(each) for each in plugins])
    folder = Path(out) if out is not None else Path("runs") / type(module).__name__
    splits = _splits(train, test, class_names, validation)
    channels = splits.info.shape[0]
    asked = load_recipe(str(recipe), registry, settings)
    if asked.certificate.retrainings and any(each.startswith("certificate.") for each in settings):
        raise DDMError("a network trained elsewhere cannot be retrained exactly; set certificate.retrainings=0")
    if asked.online.replay and any(each.startswith("online.replay=") for each in settings):
        raise DDMError("how the network was trained is not known, so nothing can be repeated; set online.replay=0")
    if asked.certificate.retrainings or asked.online.replay:
        display.say("how the network was trained is not known: nothing is retrained or repeated (certificate, replay)")
        asked = replace(
            asked,
            certificate=asked.certificate.changed({"retrainings": 0, "singles": None}),
            online=asked.online.changed({"replay": 0}),
        )
    if asked.corruption.share or asked.corruption.labels:
        raise DDMError("a network trained elsewhere never saw data that are spoilt here; leave `corruption` out")
    RunFolder.open(folder).note()  # from here on it is a run folder, whatever lies in it
    brought = Target(
        checkpoint=_kept(folder, len(checkpoints), module.state_dict()),
        trajectory=[_kept(folder, number, each) for number, each in enumerate(checkpoints)],
        mean=list(mean or [0.0] * channels),
        std=list(std or [1.0] * channels),
    )
    length = min(asked.matching.step_length, len(checkpoints))  # counted in checkpoints from here on
    chosen = replace(
        asked,
        name=folder.name,
        dataset=Choice("dataset", GIVEN, {}, lambda: splits),
        backbone=_backbone(module),
        matching=asked.matching.model_copy(update={"step_length": length}),
    )
    checked = chosen.with_target(brought)
    return Run(*pipeline.execute(checked, registry, folder, fresh=fresh, display=display))


def _backbone(module: nn.Module) -> Choice:
    """The module as a backbone; its printed form stands for its code, which nobody can compare."""
    known = hashlib.sha256(repr(module).encode()).hexdigest()[:16]

    def build(_info: DataInfo, /, *, architecture: str = known) -> nn.Module:  # noqa: ARG001 - it tells one module from another
        return copy.deepcopy(module).cpu().requires_grad_()

    return Choice("backbone", GIVEN, {"architecture": known}, build)


def _kept(folder: Path, number: int, checkpoint: Checkpoint) -> Path:
    """The file of a checkpoint; a state dict is written into the run folder."""
    if isinstance(checkpoint, str | Path):
        read_state(Path(checkpoint))
        return Path(checkpoint).resolve()
    path = folder.resolve() / "target" / f"checkpoint_{number:03d}.safetensors"
    save_tensors(path, checkpoint)
    return path


def _splits(train: Split, test: Split, class_names: Sequence[str] | None, validation: float) -> DataSplits:
    trained, tested = _pair(train, "train"), _pair(test, "test")
    names = class_names or [str(label) for label in range(int(torch.cat([trained[1], tested[1]]).max()) + 1)]
    parts = ((*pair, origin_of(given, len(pair[1]))) for pair, given in ((trained, train), (tested, test)))
    return DataSplits.from_pixels(*parts, class_names=tuple(names), validation=validation)


def _pair(split: Split, name: str) -> tuple[Tensor, Tensor]:
    """Images and labels as two tensors."""
    if isinstance(split, tuple) and len(split) == 2 and all(isinstance(each, Tensor) for each in split):
        return split
    samples = [split[index] for index in range(len(split))]  # type: ignore[arg-type]
    if not samples or not all(isinstance(each, tuple) and isinstance(each[0], Tensor) for each in samples):
        raise DataError(f"{name}: give (images, labels), two tensors, or a data set of (image tensor, class id)")
    return torch.stack([each[0] for each in samples]), torch.tensor([int(each[1]) for each in samples])

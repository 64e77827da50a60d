"""A network that was trained elsewhere, from Python: `from_module`."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ddm_framework.api import Run
from ddm_framework.arguments import checked_display, path_of, paths_of, texts_of
from ddm_framework.data import DataInfo, DataSplits, origin_of
from ddm_framework.data.given import as_pixels, pair, source_of
from ddm_framework.data.splits import hold_out
from ddm_framework.errors import DataError, DDMError
from ddm_framework.network import read_state, state_in
from ddm_framework.plugin import Choice, Registry, load_plugins
from ddm_framework.plugin.choice import GIVEN
from ddm_framework.progress import SILENT, ProgressDisplay
from ddm_framework.recipe import Recipe, Target, load_recipe
from ddm_framework.recipe.settings import MANY
from ddm_framework.runs import RunFolder, save_tensors
from ddm_framework.runs.own_training import OwnTraining, TrainFunction
from ddm_framework.stages import pipeline

Split = tuple[Any, Any] | Dataset[Any] | DataLoader[Any]
"""Images (N, C, H, W), float in [0, 1] or uint8, with class ids (N,), tensors or arrays; or a data set or loader of
such pairs, as tuples, lists or dicts. Floats outside [0, 1] are taken as the network's inputs as they are."""
Checkpoint = str | Path | Mapping[str, Any] | nn.Module
"""A state dict, whatever wraps it, or a file that holds one."""
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_WRAPPED = 3


def from_module(
    module: nn.Module,
    train: Split,
    test: Split,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    epochs: Sequence[int] | None = None,
    train_function: TrainFunction | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    validation: float = 0.0,
    parameters: Sequence[str] | None = None,
    recipe: str | Path = "digits_convnet",
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    fresh: bool = False,
    display: ProgressDisplay = SILENT,
) -> Run:
    """Attribute a network that you trained elsewhere to the data that you trained it on.

    Args:
        module: the finished network, (B, C, H, W) -> logits (B, classes). It is not changed. Logits may be one entry of
            a dict, tuple or data class, or probabilities. It is computed in evaluation mode and float32, batch norm by
            the statistics that it holds. Weights that do not require gradients are constants.
        train: what it was trained on.
        test: what is asked about.
        checkpoints: states that were kept during training, the earliest first, without the last, which `module` holds.
            Without them, matching sees the end of training alone (`pairing: final`), and so does the audit.
        epochs: after how many epochs each of `checkpoints` was kept, and after how many the training ended, such as
            `[0, 5, 10, 30]`; the audit weights them by the epochs between. By default they are evenly spaced.
        train_function: repeats the training, for certificates, exact retraining and `online.replay`. It is called as
            `f(weights, start, from_epoch)` and returns the trained module, or its state dict. `weights`, float32 (N,),
            are 1 for the samples of `train` that are kept, in their order, and 0 for the others. `start` is None, or a
            copy of the module as checkpoint number `from_epoch` left it, from which the training goes on; a function of
            `weights` alone does without `online.replay`. It must be deterministic: with all ones it gives the module
            back, to a tenth of the effect of a cluster. That is tried with four trainings before the attribution.
        class_names: one per class; numbers by default.
        mean, std: what its inputs were normalised by, one number per channel, in units of [0, 1]; by default it takes
            pixels as they are.
        validation: share of the training images held out. What the network was trained on is no validation, so none is
            by default.
        parameters: patterns of the weights to match, attribute and move, such as `["layer4.*", "fc.*"]`; the others
            are constants. By default all that require gradients. Short for `training.parameters`.
        recipe: whose clusterer, distance, matching, online settings, objectives and study are used.
        settings: overrides of the recipe, such as `clusterer.clusters_per_class=5`.
        out: the run folder; `runs/<name of the module's class>` by default.
        plugins: local files to load as plugins.
        fresh: redo the first stage whose inputs changed, and what follows from it, instead of refusing.
        display: where progress is shown.
    Returns:
        The run. To take it up later, call this again with the same arguments; `open_run` cannot make the module.
    Raises:
        DDMError: for data, checkpoints or settings that do not fit, or a train_function that does not give the module
            back.
    """
    checked_display(display)
    registry, settings = load_plugins(paths_of(plugins, "plugins")), texts_of(settings, "settings")
    module = _plain(module)
    kept = _listed_checkpoints(checkpoints)
    if not isinstance(validation, Real):
        raise DDMError(f"validation is a share of the training images, such as 0.1, not {validation!r}")
    folder = path_of(out, "out") if out is not None else Path("runs") / type(module).__name__
    data = _data(train, test, _names(class_names), float(validation), (_numbers(mean, "mean"), _numbers(std, "std")))
    own = None
    if train_function is not None:
        own = OwnTraining.of(train_function, module, data.positions, data.num_given)
    asked = _asked(str(recipe), registry, settings, len(kept), own, display)
    if asked.corruption.share or asked.corruption.labels:
        raise DDMError("a network trained elsewhere never saw data that are spoilt here; leave `corruption` out")
    if parameters is not None:
        patterns = texts_of(parameters, "parameters")
        asked = replace(asked, training=asked.training.changed({"parameters": patterns}))
    for told in data.notes:
        display.say(told)
    RunFolder.open(folder).note(told=data.notes)  # from here on it is a run folder, whatever lies in it
    brought = Target().changed(
        {
            "checkpoint": _kept(folder, len(kept), module.state_dict()),
            "trajectory": [_kept(folder, number, each) for number, each in enumerate(kept)],
            "mean": data.mean,
            "std": data.std,
            "epochs": None if epochs is None else [*epochs],
        }
    )
    length = min(asked.matching.step_length, len(kept))  # counted in checkpoints from here on
    chosen = replace(
        asked,
        name=folder.name,
        dataset=Choice("dataset", GIVEN, {}, lambda: data.splits),
        backbone=_backbone(module),
        matching=asked.matching.model_copy(update={"step_length": length}),
    )
    checked = chosen.with_target(brought)
    return Run(*pipeline.execute(checked, registry, folder, fresh=fresh, display=display, own_training=own))


def _asked(
    recipe: str,
    registry: Registry,
    settings: Sequence[str],
    num_kept: int,
    own: OwnTraining | None,
    display: ProgressDisplay,
) -> Recipe:
    """The recipe, without what needs a training that is not known.

    Raises:
        DDMError: if the settings ask for just that.
    """
    # Epochs are counted in checkpoints here, so those of the recipe say nothing of what may be repeated.
    any_number = [] if own is None else [f"training.epochs={MANY}", "training.checkpoint_every=1"]
    asked = load_recipe(recipe, registry, [*settings, *any_number])
    asked = replace(asked, training=asked.training.changed({"epochs": max(1, num_kept)})) if own else asked
    wanted = {name for name in ("certificate", "online.replay") for each in settings if each.startswith(name)}
    told = "how the network was trained is not known; bring a train_function, or"
    if own is None and asked.certificate.retrainings and "certificate" in wanted:
        raise DDMError(f"{told} set certificate.retrainings=0: a network trained elsewhere cannot be retrained exactly")
    repeats = own is not None and own.takes_start and num_kept > 0
    if asked.online.replay and not repeats and "online.replay" in wanted:
        if own is None:
            raise DDMError(f"{told} set online.replay=0, as nothing can be repeated")
        told = "it has no argument `start`" if num_kept else "there are no checkpoints to start from"
        raise DDMError(f"train_function cannot repeat the end of the training, for {told}; set online.replay=0")
    if own is not None and asked.online.replay not in range(num_kept + 1) and asked.online.replay != "auto":
        raise DDMError(
            f"online.replay={asked.online.replay} is counted in checkpoints, and {num_kept} come before the module;"
            f" set online.replay={num_kept} or less"
        )
    if own is None and (asked.certificate.retrainings or asked.online.replay):
        display.say("how the network was trained is not known: nothing is retrained or repeated (certificate, replay)")
        asked = replace(asked, certificate=asked.certificate.changed({"retrainings": 0, "singles": None}))
    if "online.replay" not in wanted:  # it costs a part of a training for each cluster
        asked = replace(asked, online=asked.online.changed({"replay": 0}))
    return asked


def _plain(module: Any) -> nn.Module:
    """The module itself, without what compiles or distributes it.

    Raises:
        DDMError: for something that cannot be computed with other weights.
    """
    for _ in range(_WRAPPED):
        inner = getattr(module, "_orig_mod", None) or (module.module if isinstance(module, _WRAPPERS) else None)
        if inner is None:
            break
        module = inner
    if not isinstance(module, nn.Module):
        raise DDMError(f"the network is a {type(module).__name__}; bring a torch.nn.Module, (B, C, H, W) -> logits")
    if isinstance(module, torch.jit.ScriptModule):
        raise DDMError("the network is a TorchScript module, whose weights cannot be replaced; bring the original one")
    if any(nn.parameter.is_lazy(each) for each in module.parameters()):
        raise DDMError("the network has lazy layers that never saw an image; call it once on a batch, then bring it")
    if away := [name for name, each in _tensors_of(module) if each.is_meta]:
        raise DDMError(f"the network's {away[0]} is on the device `meta`, without values; load its weights first")
    try:
        copy.deepcopy(module)
    except Exception as error:  # whatever hangs on the module can raise anything
        told = " ".join(str(error).split())[:200]
        raise DDMError(
            f"the network cannot be copied ({type(error).__name__}: {told}); take off what hangs on it (hooks, files,"
            " results of earlier passes; `weight_norm` of torch.nn.utils.parametrizations instead of the old one)"
        ) from error
    return module


def _tensors_of(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return itertools.chain(module.named_parameters(), module.named_buffers())


def _listed_checkpoints(checkpoints: Any) -> list[Checkpoint]:
    """The checkpoints as a list; one alone is a list of one."""
    if checkpoints is None:
        return []
    if isinstance(checkpoints, str | Path | Mapping | nn.Module):
        return [checkpoints]
    if not isinstance(checkpoints, Sequence):
        raise DDMError(f"checkpoints is a list of state dicts or files, not a {type(checkpoints).__name__}")
    return list(checkpoints)


def _numbers(values: Any, name: str) -> list[float] | None:
    """One number a channel, of a list, array or tensor; a single one is that of every channel."""
    if values is None:
        return None
    try:
        found = [float(each) for each in (torch.as_tensor(values).flatten().tolist())]
    except (TypeError, ValueError, RuntimeError):
        found = []
    if not found or not all(map(math.isfinite, found)):
        raise DDMError(f"{name} holds one number per channel, in units of [0, 1], not {values!r}")
    if name == "std" and min(found) <= 0:
        raise DDMError(f"std must be above 0 for every channel, not {values!r}")
    return found


def _names(class_names: Any) -> list[str] | None:
    """Names of the classes, which must be texts."""
    if class_names is None:
        return None
    given = isinstance(class_names, Iterable) and not isinstance(class_names, str | bytes | Mapping)
    listed = list(class_names) if given else []
    if not listed or not all(isinstance(each, str) for each in listed):
        raise DDMError(f"class_names is a list of texts, one per class in the order of the ids, not {class_names!r}")
    if wrong := [each for each in listed if not each.isprintable() or not each.strip()]:
        raise DDMError(f"class_names: {wrong[0]!r} cannot be read; give names of printable characters")
    return listed


def _backbone(module: nn.Module) -> Choice:
    """The module as a backbone; its printed form stands for its code, which nobody can compare."""
    frozen = [name for name, each in module.named_parameters() if not each.requires_grad]
    told = repr(module) + (f" without {frozen}" if frozen else "")
    known = hashlib.sha256(told.encode()).hexdigest()[:16]

    def build(_info: DataInfo, /, *, architecture: str = known) -> nn.Module:  # noqa: ARG001 - it tells one module from another
        return copy.deepcopy(module).cpu()

    return Choice("backbone", GIVEN, {"architecture": known}, build)


def _kept(folder: Path, number: int, checkpoint: Checkpoint) -> Path:
    """The file of a checkpoint; a state dict is written into the run folder."""
    if isinstance(checkpoint, str | Path):
        read_state(Path(checkpoint))
        return Path(checkpoint).resolve()
    path = folder.resolve() / "target" / f"checkpoint_{number:03d}.safetensors"
    save_tensors(path, state_in(checkpoint, f"checkpoint {number} of `checkpoints`"))
    return path


@dataclass(frozen=True, slots=True)
class _Data:
    """The data that were brought, how the network's inputs are normalised, and what is to be told.

    The training split holds the samples at `positions` (int64) of the `num_given` that were given.
    """

    splits: DataSplits
    mean: list[float]
    std: list[float]
    notes: list[str]
    positions: Tensor
    num_given: int


def _data(
    train: Split,
    test: Split,
    class_names: Sequence[str] | None,
    validation: float,
    normalised: tuple[Sequence[float] | None, Sequence[float] | None],
) -> _Data:
    """Read both splits.

    Raises:
        DataError: if they cannot be understood.
    """
    (images, labels, told), (asked, answers, more) = pair(train, "train"), pair(test, "test")
    for name, ids in (("train", labels), ("test", answers)):
        if len(ids) and int(ids.min()) < 0:
            raise DataError(f"{name}: labels begin at {int(ids.min())}; class ids begin at 0")
    if not len(labels) or not len(answers):
        raise DataError(f"{'train' if not len(labels) else 'test'}: it holds no sample")
    if images.shape[1] != asked.shape[1]:
        raise DataError(f"train images have {images.shape[1]} channels, test images {asked.shape[1]}")
    images, asked, mean, std, notes = as_pixels(images, asked, *normalised)
    highest = int(torch.cat([labels, answers]).max())
    if class_names is None and highest >= len(labels):  # before so many names are made
        raise DataError(
            f"train: labels run to {highest}, and there are {len(labels)} images; class ids are 0, 1, 2, ..."
        )
    names = class_names or [str(label) for label in range(highest + 1)]
    parts = (
        (images, labels, origin_of(source_of(train), len(labels))),
        (asked, answers, origin_of(source_of(test), len(answers))),
    )
    splits = DataSplits.from_pixels(*parts, class_names=tuple(names), validation=validation)
    positions, _ = hold_out(labels, validation, 0)
    return _Data(splits, mean, std, [*told, *more, *notes], positions, len(labels))

"""Unlearn clusters or whole classes for good: a step on their synset, then a short repair on the data that stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddm_framework.answers.class_names import class_id
from ddm_framework.data import ImageSet, subset
from ddm_framework.errors import DDMError
from ddm_framework.network import Parameters, broadcast, scaled, start, take, train
from ddm_framework.randomness import derive_seed
from ddm_framework.runs import Workspace, replayed_epochs, save_tensors

REPAIR_EPOCHS = 3
"""Epochs of a repair after unlearning whole classes. More gain little, and each restores a forgotten class a little."""
FORGOTTEN = 0.05
"""A class counts as forgotten at this accuracy or below."""
STEP_SIZES = tuple(1e-3 * 2 ** (power / 2) for power in range(21))
"""Step sizes for whole classes among which the validation split decides, as shares of ‖θ_τ‖: 0.001 to about 1."""
STEP_WITHOUT_DATA = STEP_SIZES[9]
"""Used if there is no validation image of the classes: the middle of what the rule finds on digits, 0.016 to 0.032."""
STEP_BEFORE_REPAIR = 4
"""Factor of the step before a repair, which mends what a longer step breaks but undoes one that is just enough. Chosen
among 1, 2, 4 and 8 on the validation splits of digits and MNIST."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to forget: some clusters, or some whole classes.

    Attributes:
        clusters: ids of all clusters concerned, those of the classes included.
        classes: labels, where whole classes are to be forgotten; else empty.
    """

    clusters: tuple[int, ...]
    classes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """Training on the data that stay, after the synset's step.

    Attributes:
        epochs: number of passes, over which the learning-rate schedule runs again from its start.
        share: of the remaining data, drawn at random with every class in proportion.
    """

    epochs: int
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Unlearned:
    """What was forgotten, and what it took.

    Attributes:
        parameters: of the network, after the repair where there is one.
        synset_alone: of the network that the synset reaches without any training data.
        step_size: of the synset's step alone, as a share of ‖θ_τ‖; a repair follows a longer one.
        step_seconds: for the step and the choice of its size.
        repair_seconds: for the repair; 0 where there is none.
        samples: total number of samples in all passes of the repair.
    """

    parameters: Parameters
    synset_alone: Parameters
    step_size: float
    step_seconds: float
    repair_seconds: float = 0.0
    samples: int = 0


def request(workspace: Workspace, clusters: Sequence[int] = (), classes: Sequence[int | str] = ()) -> Request:
    """Check a request to forget clusters or classes.

    Args:
        workspace: a run.
        clusters: ids from 0 to K - 1.
        classes: names or labels.
    Raises:
        DDMError: if both or none is given, or one of them does not exist.
    """
    count, partition = workspace.partition.num_clusters, workspace.partition
    if len(clusters) and len(classes):
        raise DDMError("name clusters to unlearn or whole classes, not both")
    if not len(clusters) and not len(classes):
        raise DDMError(f"name at least one cluster to unlearn, from 0 to {count - 1}, or at least one class")
    if wrong := [cluster for cluster in clusters if not 0 <= cluster < count]:
        raise DDMError(f"there is no cluster {wrong[0]}; clusters are 0 to {count - 1}")
    if not len(classes):
        return Request(tuple(sorted(set(clusters))))
    labels = tuple(sorted({class_id(each, workspace.info.class_names) for each in classes}))
    if len(labels) == workspace.info.num_classes:
        raise DDMError("every class was named; keep at least one")
    return Request(tuple(cluster for label in labels for cluster in partition.of_class(label).tolist()), labels)


def repair_of(asked: Request, epochs: int | None = None, share: float = 1.0) -> Repair | None:
    """The repair to do; by default none for clusters and a short one for classes.

    Raises:
        DDMError: for a negative number of epochs, or a share that is not above 0 and at most 1.
    """
    wanted = (REPAIR_EPOCHS if asked.classes else 0) if epochs is None else epochs
    if wanted < 0:
        raise DDMError(f"a repair lasts 0 epochs or more, not {wanted}")
    if not 0 < share <= 1:
        raise DDMError(f"the share of the data for the repair must be above 0 and at most 1, not {share}")
    return Repair(wanted, share) if wanted else None


def unlearn(
    workspace: Workspace, asked: Request, repair: Repair | None = None, step_size: float | None = None
) -> Unlearned:
    """Unlearn by a step on the synset, followed by a repair on the remaining training data if there is one.

    Args:
        workspace: a run.
        asked: what to forget.
        repair: None needs no data at all.
        step_size: of the synset's step, as a share of ‖θ_τ‖; by default the recipe's for clusters, and for classes
            what the validation split decides (`class_step_size`).
    Raises:
        DDMError: for a step size that is not positive, a repair without training data, or a repair that diverges.
    Source: Eq. 9; Sec. 4.3, "DDM could be used as a quick unlearn method".
    """
    if step_size is not None and not step_size > 0:
        raise DDMError(f"the step size must be above 0, not {step_size}")
    kept = retained(workspace, asked) if repair else None
    begun = time.monotonic()
    if step_size is None:
        step_size = class_step_size(workspace, asked) if asked.classes else _own_step_size(workspace)
    alone = stepped(workspace, asked, step_size)
    if repair is None or kept is None:
        return Unlearned(alone, alone, step_size, time.monotonic() - begun)
    before = stepped(workspace, asked, step_size * STEP_BEFORE_REPAIR) if asked.classes else alone
    turned = time.monotonic()
    images = repair_images(workspace, kept, repair.share)
    repaired = repair_on(workspace, before, images, repair.epochs)
    spent = time.monotonic() - turned
    return Unlearned(repaired, alone, step_size, turned - begun, spent, repair.epochs * len(images))


def stepped(workspace: Workspace, asked: Request, step_size: float) -> Parameters:
    """θ_τ after the synset's step: of the clusters by the recipe's settings, of classes one step on the class-wise one.

    Source: Eq. 9; Sec. 6.2.
    """
    fixed: dict[str, Any] = {}
    if asked.classes:
        synset, deleted = workspace.class_synset, asked.classes
        fixed = {"steps": 1, "scale": "common", "start": "target", "anchor": 0.0, "replay": 0, "direction": "synset"}
    else:
        synset, deleted = workspace.synset, asked.clusters
    perturbation = torch.ones(1, len(synset))
    perturbation[:, list(deleted)] = 0
    own = workspace.with_online(step_size=step_size, replay_step_size=step_size, **fixed)
    return take(next(own.perturbed(perturbation, synset))[1], 0)


def _own_step_size(workspace: Workspace) -> float:
    """The recipe's, for networks that are replayed or for such as take the step alone."""
    online = workspace.recipe.online
    return online.replay_step_size if replayed_epochs(workspace) else online.step_size


def class_step_size(workspace: Workspace, asked: Request) -> float:
    """The smallest step after which validation images of the classes are hardly recognised.

    One step is a straight line, so its direction is found once. The smallest of `STEP_SIZES` that leaves an accuracy of
    `FORGOTTEN` or less is taken; where none does, the one that leaves the least. Without validation images, because
    the split is empty or the data files are gone, it is `STEP_WITHOUT_DATA`.
    """
    images = validation_images(workspace, asked.classes)
    if images is None:
        return STEP_WITHOUT_DATA
    found = _along(workspace, stepped(workspace, asked, 1.0), images)
    enough = (found <= FORGOTTEN).nonzero()
    return STEP_SIZES[int(enough[0, 0] if len(enough) else found.argmin())]


def _along(workspace: Workspace, end: Parameters, images: ImageSet) -> Tensor:
    """Accuracy of the networks at each of `STEP_SIZES` along the straight line to `end`, float64 (S,)."""
    network, target = workspace.network, workspace.target
    sizes, found = torch.tensor(STEP_SIZES, device=workspace.device), []
    for part in workspace.budget.chunks(network, len(sizes)):
        apart = broadcast({name: end[name] - each for name, each in target.items()}, part.stop - part.start)
        stack = {name: target[name] + each for name, each in scaled(apart, sizes[part]).items()}
        found.append((workspace.stack_logits(stack, images.images).argmax(2) == images.labels).double().mean(1))
    return torch.cat(found).cpu()


def validation_images(workspace: Workspace, classes: Sequence[int]) -> ImageSet | None:
    """Those of some classes, which decide the step; None where there are none, or the data files are gone."""
    try:
        held = workspace.data.validation
    except DDMError:
        return None
    chosen = torch.isin(held.labels, torch.tensor(classes, device=held.labels.device)).nonzero()[:, 0]
    return held.take(chosen) if len(chosen) else None


def retained(workspace: Workspace, asked: Request) -> ImageSet:
    """The training images that are in none of the clusters to forget.

    Raises:
        DDMError: if the data are gone, or nothing is left.
    """
    try:
        data = workspace.data.train
    except DDMError as error:
        raise DDMError(
            f"a repair needs the training data: {error}; without them `--repair 0` takes the synset's step alone"
        ) from error
    index = (~_in_clusters(workspace, asked)).nonzero()[:, 0]
    if not len(index):
        raise DDMError("every cluster was named, so no training data stay to repair on; use `--repair 0`")
    return data.take(index)


def forgotten(workspace: Workspace, asked: Request) -> ImageSet:
    """The training images of the clusters to forget."""
    return workspace.data.train.take(_in_clusters(workspace, asked).nonzero()[:, 0])


def _in_clusters(workspace: Workspace, asked: Request) -> Tensor:
    """Whether each training sample is to be forgotten, bool (N,)."""
    clusters = workspace.partition.clusters
    return torch.isin(clusters, torch.tensor(asked.clusters, device=clusters.device))


def repair_images(workspace: Workspace, images: ImageSet, share: float) -> ImageSet:
    """What a repair trains on: a share of the images that stay, drawn from the recipe's seed (see `Repair`)."""
    if share == 1:
        return images
    size = max(1, round(share * len(images)))
    chosen = subset(images.labels.cpu(), size, derive_seed(workspace.recipe.general.seed, "repair", "images"))
    return images.take(chosen.to(images.labels.device))


def repair_on(workspace: Workspace, parameters: Parameters, images: ImageSet, epochs: int) -> Parameters:
    """Train one network on by the recipe's training settings, in a batch order of its own.

    Raises:
        DivergenceError: if a weight becomes NaN or infinite.
    """
    recipe = workspace.recipe
    settings = recipe.training.model_copy(update={"epochs": epochs})
    everything = torch.ones(1, len(images), device=images.labels.device)
    seed = derive_seed(recipe.general.seed, "repair")
    *_, last = train(workspace.network, start(parameters, 1), images, everything, settings, seed)
    return take(last.parameters, 0)


def judged_on(workspace: Workspace, asked: Request) -> dict[str, ImageSet]:
    """Sets of images that show whether forgetting worked, by name.

    Of classes: test images of the classes, and of the others. Of clusters: their training images, and those that stay.
    """
    data = workspace.data
    if not asked.classes:
        stay = {} if _in_clusters(workspace, asked).all() else {"others (training)": retained(workspace, asked)}
        return {"forgotten (training)": forgotten(workspace, asked), **stay, "test": data.test}
    concerned = torch.isin(data.test.labels, torch.tensor(asked.classes, device=data.test.labels.device))
    named = {
        "forgotten (test)": data.test.take(concerned.nonzero()[:, 0]),
        "others (test)": data.test.take((~concerned).nonzero()[:, 0]),
        "test": data.test,
    }
    return {name: images for name, images in named.items() if len(images)}


def cost(workspace: Workspace, done: Unlearned, asked: Request) -> dict[str, float]:
    """What unlearning took beside one retraining by the same engine: shares of its passes over data and its seconds.

    Retraining is taken to last as long as the target's own training did, on all data and with the saving of its
    checkpoints; of a target that was trained elsewhere no seconds are known, and their share is left out. What the
    synset once cost, for all that is ever to be unlearned, is in neither share.
    """
    recipe, kept = workspace.recipe, len(workspace.partition.clusters) - int(_in_clusters(workspace, asked).sum())
    seconds = done.step_seconds + done.repair_seconds
    found = {"seconds": seconds, "epochs_share": done.samples / (max(kept, 1) * recipe.training.epochs)}
    retraining = workspace.root.seconds().get("training", 0.0)
    if recipe.target.checkpoint is None and retraining > 0:
        found["seconds_share"] = seconds / retraining
    return found


def unlearn_to(
    out: Path,
    workspace: Workspace,
    clusters: Sequence[int] = (),
    classes: Sequence[str] = (),
    *,
    repair: int | None = None,
    share: float = 1.0,
    step_size: float | None = None,
) -> dict[str, Any]:
    """Unlearn, write the weights, and say what it did and took, as plain values; arguments as `Run.unlearn`.

    The accuracies are left out where the data are gone.
    """
    asked = request(workspace, clusters, classes)
    mending = repair_of(asked, repair, share)
    done = unlearn(workspace, asked, mending, step_size)
    save_tensors(out, workspace.module(done.parameters).state_dict())
    return {
        "out": str(out),
        "without": _in_words(workspace, asked),
        "step_size": done.step_size,
        "repair_epochs": mending.epochs if mending else 0,
        "accuracy": _told(workspace, asked, done),
        "cost": cost(workspace, done, asked),
    }


def _in_words(workspace: Workspace, asked: Request) -> str:
    if asked.classes:
        names = [workspace.info.class_names[label] for label in asked.classes]
        return f"class {names[0]}" if len(names) == 1 else f"classes {', '.join(names)}"
    return f"{len(asked.clusters)} cluster{'s' if len(asked.clusters) > 1 else ''}"


def _told(workspace: Workspace, asked: Request, done: Unlearned) -> dict[str, dict[str, float]]:
    """Accuracies by network; none without data."""
    try:
        sets = judged_on(workspace, asked)
    except DDMError:
        return {}
    networks = {"before": workspace.target, "synset alone": done.synset_alone}
    if done.samples:
        networks["after the repair"] = done.parameters
    return {
        name: {title: workspace.accuracy_of(parameters, images) for title, images in sets.items()}
        for name, parameters in networks.items()
    }

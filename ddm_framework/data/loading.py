"""The data of a recipe: loaded by its data set, corrupted if asked for, normalised as the network expects."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.data.corruption import corrupt
from ddm_framework.data.dropping import dropped
from ddm_framework.data.splits import DataInfo, DataSplits, ImageSet
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.recipe import Recipe
from ddm_framework.resources import memory_told


def load_data(recipe: Recipe) -> DataSplits:
    """Load the data set as the recipe asks for it: corrupted, without samples to drop, normalised for the target.

    Raises:
        PluginError: if the data set does not return `DataSplits`.
        DataError: if the list of samples to drop does not fit.
        DDMError: if `target.mean` or `target.std` is not one number per channel.
    """
    with memory_told(f"loading {recipe.dataset.who}", "take fewer or smaller images (`ddm show dataset NAME`)"):
        data = recipe.dataset()
    if not isinstance(data, DataSplits):
        raise PluginError(f"{recipe.dataset.who} must return DataSplits, returned {type(data).__name__}")
    _check_splits(data, recipe.dataset.who)
    data = corrupt(data, recipe.corruption)
    if recipe.selection.drop is not None:
        if recipe.target.checkpoint is not None:
            raise DDMError("a network trained elsewhere was trained on all of its data; leave `dataset.drop` out")
        data = dropped(data, recipe.selection.drop)
    mean, std = recipe.target.mean, recipe.target.std
    if mean is None or std is None:
        return data
    channels = data.info.shape[0]
    if not len(mean) == len(std) == channels:
        raise DDMError(
            f"target.mean and target.std hold one number per channel: the images have {channels}, found {len(mean)} and"
            f" {len(std)}"
        )
    return data.normalised_by(tuple(mean), tuple(std))


def _check_splits(data: DataSplits, who: str) -> None:
    """Refuse splits that a data set made by itself, without `DataSplits.from_pixels`, and that contradict themselves.

    Raises:
        PluginError: naming the data set and the split.
    """
    info = data.info
    if not len(info.mean) == len(info.std) == info.shape[0] or len(info.class_names) != info.num_classes:
        raise PluginError(f"{who}: its DataInfo does not hold one mean and std per channel, and one name per class")
    if info.num_classes < 2:
        raise PluginError(f"{who}: the data have one class, of which every network is right: nothing to tell apart")
    for name in ("train", "validation", "test"):
        split: ImageSet = getattr(data, name)
        if told := _fault(split, info):
            raise PluginError(f"{who}: {name} {told}")
    if not len(data.train) or not len(data.test):
        raise PluginError(f"{who}: there is no {'test' if len(data.train) else 'training'} image")


def _fault(split: ImageSet, info: DataInfo) -> str:
    """What is wrong with a split, as the end of a sentence; empty if nothing is."""
    images, labels = split.images, split.labels
    if tuple(images.shape[1:]) != info.shape or images.ndim != 4:
        return f"images are {tuple(images.shape)}, not (N, {', '.join(map(str, info.shape))})"
    if images.dtype != torch.float32:
        return f"images are {images.dtype}, not float32"
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        return f"labels are {labels.dtype} {tuple(labels.shape)}, not int64 ({len(images)},)"
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < info.num_classes:
        return f"labels run from {int(labels.min())} to {int(labels.max())}, and there are {info.num_classes} classes"
    if isinstance(images, Tensor) and not bool(images.isfinite().all()):
        return "images hold NaN or infinity"
    return ""

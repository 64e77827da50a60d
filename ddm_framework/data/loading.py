"""The data of a recipe: loaded by its data set, corrupted if asked for, normalised as the network expects."""

from __future__ import annotations

from ddm_framework.data.corruption import corrupt
from ddm_framework.data.dropping import dropped
from ddm_framework.data.splits import DataSplits
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.recipe import Recipe


def load_data(recipe: Recipe) -> DataSplits:
    """Load the data set as the recipe asks for it: corrupted, without samples to drop, normalised for the target.

    Raises:
        PluginError: if the data set does not return `DataSplits`.
        DataError: if the list of samples to drop does not fit.
        DDMError: if `target.mean` or `target.std` is not one number per channel.
    """
    data = recipe.dataset()
    if not isinstance(data, DataSplits):
        raise PluginError(f"dataset {recipe.dataset.name!r} must return DataSplits, returned {type(data).__name__}")
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

"""The data as a recipe wants them: what the data set loads, as the network is to see it."""

from __future__ import annotations

from ddm_framework.data.corruption import corrupt
from ddm_framework.data.splits import DataSplits
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.recipe.recipe import Recipe


def load_data(recipe: Recipe) -> DataSplits:
    """Load the data set, its training split spoilt as the recipe asks, normalised as the target was trained.

    Raises:
        PluginError: if the data set returns something else.
        DDMError: if `target.mean` or `target.std` is not one number a channel.
    """
    data = recipe.dataset()
    if not isinstance(data, DataSplits):
        raise PluginError(f"dataset {recipe.dataset.name!r} must return DataSplits, returned {type(data).__name__}")
    data = corrupt(data, recipe.corruption)
    mean, std = recipe.target.mean, recipe.target.std
    if mean is None or std is None:
        return data
    channels = data.info.shape[0]
    if not len(mean) == len(std) == channels:
        raise DDMError(
            f"target.mean and target.std hold one number a channel: the images have {channels}, found {len(mean)} and"
            f" {len(std)}"
        )
    return data.normalised_by(tuple(mean), tuple(std))

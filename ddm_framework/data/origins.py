"""Where the samples of somebody else's data set come from: the files and places that it tells of itself."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch

from ddm_framework.data.splits import Origin


def origin_of(source: Any, count: int) -> Origin:
    """The origin of the samples of a data set of torch.

    Files are those that the data set lists as `samples` or `imgs`, pairs of a path and something else, as torchvision's
    folders do. Samples of a `torch.utils.data.Subset` keep their places in the data set that it is a part of.

    Args:
        source: the data set; anything else counts its samples and names no files.
        count: how many samples it has.
    """
    places = list(range(count))
    while hasattr(source, "dataset") and hasattr(source, "indices"):
        chosen = [int(each) for each in source.indices]
        places, source = [chosen[place] for place in places], source.dataset
    listed = next((each for name in ("samples", "imgs") if (each := getattr(source, name, None))), None)
    files: tuple[str, ...] = ()
    if isinstance(listed, list | tuple) and max(places, default=0) < len(listed) and all(map(_is_pair, listed)):
        files = tuple(str(listed[place][0]) for place in places)
    return Origin(torch.tensor(places, dtype=torch.int64), files)


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, tuple | list) and bool(entry) and isinstance(entry[0], str | PathLike)

"""Network inputs as small pictures that stand inside an answer, as data URIs."""

from __future__ import annotations

from torch import Tensor

from ddm_framework.data import DataInfo
from ddm_framework.report.pictures import png, strip, thumbnail

SMALL, LARGE = 64, 320
NUM_MEMBERS = 6
"""Members of a cluster in its strip."""


def small(info: DataInfo, images: Tensor) -> list[str]:
    """One picture for each of some network inputs (N, C, H, W)."""
    return [png(each) for each in thumbnail(info.to_pixels(images.cpu()), SMALL)]


def large(info: DataInfo, image: Tensor) -> str:
    """A picture of one network input (C, H, W)."""
    return png(thumbnail(info.to_pixels(image.cpu())[None], LARGE)[0])


def in_a_row(info: DataInfo, images: Tensor) -> str:
    """Network inputs (n, C, H, W) side by side."""
    return strip(thumbnail(info.to_pixels(images.cpu()), SMALL))

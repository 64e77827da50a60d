"""Decode image files to uint8 pixels, one file at a time; with a cache, only once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddm_datasets.kept_pixels import kept_pixels
from ddm_datasets.sizes import positions
from ddm_framework import check_fits
from ddm_framework.data import fitted, open_image, to_pixels, unreadable

Samples = Sequence[tuple[str, int]]
"""Files, each with its class id."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files become pixels, and where these are stored.

    Attributes:
        size: height and width; images are resized to the shorter side and cropped to the centre.
        mode: Pillow's mode, with one channel (`L`) or three (`RGB`).
        cache: folder of the decoded pixels; None decodes to memory every time.
    """

    size: int
    mode: Literal["L", "RGB"]
    cache: Path | None

    def read(self, samples: Samples, size: int | None, option: str) -> tuple[Tensor, Tensor]:
        """Pixels uint8 (N, C, size, size) and labels int64 (N,) of a split; files that are not drawn are not read.

        Args:
            samples: all samples.
            size: how many of them the split keeps; None keeps all.
            option: the option of the recipe that sets it, for errors.
        Raises:
            DataError: if there are fewer samples, a file is not an image, or the cache cannot be written.
        """
        labels = torch.tensor([label for _, label in samples])
        kept = positions(labels, size, option)
        return torch.from_numpy(self._pixels([Path(samples[i][0]) for i in kept.tolist()])), labels[kept]

    def _pixels(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        shape = (len(paths), len(self.mode), self.size, self.size)
        if self.cache is not None:
            return kept_pixels(self.cache / f"{self._digest(paths)}.npy", shape, self._images(paths))
        check_fits(math.prod(shape), "the images", "lower `size`, take fewer images, or name a `cache`")
        pixels = np.empty(shape, np.uint8)
        for i, image in enumerate(self._images(paths)):
            pixels[i] = image
        return pixels

    def _images(self, paths: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        for path in paths:
            yield to_pixels(fitted(open_image(path, self.mode), self.size, self.size))

    def _digest(self, paths: Sequence[Path]) -> str:
        """A digest of the name, size and time of every file, and of all that affects decoding."""
        digest = hashlib.sha256(repr((self.size, self.mode, PIL.__version__)).encode())
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                raise unreadable(path, error) from error
            digest.update(repr((str(path.absolute()), status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()[:32]

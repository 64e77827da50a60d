"""Decode image files to uint8 pixels, one file at a time; with a cache, only once."""

from __future__ import annotations

import hashlib
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
from ddm_framework.data import Origin, fitted, open_image, to_pixels, unreadable

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

    def read(
        self, samples: Samples, size: int | None, option: str, places: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor, Origin]:
        """Pixels uint8 (N, C, size, size), labels int64 (N,) and files of a split; those not drawn are not read.

        Args:
            samples: all samples.
            size: how many of them the split keeps; None keeps all.
            option: the option of the recipe that sets it, for errors.
            places: of the samples in the source's own order; by default these are all of it.
        Raises:
            DataError: if there are fewer samples, a file is not an image, or the cache cannot be written.
        """
        labels = torch.tensor([label for _, label in samples])
        kept = positions(labels, size, option)
        files = tuple(samples[i][0] for i in kept.tolist())
        origin = Origin(kept if places is None else torch.tensor(places)[kept], files)
        return torch.from_numpy(self._pixels([Path(each) for each in files])), labels[kept], origin

    def _pixels(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        shape = (len(paths), len(self.mode), self.size, self.size)
        if self.cache is not None:
            return kept_pixels(self.cache / f"{self._digest(paths)}.npy", shape, self._images(paths))
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

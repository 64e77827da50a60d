"""Decode image files to uint8 pixels, one file at a time; with a cache, only once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddm_datasets.kept_pixels import kept_pixels
from ddm_datasets.sizes import positions
from ddm_framework import DataError, check_fits
from ddm_framework.data import Origin, fitted, read_image, to_pixels, unreadable

Samples = Sequence[tuple[str, int]]
"""Files, each with its class id."""
OnError = Literal["raise", "skip"]
"""What happens to a file that cannot be read as an image."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A split as it was read.

    Attributes:
        part: pixels uint8 (N, C, size, size), labels int64 (N,) and where they come from.
        told: what the reader must know of it, a sentence each.
    """

    part: tuple[Tensor, Tensor, Origin]
    told: tuple[str, ...] = ()


@dataclass(slots=True)
class _Account:
    """What happened while files were decoded: positions of those that are no images, and how many were transparent."""

    unreadable: list[int] = field(default_factory=list)
    first: str = ""
    over_white: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"unreadable": self.unreadable, "first": self.first, "over_white": self.over_white}

    def sentences(self) -> Iterator[str]:
        if count := len(self.unreadable):
            what = "1 file was" if count == 1 else f"{count} files were"
            yield (
                f"{what} left out because no image can be read from {'it' if count == 1 else 'them'}: {self.first}"
                + ("" if count == 1 else f", and {count - 1} more")
            )
        if count := self.over_white:
            yield f"{count} {'image is' if count == 1 else 'images are'} transparent in part and put on white"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files become pixels, and where these are stored.

    Attributes:
        size: height and width; images are resized to the shorter side and cropped to the centre.
        mode: Pillow's mode, with one channel (`L`) or three (`RGB`).
        cache: folder of the decoded pixels; None decodes to memory every time.
        on_error: refuse a file that is not an image, or leave it out; None refuses it where there is no such option.
    """

    size: int
    mode: Literal["L", "RGB"]
    cache: Path | None
    on_error: OnError | None = None

    def read(self, samples: Samples, size: int | None, option: str, places: Sequence[int] | None = None) -> Decoded:
        """Pixels, labels and files of a split; files that are not drawn are not read.

        Args:
            samples: all samples.
            size: how many of them the split keeps; None keeps all.
            option: the option of the recipe that sets it, for errors.
            places: of the samples in the source's own order; by default these are all of it.
        Raises:
            DataError: if there are fewer samples, a file is not an image and is not to be left out, or the cache cannot
                be written.
        """
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        kept = positions(labels, size, option)
        pixels, account = self._pixels([Path(samples[i][0]) for i in kept.tolist()])
        readable = torch.ones(len(kept), dtype=torch.bool)
        readable[torch.tensor(account.unreadable, dtype=torch.int64)] = False
        kept = kept[readable]
        origin = Origin(
            kept if places is None else torch.tensor(places)[kept], tuple(samples[i][0] for i in kept.tolist())
        )
        return Decoded((torch.from_numpy(pixels), labels[kept], origin), tuple(account.sentences()))

    def _pixels(self, paths: Sequence[Path]) -> tuple[NDArray[np.uint8], _Account]:
        shape, account = (len(self.mode), self.size, self.size), _Account()
        images = self._images(paths, account)
        if self.cache is not None:
            file = self.cache / f"{self._digest(paths)}.npy"
            pixels, told = kept_pixels(file, shape, images, account.as_json)
            return pixels, _Account(**told)
        check_fits(len(paths) * math.prod(shape), "the images", "lower `size`, take fewer images, or name a `cache`")
        pixels, count = np.empty((len(paths), *shape), np.uint8), 0
        for image in images:
            pixels[count] = image
            count += 1
        return pixels[:count], account

    def _images(self, paths: Sequence[Path], account: _Account) -> Iterator[NDArray[np.uint8]]:
        for position, path in enumerate(paths):
            try:
                opened = read_image(path, self.mode)
            except DataError as error:
                if self.on_error != "skip":
                    advice = ", or leave such files out with `on_error: skip`" if self.on_error else ""
                    raise DataError(f"{error}{advice}") from error
                account.unreadable.append(position)
                account.first = account.first or str(error)
                continue
            account.over_white += opened.over_white
            yield to_pixels(fitted(opened.image, self.size, self.size))

    def _digest(self, paths: Sequence[Path]) -> str:
        """A digest of the name, size and time of every file, and of all that affects decoding."""
        digest = hashlib.sha256(repr((2, self.size, self.mode, self.on_error, PIL.__version__)).encode())
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                if self.on_error != "skip":
                    raise unreadable(path, error) from error
                digest.update(repr((str(path.absolute()), None)).encode())
                continue
            digest.update(repr((str(path.absolute()), status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()[:32]

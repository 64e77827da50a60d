"""Your own images and labels as arrays, in one .npz file or in a folder of .npy files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ddm_datasets.archive import read_arrays
from ddm_datasets.sizes import positions
from ddm_framework import DataError
from ddm_framework.data import DataSplits, Origin

NEEDED = ("x_train", "y_train", "x_test", "y_test")
MOST_CHANNELS = 4
"""An axis of at most this length (grey, colour, colour and transparency) holds channels, a longer one pixels."""
BLOCK = 1024
"""Number of images that are checked together."""


def load(
    *,
    path: Path | None = None,
    layout: Literal["auto", "nhwc", "nchw"] = "auto",
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> DataSplits:
    """Arrays `x_train`, `y_train`, `x_test`, `y_test` and, optionally, `class_names`.

    Images are uint8 from 0 to 255 or floats from 0 to 1, of shape (N, H, W), (N, H, W, C) or (N, C, H, W). Labels
    are integers (N,) that count from 0. Class names are strings, one per class.

    In a folder the arrays are files, `x_train.npy` and so on, as `numpy.save` writes them. Images of uint8 are then
    read from disk as needed, so that they need not fit in memory, unless one of the sizes below is given.

    Args:
        path: the .npz file, as `numpy.savez` writes it, or the folder.
        layout: which of four axes holds the channels; `auto` finds it if it is the only short one.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
    Raises:
        DataError: if the path or an array in it is not as described, or if there are fewer images than asked for.
    """
    if path is None:
        raise DataError(
            f"the data set npz needs `path:`, an .npz file with the arrays {', '.join(NEEDED)},"
            " or a folder of them as .npy files"
        )
    arrays = read_arrays(path, NEEDED, optional=("class_names",))
    train = _split(arrays, "train", layout, train_size, path)
    test = _split(arrays, "test", layout, test_size, path)
    return DataSplits.from_pixels(train, test, class_names=_class_names(arrays, path), validation=validation)


def to_pixels(images: NDArray[Any], layout: str, where: str) -> Tensor:
    """Images as stored -> pixels (N, C, H, W), uint8 unchanged or float32; memory-mapped uint8 is only viewed.

    Raises:
        DataError: starting with `where`, if their dtype, shape or values are not those that `load` describes.
    """
    if images.ndim not in (3, 4):
        raise DataError(f"{where} has shape {images.shape}; images are (N, H, W), (N, H, W, C) or (N, C, H, W)")
    pixels = torch.from_numpy(images if images.dtype == np.uint8 else images.astype(np.float32, copy=False))
    if images.ndim == 3:
        return pixels[:, None]
    if _channel_axis(images.shape, layout, where) == 1:
        return pixels
    turned = pixels.permute(0, 3, 1, 2)
    stays_on_disk = isinstance(images, np.memmap) and images.dtype == np.uint8
    return turned if stays_on_disk else turned.contiguous()


def check_values(images: NDArray[Any], where: str) -> None:
    """Refuse images that are neither uint8 nor floats in [0, 1].

    Raises:
        DataError: starting with `where`.
    """
    if images.dtype == np.uint8 or images.size == 0:
        return
    if images.dtype.kind != "f":
        raise DataError(f"{where} is {images.dtype}; store uint8 from 0 to 255, or floats from 0 to 1")
    broken = np.concatenate([~np.isfinite(block).reshape(len(block), -1).all(1) for block in _blocks(images)])
    if broken.any():
        raise DataError(
            f"{where} holds NaN or infinity in {broken.sum()} of {len(images)} images, the first at position"
            f" {broken.argmax()}; remove or repair them"
        )
    low = min(block.min() for block in _blocks(images))
    high = max(block.max() for block in _blocks(images))
    if low < 0 or high > 1:
        raise DataError(f"{where} runs from {low:g} to {high:g}; floats must lie in [0, 1], so rescale or store uint8")


def _blocks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (images[low : low + BLOCK] for low in range(0, len(images), BLOCK))


def to_labels(labels: NDArray[Any], where: str) -> Tensor:
    """Labels as stored -> int64 (N,).

    Raises:
        DataError: starting with `where`, if they are not integers (N,), at least one and none negative.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where} is {labels.dtype}; labels are integers that count from 0")
    if labels.ndim != 1 or len(labels) == 0:
        raise DataError(f"{where} has shape {labels.shape}; labels are (N,), one per image")
    if labels.min() < 0:
        raise DataError(f"{where} holds the label {labels.min()}; labels count from 0")
    return torch.from_numpy(labels.astype(np.int64))


def _split(
    arrays: dict[str, NDArray[Any]], name: str, layout: str, size: int | None, path: Path
) -> tuple[Tensor, Tensor, Origin]:
    images, labels = arrays[f"x_{name}"], to_labels(arrays[f"y_{name}"], f"{path}: y_{name}")
    if images.ndim == 0 or len(images) != len(labels):
        raise DataError(f"{path}: x_{name} has shape {images.shape}, but y_{name} has {len(labels)} labels")
    if 0 in images.shape[1:]:
        raise DataError(f"{path}: x_{name} has shape {images.shape}; an image has at least one pixel and one channel")
    check_values(images, f"{path}: x_{name}")
    kept = positions(labels, size, f"{name}_size")
    if size is not None:
        images, labels = images[kept.numpy()], labels[kept]
    return to_pixels(images, layout, f"{path}: x_{name}"), labels, Origin(kept)


def _channel_axis(shape: tuple[int, ...], layout: str, where: str) -> int:
    if layout != "auto":
        return {"nhwc": 3, "nchw": 1}[layout]
    short = [axis for axis in (1, 3) if shape[axis] <= MOST_CHANNELS]
    if len(short) != 1:
        raise DataError(
            f"{where} has shape {shape}, in which axis 1 and axis 3 {'both' if short else 'neither'}"
            f" look like channels (at most {MOST_CHANNELS}); set `layout: nhwc` or `layout: nchw`"
        )
    return short[0]


def _class_names(arrays: dict[str, NDArray[Any]], path: Path) -> tuple[str, ...]:
    """One name per class: those of the file, or else the numbers.

    Raises:
        DataError: if the names are not strings (classes,), or a class has no training image.
    """
    present = np.unique(arrays["y_train"])
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind not in "US"):
        raise DataError(f"{path}: class_names is {names.dtype} of shape {names.shape}; store strings (classes,)")
    count = int(present[-1]) + 1 if names is None else len(names)
    if len(present) < count:
        gap = next((i for i, label in enumerate(present.tolist()) if label != i), len(present))
        raise DataError(
            f"{path}: y_train has {len(present)} of {count} classes, the first without an image is {gap};"
            " labels count from 0 without gaps"
        )
    return tuple(map(str, range(count))) if names is None else _as_text(names, path)


def _as_text(names: NDArray[Any], path: Path) -> tuple[str, ...]:
    """Names as text that can be written again.

    Raises:
        DataError: if one is not UTF-8, or holds what is no character.
    """
    try:
        told = (np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names).tolist()
        for each in told:
            each.encode()
    except (UnicodeError, ValueError, SystemError) as error:  # numpy lets Python fail over points beyond Unicode
        raise DataError(f"{path}: class_names holds what is no UTF-8 text ({error}); save with dtype=str") from None
    return tuple(told)

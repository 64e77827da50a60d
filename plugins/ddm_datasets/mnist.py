"""MNIST in torchvision's layout, read in place, compressed or extracted; nothing is written."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torchvision.datasets import MNIST

from ddm_datasets.published import Published, verify
from ddm_datasets.sizes import drawn
from ddm_framework import DataError, is_file, read_bytes
from ddm_framework.data import DataSplits, Origin

MOST = 100_000_000
"""Bytes that an extracted file may have; the largest published one has 47 million."""
UINT8 = 0x0800
"""An idx file starts with its type (this one) plus its number of dimensions, as a big-endian 32-bit integer."""


def load(
    *,
    root: Path = Path("data"),
    download: bool = False,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> DataSplits:
    """60,000 training and 10,000 test images of 28x28 pixels, ten classes, images (N, 1, 28, 28).

    Args:
        root: the folder that holds `MNIST/raw`, as for torchvision.
        download: fetch the files if they are missing.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
    Raises:
        DataError: if files are missing, damaged or cannot be fetched, or if there are fewer images than asked for.
    Source: Sec. 4.1; LeCun et al. 1998.
    """
    places = tuple(root / "MNIST" / "raw" / name for name, _ in MNIST.resources)
    published = Published("MNIST", MNIST.mirrors[0], root, places)
    missing = [path.name for path in places if not is_file(path) and not is_file(_extracted(path))]
    published.provide(missing, lambda: MNIST(root, download=True), download=download)
    return DataSplits.from_pixels(
        _split(root, "train", train_size, "train_size"),
        _split(root, "t10k", test_size, "test_size"),
        class_names=tuple("0123456789"),
        validation=validation,
    )


def read_idx(path: Path, md5: str, num_dimensions: int) -> Tensor:
    """The array of an idx file, uint8, of the shape that its header gives.

    Args:
        path: the compressed file; if there is none, the extracted one beside it is read.
        md5: checksum of the compressed file, as torchvision publishes it.
        num_dimensions: 3 of images, 1 of labels.
    Raises:
        DataError: if the checksum or the header differs, or the file is too short or too long.
    """
    compressed = is_file(path)
    if compressed:
        verify(path, md5)
    path = path if compressed else _extracted(path)
    content = gzip.decompress(read_bytes(path)) if compressed else read_bytes(path, MOST)
    start = 4 * (1 + num_dimensions)
    magic, *shape = (int.from_bytes(content[at : at + 4], "big") for at in range(0, start, 4))
    if magic != UINT8 + num_dimensions or len(content) != start + math.prod(shape):
        raise DataError(f"{path} is cut short, or not the idx file that its name says; remove it and fetch it anew")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)


def _split(root: Path, prefix: str, size: int | None, option: str) -> tuple[Tensor, Tensor, Origin]:
    """Pixels uint8 (N, 1, 28, 28), labels int64 (N,), and their places in the files."""
    raw, md5 = root / "MNIST" / "raw", dict(MNIST.resources)
    images, labels = (
        read_idx(raw / name, md5[name], num_dimensions)
        for name, num_dimensions in ((f"{prefix}-images-idx3-ubyte.gz", 3), (f"{prefix}-labels-idx1-ubyte.gz", 1))
    )
    if len(images) != len(labels):
        raise DataError(f"{raw}: {len(images)} images but {len(labels)} labels in the files {prefix}-*")
    return drawn(images[:, None], labels.long(), size, option)


def _extracted(path: Path) -> Path:
    return path.with_suffix("")

"""CIFAR-10 and CIFAR-100 in torchvision's layout; an archive is read without being extracted."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from ddm_datasets.plain_pickle import read_plain_pickle
from ddm_datasets.published import Published, damaged, download_file, verify
from ddm_datasets.sizes import drawn
from ddm_framework import is_file, read_bytes
from ddm_framework.data import DataSplits, Origin

MOST = 300_000_000
"""Bytes that a file may have; the largest published one has 155 million."""


def cifar10(
    *,
    root: Path = Path("data"),
    download: bool = False,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> DataSplits:
    """50,000 training and 10,000 test photographs of 32x32 pixels, ten classes, images (N, 3, 32, 32).

    Args:
        root: the folder that holds `cifar-10-batches-py` or `cifar-10-python.tar.gz`, as for torchvision.
        download: fetch the archive (170 MB) if neither exists.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
    Raises:
        DataError: if files are missing, damaged or cannot be fetched, or if there are fewer images than asked for.
    Source: Sec. 4.1; Krizhevsky 2009.
    """
    files = _read_files(CIFAR10, "CIFAR-10", root, download)
    train = _split(files, CIFAR10.train_list, "labels", train_size, "train_size")
    test = _split(files, CIFAR10.test_list, "labels", test_size, "test_size")
    names = tuple(files[CIFAR10.meta["filename"]]["label_names"])
    return DataSplits.from_pixels(train, test, class_names=names, validation=validation)


def cifar100(
    *,
    root: Path = Path("data"),
    download: bool = False,
    labels: Literal["fine", "coarse"] = "fine",
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> DataSplits:
    """50,000 training and 10,000 test photographs of 32x32 pixels, 100 classes, images (N, 3, 32, 32).

    Args:
        root: the folder that holds `cifar-100-python` or `cifar-100-python.tar.gz`, as for torchvision.
        download: fetch the archive (169 MB) if neither exists.
        labels: `fine`, the 100 classes, or `coarse`, their 20 superclasses.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
    Raises:
        DataError: if files are missing, damaged or cannot be fetched, or if there are fewer images than asked for.
    Source: Sec. 4.1; Krizhevsky 2009.
    """
    files = _read_files(CIFAR100, "CIFAR-100", root, download)
    train = _split(files, CIFAR100.train_list, f"{labels}_labels", train_size, "train_size")
    test = _split(files, CIFAR100.test_list, f"{labels}_labels", test_size, "test_size")
    names = tuple(files[CIFAR100.meta["filename"]][f"{labels}_label_names"])
    return DataSplits.from_pixels(train, test, class_names=names, validation=validation)


def _read_files(dataset: type[CIFAR10], name: str, root: Path, download: bool) -> dict[str, dict[str, Any]]:
    """The contents of each published file, by name: from the folder if it is complete, or else from the archive."""
    folder, archive, md5 = root / dataset.base_folder, root / dataset.filename, _md5(dataset)
    places = tuple(folder / file for file in md5)
    missing = [path.name for path in places if not is_file(path)]
    if missing and not is_file(archive):
        published = Published(name, dataset.url, root, places, archive)
        fetch = partial(download_file, dataset.url, archive, dataset.tgz_md5)
        published.provide(missing, fetch, download=download)
    contents = _of_archive(archive, dataset) if missing else ((path, read_bytes(path, MOST)) for path in places)
    return {path.name: _checked(path, content, md5[path.name]) for path, content in contents}


def _checked(path: Path, content: bytes, md5: str) -> dict[str, Any]:
    """A file's dictionary, read only if its content is the published one."""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise damaged(path, md5)
    return read_plain_pickle(content, str(path))


def _of_archive(archive: Path, dataset: type[CIFAR10]) -> Iterator[tuple[Path, bytes]]:
    """Path (below that of the archive) and content of each published file in an archive."""
    verify(archive, dataset.tgz_md5)
    wanted = {f"{dataset.base_folder}/{name}" for name in _md5(dataset)}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if member.isfile() and name in wanted else None
            if file is not None:
                yield archive / name, file.read()


def _md5(dataset: type[CIFAR10]) -> dict[str, str]:
    """Checksums of the published files, by name."""
    meta = (dataset.meta["filename"], dataset.meta["md5"])
    return dict((*dataset.train_list, *dataset.test_list, meta))


def _split(
    files: dict[str, dict[str, Any]], names: list[list[str]], key: str, size: int | None, option: str
) -> tuple[Tensor, Tensor, Origin]:
    """Pixels uint8 (N, 3, 32, 32), labels int64 (N,), and their places in the files."""
    parts = [files[name] for name, _ in names]
    pixels = torch.from_numpy(np.concatenate([part["data"] for part in parts])).reshape(-1, 3, 32, 32)
    labels = torch.tensor([label for part in parts for label in part[key]])
    return drawn(pixels, labels, size, option)

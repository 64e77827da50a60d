"""Decoded pixels on disk: written once, checked every time, and memory-mapped."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddm_framework import DataError, is_file
from ddm_framework.runs import PARTIAL

CHECKSUM_BYTES = hashlib.sha256().digest_size
"""The file is an .npy file followed by its SHA-256 sum, which readers of .npy ignore."""


def kept_pixels(path: Path, shape: tuple[int, ...], images: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The array of an .npy file, memory-mapped copy-on-write; the file is made first if it is missing or damaged.

    Args:
        path: the file; its name must identify everything that its content depends on.
        shape: (N, C, H, W).
        images: N arrays (C, H, W); read only to make the file, one at a time.
    Raises:
        DataError: if the file cannot be written or read.
    """
    try:
        if not _is_whole(path):
            _write(path, shape, images)
        return np.lib.format.open_memmap(path, mode="c")
    except OSError as error:
        raise DataError(
            f"`cache: {path.parent}`: decoded images cannot be kept there: {error}; name another folder, or leave"
            " `cache` out to hold them in memory"
        ) from error


def _is_whole(path: Path) -> bool:
    if not is_file(path) or path.stat().st_size <= CHECKSUM_BYTES:
        return False
    content = np.memmap(path, np.uint8, mode="r")
    return hashlib.sha256(content[:-CHECKSUM_BYTES].data).digest() == content[-CHECKSUM_BYTES:].tobytes()


def _write(path: Path, shape: tuple[int, ...], images: Iterable[NDArray[np.uint8]]) -> None:
    """Write image by image to a temporary name; with a memory map, a full disk would kill the process."""
    header, checksum = io.BytesIO(), hashlib.sha256()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            for block in chain([header.getvalue()], (image.tobytes() for image in images)):
                checksum.update(block)
                file.write(block)
            file.write(checksum.digest())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

"""Decoded pixels on disk: written once, checked every time, and memory-mapped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddm_framework import DataError, is_file
from ddm_framework.runs import PARTIAL

CHECKSUM_BYTES = hashlib.sha256().digest_size
LENGTH_BYTES = 8
"""The file is an .npy file, then JSON about it and its length, then the SHA-256 sum; readers of .npy ignore these."""
OWN_FILE = re.compile(r"[0-9a-f]{32}\.npy")
"""Names of the files of a cache; unfinished ones start with a dot, as what a file manager leaves anywhere."""


def kept_pixels(
    path: Path, shape: tuple[int, ...], images: Iterable[NDArray[np.uint8]], told: Callable[[], dict[str, Any]] = dict
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The array of an .npy file, memory-mapped copy-on-write; the file is made first if it is missing or damaged.

    Args:
        path: the file; its name must identify everything that its content depends on.
        shape: (C, H, W) of one image.
        images: arrays (C, H, W); read only to make the file, one at a time.
        told: what there is to say of the images, as JSON; asked after the last of them was read, and kept with them.
    Returns:
        The pixels (N, C, H, W), and what was told when they were decoded.
    Raises:
        DataError: if the file cannot be written or read.
    """
    try:
        if not _is_whole(path):
            _write(path, shape, images, told)
        return np.lib.format.open_memmap(path, mode="c"), _told(path)
    except OSError as error:
        raise DataError(
            f"`cache: {path.parent}`: decoded images cannot be kept there: {error}; name another folder, or leave"
            " `cache` out to hold them in memory"
        ) from error


def is_cache(folder: Path) -> bool:
    """Whether a folder holds decoded pixels and nothing else, so that it is no class of images."""
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:  # a class with a million images is known by its first
            if entry.name.startswith("."):
                continue
            if not OWN_FILE.fullmatch(entry.name):
                return False
            found = True
    return found


def _is_whole(path: Path) -> bool:
    if not is_file(path) or path.stat().st_size <= CHECKSUM_BYTES + LENGTH_BYTES:
        return False
    content = np.memmap(path, np.uint8, mode="r")
    return hashlib.sha256(content[:-CHECKSUM_BYTES].data).digest() == content[-CHECKSUM_BYTES:].tobytes()


def _told(path: Path) -> dict[str, Any]:
    """What was told when the file was made; the file is whole."""
    with path.open("rb") as file:
        file.seek(-CHECKSUM_BYTES - LENGTH_BYTES, os.SEEK_END)
        length = int.from_bytes(file.read(LENGTH_BYTES), "big")
        file.seek(-CHECKSUM_BYTES - LENGTH_BYTES - length, os.SEEK_END)
        found: dict[str, Any] = json.loads(file.read(length))
        return found


def _write(
    path: Path, shape: tuple[int, ...], images: Iterable[NDArray[np.uint8]], told: Callable[[], dict[str, Any]]
) -> None:
    """Write image by image to a temporary name; with a memory map, a full disk would kill the process."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            file.write(_header(0, shape))
            count = 0
            for count, image in enumerate(images, 1):  # noqa: B007 - the last one is their number
                file.write(image.tobytes())
            told_bytes = json.dumps(told()).encode()
            file.write(told_bytes + len(told_bytes).to_bytes(LENGTH_BYTES, "big"))
            file.seek(0)
            file.write(_header(count, shape))  # as long as before: it leaves room for any number
            file.flush()
            content = np.memmap(partial, np.uint8, mode="r")
            file.seek(0, os.SEEK_END)
            file.write(hashlib.sha256(content.data).digest())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _header(count: int, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return header.getvalue()

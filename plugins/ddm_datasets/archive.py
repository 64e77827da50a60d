"""Read arrays from untrusted files; nothing in them is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddm_framework import DataError, FileError, check_file, is_folder


def read_arrays(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file, by name, or of a folder of .npy files, which are memory-mapped copy-on-write.

    Args:
        path: the file or folder.
        needed: arrays that must exist.
        optional: arrays that are read if they exist.
    Raises:
        DataError: if the path is missing, damaged or of another kind, lacks an array, or holds Python objects.
    """
    if is_folder(path):
        stored = [file.stem for file in sorted(path.glob("*.npy"))]
        return {name: _read(partial(_map, path), name, path) for name in _choose(path, stored, needed, optional)}
    try:
        check_file(path)
    except FileError as error:
        told = "there is no such file or folder" if error.is_missing else error.reason
        raise DataError(f"{path}: {told}") from None
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz archive, or is cut short; write it with numpy.savez")
    with np.load(path, allow_pickle=False) as archive:
        return {name: _read(archive.__getitem__, name, path) for name in _choose(path, archive.files, needed, optional)}


def _map(folder: Path, name: str) -> NDArray[Any]:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="c")


def _choose(path: Path, stored: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> list[str]:
    absent = [name for name in needed if name not in stored]
    if absent:
        raise DataError(
            f"{path} lacks {', '.join(absent)}: found {', '.join(stored) or 'nothing'}, needed {', '.join(needed)}"
        )
    return [name for name in (*needed, *optional) if name in stored]


def _read(read: Callable[[str], object], name: str, path: Path) -> NDArray[Any]:
    try:
        array = read(name)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path}: {name} holds Python objects, which could run code when read;"
                " save numbers, and names as an array of strings (dtype=str)"
            ) from error
        raise DataError(f"{path}: {name} cannot be read, the file is damaged: {error}") from error
    if not isinstance(array, np.ndarray):  # numpy returns files that are not .npy as bytes
        raise DataError(f"{path}: {name} is not an array; write the file with numpy.savez")
    return array

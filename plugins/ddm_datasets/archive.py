"""Reading arrays from an .npz file that nobody vouches for: nothing in it is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddm_framework.errors import DataError


def read_arrays(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """These arrays of the file, by name; the optional ones where they are there.

    Raises:
        DataError: if the file is missing, damaged or no .npz archive, lacks an array, or holds one of Python objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz archive, or is cut short; write it with numpy.savez")
    with np.load(path, allow_pickle=False) as archive:
        found = list(archive.files)
        absent = [name for name in needed if name not in found]
        if absent:
            raise DataError(
                f"{path} lacks {', '.join(absent)}: found {', '.join(found) or 'nothing'}, needed {', '.join(needed)}"
            )
        return {name: _read(archive, name, path) for name in (*needed, *optional) if name in found}


def _read(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> NDArray[Any]:
    try:
        array = archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path}: {name} holds Python objects, which could run code when read;"
                " save numbers, and names as an array of strings (dtype=str)"
            ) from error
        raise DataError(f"{path}: {name} cannot be read, the file is damaged: {error}") from error
    if not isinstance(array, np.ndarray):  # numpy hands over what is no .npy file as bytes
        raise DataError(f"{path}: {name} is not an array; write the file with numpy.savez")
    return array

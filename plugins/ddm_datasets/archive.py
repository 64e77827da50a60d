"""Read arrays from untrusted files: nothing in them is ever unpickled, or allocated before it is known to be there."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from ddm_framework import DataError, DDMError, FileError, check_file, check_fits, is_folder

MOST_MEMBERS = 10_000
"""Arrays in one archive; ddm reads five."""
MOST_HEADER = 10_000
"""Bytes of the header of an array; numpy's own limit."""
BEST_RATIO = 1032
"""By which deflate compresses at most."""


def read_arrays(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file, by name, or of a folder of .npy files, which are memory-mapped copy-on-write.

    Args:
        path: the file or folder.
        needed: arrays that must exist.
        optional: arrays that are read if they exist.
    Raises:
        DataError: if the path is missing, damaged or of another kind, lacks an array, or holds Python objects.
        DDMError: if an array does not fit into the memory.
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
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory can raise anything
        raise DataError(f"{path} cannot be read, the file is damaged: {error}") from error
    with archive:
        members = archive.namelist()
        if len(members) > MOST_MEMBERS:
            raise DataError(f"{path} holds {len(members):,} members; ddm reads at most {MOST_MEMBERS:,}")
        stored = [name.removesuffix(".npy") for name in members]
        chosen = _choose(path, stored, needed, optional)
        if twice := [name for name in chosen if stored.count(name) > 1]:
            raise DataError(
                f"{path} holds {twice[0]} twice, and which is meant is not known; write it with numpy.savez"
            )
        return {name: _read(partial(_unpack, archive), name, path) for name in chosen}


def _map(folder: Path, name: str) -> NDArray[Any]:
    """An array of a folder; what its header claims must be in the file."""
    file = folder / f"{name}.npy"
    size = check_file(file)
    with file.open("rb") as content:
        try:
            claimed = _claimed(content)
        except _NoArrayError:
            raise _FaultError("it does not begin as an .npy file does") from None
    if claimed > size:
        raise _FaultError(f"its header claims {claimed:,} bytes, and the file has {size:,}")
    return npy.open_memmap(file, mode="c")


def _unpack(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of an archive; what its header and the directory claim must agree, and be possible."""
    listed = archive.namelist()
    info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in listed else name)
    if info.flag_bits & 1:
        raise _FaultError("it is encrypted; write the file with numpy.savez")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _FaultError(f"it is compressed by a method ({info.compress_type}) that numpy does not write")
    possible = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else BEST_RATIO)
    if info.file_size > possible or info.compress_size > Path(str(archive.filename)).stat().st_size:
        raise _FaultError(f"it claims {info.file_size:,} bytes, more than the file can hold")
    with archive.open(info) as content:
        claimed = _claimed(content)
    if claimed != info.file_size:
        raise _FaultError(f"its header claims {claimed:,} bytes, and it has {info.file_size:,}")
    check_fits(claimed, f"{archive.filename}: {name}", "save fewer or smaller images, or a folder of .npy files")
    with archive.open(info) as content:
        array = npy.read_array(content, allow_pickle=False, max_header_size=MOST_HEADER)
        content.read()  # to the end, where the checksum is compared
    return array


def _claimed(content: IO[bytes]) -> int:
    """Bytes of an .npy file by its header: of the header and of the values."""
    magic = content.read(npy.MAGIC_LEN)
    if magic[: len(npy.MAGIC_PREFIX)] != npy.MAGIC_PREFIX:
        raise _NoArrayError
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = (magic[-2], magic[-1])
    if version not in readers:
        raise _FaultError(f"it is an .npy file of version {version[0]}.{version[1]}, which holds no plain numbers")
    counted = _Counted(content)
    shape, _, dtype = readers[version](counted, max_header_size=MOST_HEADER)
    if dtype.hasobject:
        raise _ObjectsError
    if any(not isinstance(each, int) or each < 0 for each in shape):
        raise _FaultError(f"its header claims the shape {shape}")
    return len(magic) + counted.count + math.prod(shape) * dtype.itemsize


class _Counted:
    """A file that counts what is read from it."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content, self.count = content, 0

    def read(self, size: int) -> bytes:
        found = self._content.read(size)
        self.count += len(found)
        return found


class _FaultError(ValueError):
    """What is wrong with an array, in words."""


class _NoArrayError(ValueError):
    """Something else than an array."""


class _ObjectsError(ValueError):
    """Python objects."""


def _choose(path: Path, stored: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> list[str]:
    absent = [name for name in needed if name not in stored]
    if absent:
        raise DataError(
            f"{path} lacks {', '.join(absent)}: found {', '.join(stored[:20]) or 'nothing'}, needed {', '.join(needed)}"
        )
    return [name for name in (*needed, *optional) if name in stored]


def _read(read: Callable[[str], NDArray[Any]], name: str, path: Path) -> NDArray[Any]:
    try:
        return read(name)
    except FileError as error:
        raise DataError(f"{path}: {name} cannot be read: {error.reason}") from error
    except DDMError:
        raise
    except _ObjectsError as error:
        raise DataError(
            f"{path}: {name} holds Python objects, which could run code when read;"
            " save numbers, and names as an array of strings (dtype=str)"
        ) from error
    except _NoArrayError as error:
        raise DataError(f"{path}: {name} is not an array; write the file with numpy.savez") from error
    except Exception as error:  # for a damaged file, zipfile, zlib, numpy and Python's own parser raise anything
        text = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: {name} cannot be read, the file is damaged: {text}") from error

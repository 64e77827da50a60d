"""Extract a zip archive: one folder, complete or not at all, and nothing outside of it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ddm_framework import DataError, DDMError, check_file, shown

MOST_PARTS, MOST_BYTES = 20, 255
"""Folders that a path may lead through, and bytes of each name: the least that file systems take."""
MOST_MEMBERS = 1_000_000
"""Files in one archive; TinyImageNet has 120,000."""


def extract_folder(archive: Path, name: str) -> None:
    """Extract the folder `name`, the only allowed content of the archive, beside the archive.

    Raises:
        DataError: before anything is written, if the archive holds anything else or a link; or if it is damaged or
            the disk cannot be written.
    """
    try:
        check_file(archive)
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            for member in members:
                _refuse_unsafe(member, name, archive)
            _refuse_too_much(members, archive)
            with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{name}-") as temporary:
                content.extractall(temporary)
                (Path(temporary) / name).rename(archive.parent / name)
    except DDMError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{archive} cannot be extracted to {archive.parent / name}: {error}") from error


def _refuse_too_much(members: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    """Refuse what could not be extracted in full, before anything is."""
    if len(members) > MOST_MEMBERS:
        raise DataError(f"{archive} holds {len(members):,} files; ddm extracts at most {MOST_MEMBERS:,}")
    if len({member.filename.rstrip("/") for member in members}) < len(members):
        raise DataError(f"{archive} holds a file twice; nothing was extracted")
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(archive.parent).free
    if needed > free:
        told = f"{needed / 1e9:.3g} GB, and {free / 1e9:.3g} are free"
        raise DataError(f"{archive} would need {told} in {archive.parent}")


def _refuse_unsafe(member: zipfile.ZipInfo, name: str, archive: Path) -> None:
    path = PurePosixPath(member.filename)
    if path.parts[:1] != (name,) or ".." in path.parts or "\\" in member.filename:
        raise DataError(f"{archive} holds {member.filename!r}, which lies outside of {name}/; nothing was extracted")
    if len(path.parts) > MOST_PARTS or max(map(len, map(os.fsencode, path.parts))) > MOST_BYTES:
        told = f"a path of {len(path.parts)} parts, {shown(member.filename)}"
        raise DataError(f"{archive} holds {told}; nothing was extracted")
    if member.flag_bits & 1:
        raise DataError(f"{archive} is encrypted ({member.filename!r}); nothing was extracted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{archive}: {member.filename!r} is compressed by an unknown method; nothing was extracted")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{archive} holds the link {member.filename!r}; nothing was extracted")

"""Extract a zip archive: one folder, complete or not at all, and nothing outside of it."""

from __future__ import annotations

import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from ddm_framework import DataError


def extract_folder(archive: Path, name: str) -> None:
    """Extract the folder `name`, the only allowed content of the archive, beside the archive.

    Raises:
        DataError: before anything is written, if the archive holds anything else or a link; or if it is damaged or
            the disk cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                _refuse_unsafe(member, name, archive)
            with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{name}-") as temporary:
                content.extractall(temporary)
                (Path(temporary) / name).rename(archive.parent / name)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} cannot be extracted to {archive.parent / name}: {error}") from error


def _refuse_unsafe(member: zipfile.ZipInfo, name: str, archive: Path) -> None:
    path = PurePosixPath(member.filename)
    if path.parts[:1] != (name,) or ".." in path.parts or "\\" in member.filename:
        raise DataError(f"{archive} holds {member.filename!r}, which lies outside of {name}/; nothing was extracted")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{archive} holds the link {member.filename!r}; nothing was extracted")

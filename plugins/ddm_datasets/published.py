"""Data sets that others publish: where their files belong, how they come there, and how to tell that they are whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets.utils import check_integrity, download_url

from ddm_framework import DataError
from ddm_framework.runs import PARTIAL


@dataclass(frozen=True, slots=True)
class Published:
    """A data set as its authors offer it.

    Attributes:
        name: for messages.
        origin: the address that its files come from.
        root: the folder that they are looked for in.
        places: where each file belongs.
        archive: where the archive of them all may lie in their stead.
    """

    name: str
    origin: str
    root: Path
    places: tuple[Path, ...]
    archive: Path | None = None

    def provide(self, missing: Sequence[str], fetch: Callable[[], object], *, download: bool) -> None:
        """Fetch the files if some are missing.

        Args:
            missing: names of what is not there.
            fetch: downloads it all.
            download: whether that is allowed.
        Raises:
            DataError: if it is not, or if it fails: with the reason, and how to place the files by hand.
        """
        if missing and not download:
            raise DataError(
                f"{self.name}: no {', '.join(missing)} under {self.root}; set `download: true`, or {self.by_hand()}"
            )
        try:
            if missing:
                fetch()
        except (OSError, RuntimeError, HTTPException) as error:
            raise DataError(f"{self.name} could not be downloaded: {str(error).strip()}\n{self.by_hand()}") from error

    def by_hand(self) -> str:
        """What to do where nothing can be downloaded: every place a line."""
        text = f"place these files by hand (from {self.origin} or any mirror):{_lines(self.places)}"
        return text if self.archive is None else f"{text}\nor the archive itself, unopened:{_lines([self.archive])}"


def download_file(url: str, path: Path, md5: str) -> None:
    """Fetch one file with a progress bar, to a temporary name first: under its own name it is always whole.

    Raises:
        OSError, RuntimeError: if the address does not answer, or with something else.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        download_url(url, path.parent, partial.name, md5)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def verify(path: Path, md5: str) -> None:
    """Refuse a file that is not the published one.

    Raises:
        DataError: if its checksum is another.
    """
    if not check_integrity(path, md5):
        raise damaged(path, md5)


def damaged(path: Path | str, md5: str) -> DataError:
    """The error of a file with another checksum."""
    return DataError(f"{path} is damaged or another file: its md5 sum is not {md5}; remove it and fetch it anew")


def _lines(paths: Sequence[Path]) -> str:
    return "".join(f"\n    {path}" for path in paths)

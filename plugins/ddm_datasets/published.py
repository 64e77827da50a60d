"""Published data sets: where their files belong, how they are fetched, and how they are verified."""

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
    """A data set as its authors publish it.

    Attributes:
        name: for messages.
        origin: the address that its files come from.
        root: the folder in which they are looked for.
        places: where each file belongs.
        archive: where the archive of all files may lie instead.
    """

    name: str
    origin: str
    root: Path
    places: tuple[Path, ...]
    archive: Path | None = None

    def provide(self, missing: Sequence[str], fetch: Callable[[], object], *, download: bool) -> None:
        """Fetch the files if some are missing.

        Args:
            missing: names of the missing files.
            fetch: downloads all files.
            download: whether that is allowed.
        Raises:
            DataError: if it is not allowed or fails, with the reason and how to place the files by hand.
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
        """What to do without a download: one line per file."""
        text = f"place these files by hand (from {self.origin} or any mirror):{_lines(self.places)}"
        return text if self.archive is None else f"{text}\nor the archive itself, unopened:{_lines([self.archive])}"


def download_file(url: str, path: Path, md5: str) -> None:
    """Fetch a file with a progress bar, under a temporary name until it is complete.

    Raises:
        OSError, RuntimeError: if the address does not answer, or answers with something else.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        download_url(url, path.parent, partial.name, md5)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def verify(path: Path, md5: str) -> None:
    """Refuse a file that differs from the published one.

    Raises:
        DataError: if its checksum differs.
    """
    if not check_integrity(path, md5):
        raise damaged(path, md5)


def damaged(path: Path | str, md5: str) -> DataError:
    """The error of a file with another checksum."""
    return DataError(f"{path} is damaged or another file: its md5 sum is not {md5}; remove it and fetch it anew")


def _lines(paths: Sequence[Path]) -> str:
    return "".join(f"\n    {path}" for path in paths)

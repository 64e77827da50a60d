"""Folders of image files, one per class: what is taken, and what is left out and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddm_datasets.kept_pixels import is_cache
from ddm_framework import DataError
from ddm_framework.data import SUFFIXES

MOST_NAMED = 5
"""Names or endings that a sentence lists."""


@dataclass(slots=True)
class LeftOut:
    """What of a folder is no sample.

    Attributes:
        hidden: files and folders whose names start with a dot.
        others: files of other formats, by how their names end.
        stray: images that lie beside the folders of the classes and so have no class.
    """

    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)
    stray: int = 0

    def sentence(self, folder: Path) -> str:
        """What was left out, or nothing."""
        endings = ", ".join(f"{name} {count}" for name, count in self.others.most_common(MOST_NAMED))
        told = [
            (self.hidden, "with a name that starts with a dot"),
            (self.others.total(), f"of another format ({endings})"),
            (self.stray, "in no folder of a class"),
        ]
        counted = [f"{count} {what}" for count, what in told if count]
        return f"left out in {folder}: {', '.join(counted)}" if counted else ""


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The files of a folder of classes.

    Attributes:
        classes: names of the folders, in alphabetical order.
        samples: files, each with its class id, class by class in alphabetical order.
        told: what was left out, in a sentence; empty if nothing was.
    """

    classes: tuple[str, ...]
    samples: list[tuple[str, int]]
    told: str


def class_folders(folder: Path, layout: str, cache: Path | None) -> ClassFolders:
    """All images of a folder of classes, those in folders within a class included.

    Whatever starts with a dot is passed over, and so are folders of decoded pixels, which are no class.

    Args:
        folder: the folder.
        layout: how it should look, for errors.
        cache: folder of decoded pixels of this data set.
    Raises:
        DataError: if there are no folders in it, or there is no image in one of them.
    """
    left = LeftOut()
    names = sorted(_folders(folder, left, cache))
    found = {name: list(_images(folder / name, left, cache)) for name in names}
    if empty := [name for name in names if not found[name]]:
        told = left.sentence(folder)
        raise DataError(
            f"{folder} is not a folder of classes: there is no image in {', '.join(empty[:MOST_NAMED])}"
            f"{f' ({told})' if told else ''}\n{layout}"
        )
    if not names:
        raise DataError(f"{folder} is not a folder of classes: there is no folder in it\n{layout}")
    samples = [(file, label) for label, name in enumerate(names) for file in found[name]]
    return ClassFolders(tuple(names), samples, left.sentence(folder))


def beside(root: Path, splits: Sequence[str], cache: Path | None) -> str:
    """What lies beside the folders of the splits, which nothing reads, in a sentence; empty if there is nothing.

    Args:
        root: the folder of both splits.
        splits: names of their folders.
        cache: folder of decoded pixels of this data set.
    """
    left = LeftOut()
    others = sorted(set(_folders(root, left, cache)) - {*splits})
    images = f"{left.stray} image{'s' if left.stray > 1 else ''}" if left.stray else ""
    told = [*([f"the folder {', '.join(others[:MOST_NAMED])}"] if others else []), *([images] if images else [])]
    return f"left out in {root}: {' and '.join(told)} beside {' and '.join(splits)}" if told else ""


def _folders(folder: Path, left: LeftOut, cache: Path | None) -> Iterator[str]:
    for entry in os.scandir(folder):
        if _is_passed_over(entry.path, left, cache):
            continue
        if entry.is_dir():
            yield entry.name
        elif _is_image(entry.name):
            left.stray += 1
        else:
            left.others[_ending(entry.name)] += 1


def _images(folder: Path, left: LeftOut, cache: Path | None) -> Iterator[str]:
    """Paths of the images in a folder and the folders within it, in the order of torchvision's ImageFolder."""
    for within, folders, files in _walked(folder, left, cache):
        del folders
        for name in sorted(files):
            if name.startswith("."):
                left.hidden += 1
            elif _is_image(name):
                yield os.path.join(within, name)  # noqa: PTH118 - a name that is no UTF-8 stays as it is
            else:
                left.others[_ending(name)] += 1


def _walked(folder: Path, left: LeftOut, cache: Path | None) -> list[tuple[str, list[str], list[str]]]:
    """As `os.walk`, through links, but never twice into one folder."""
    seen: set[str] = set()
    found = []
    for within, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(within)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [each for each in folders if not _is_passed_over(os.path.join(within, each), left, cache)]  # noqa: PTH118
        found.append((within, folders, files))
    return sorted(found)


def _is_passed_over(path: str, left: LeftOut, cache: Path | None) -> bool:
    if os.path.basename(path).startswith("."):  # noqa: PTH119
        left.hidden += 1
        return True
    if not Path(path).is_dir():
        return False
    return (cache is not None and cache.exists() and cache.samefile(path)) or is_cache(Path(path))


def _is_image(name: str) -> bool:
    return _ending(name) in SUFFIXES


def _ending(name: str) -> str:
    return Path(name).suffix.lower() or "no ending"

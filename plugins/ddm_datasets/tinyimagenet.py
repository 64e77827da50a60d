"""TinyImageNet in its original layout: the validation images are the test split; the test labels are not public."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ddm_datasets.decoding import Decoding, Samples
from ddm_datasets.published import Published, download_file, verify
from ddm_datasets.unzipping import extract_folder
from ddm_framework import DataError, FileError, is_file, is_folder, read_text
from ddm_framework.data import DataSplits

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
FOLDER = "tiny-imagenet-200"
MOST = 100_000_000
"""Bytes that a text may have; the largest published one has 3 million."""
LAYOUT = ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt")


def load(
    *,
    root: Path = Path("data"),
    download: bool = False,
    size: Annotated[int, Field(ge=1, le=10_000)] = 64,
    classes: Annotated[int, Field(ge=2)] | None = None,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    cache: Path | None = None,
) -> DataSplits:
    """100,000 training and 10,000 test photographs of 64x64 pixels, 200 classes, images (N, 3, size, size).

    A class is named by the first of its words in `words.txt`, followed by its wnid if two classes share that word, or
    by its wnid if it has no words. The data derive from ImageNet and are for non-commercial research.

    Args:
        root: the folder that holds `tiny-imagenet-200`, or `tiny-imagenet-200.zip`, which is then extracted there.
        download: fetch the archive (237 MB) if neither exists.
        size: height and width in pixels; images are resized if it is not 64.
        classes: number of classes, from the start of `wnids.txt`; all if left out.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
        cache: a folder for the decoded pixels (1.4 GB at 64 pixels), which are then read from disk as needed; the next
            run decodes nothing.
    Raises:
        DataError: if files are missing, damaged, inconsistent or cannot be fetched, if more classes or
            images are asked for than there are, or if the cache cannot be written.
    Source: Sec. 4.1; Le and Yang 2015.
    """
    folder = _provide(root, download)
    listed = _wnids(folder)
    if classes is not None and classes > len(listed):
        raise DataError(f"`classes: {classes}`: {folder / 'wnids.txt'} lists {len(listed)}; ask for 2 to {len(listed)}")
    names = _names(folder, listed)
    chosen = {wnid: label for label, wnid in enumerate(listed[:classes])}
    decoding = Decoding(size, "RGB", cache)
    return DataSplits.from_pixels(
        decoding.read(_training(folder, chosen), train_size, "train_size").part,
        decoding.read(_tested(folder, chosen, frozenset(listed)), test_size, "test_size").part,
        class_names=tuple(names[wnid] for wnid in chosen),
        validation=validation,
    )


def _provide(root: Path, download: bool) -> Path:
    """The folder of the data set, downloaded and extracted if necessary."""
    folder, archive = root / FOLDER, root / f"{FOLDER}.zip"
    published = Published("TinyImageNet", URL, root, tuple(folder / name for name in LAYOUT), archive)
    missing = [name for name in LAYOUT if not (is_file(folder / name) or is_folder(folder / name))]
    if missing and is_folder(folder):
        raise DataError(f"{folder} lacks {', '.join(missing)}; remove it and start again, or {published.by_hand()}")
    if missing and not is_file(archive):
        published.provide([FOLDER], partial(download_file, URL, archive, MD5), download=download)
    if missing:
        verify(archive, MD5)
        extract_folder(archive, FOLDER)
    return folder


def _wnids(folder: Path) -> list[str]:
    """WordNet ids of the classes, in the order of their class ids."""
    wnids = [line.strip() for line in _lines(folder / "wnids.txt") if line.strip()]
    twice = [wnid for wnid, count in Counter(wnids).items() if count > 1]
    if len(wnids) < 2 or twice:
        found = f"lists {twice[0]} twice" if twice else f"lists {len(wnids)} classes"
        raise DataError(f"{folder / 'wnids.txt'} {found}; it holds one wnid per line, at least two")
    return wnids


def _names(folder: Path, wnids: list[str]) -> dict[str, str]:
    """One name per class, all different, whichever classes are used."""
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    first = {wnid: words.get(wnid, "").split(",")[0].strip() or wnid for wnid in wnids}
    counts = Counter(first.values())
    return {wnid: name if counts[name] == 1 else f"{name} ({wnid})" for wnid, name in first.items()}


def _training(folder: Path, labels: dict[str, int]) -> Samples:
    samples: list[tuple[str, int]] = []
    for wnid, label in labels.items():
        images = folder / "train" / wnid / "images"
        files = sorted(map(str, images.glob("*.JPEG")))
        if not files:
            raise DataError(f"{images} holds no .JPEG file, but {folder / 'wnids.txt'} lists {wnid}")
        samples += [(file, label) for file in files]
    return samples


def _tested(folder: Path, labels: dict[str, int], listed: frozenset[str]) -> Samples:
    """The annotated validation images of these classes: each line holds a file, its wnid and a box, which is not used.

    Raises:
        DataError: naming the line, if it names a class that is not listed or a file that is not there.
    """
    annotations, images = folder / "val" / "val_annotations.txt", folder / "val" / "images"
    present = {path.name for path in images.iterdir()}
    samples = []
    for number, line in enumerate(_lines(annotations), start=1):
        file, wnid, *_ = (*line.split("\t"), "")
        if wnid not in listed:
            raise DataError(f"{annotations}:{number}: the class {wnid!r} is not in {folder / 'wnids.txt'}")
        if file not in present:
            raise DataError(f"{annotations}:{number}: there is no file {images / file}")
        if wnid in labels:
            samples.append((str(images / file), labels[wnid]))
    if not samples:
        raise DataError(f"{annotations} names no image of the classes {', '.join(list(labels)[:5])}")
    return samples


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path, MOST).rstrip().splitlines()
    except FileError as error:
        raise DataError(f"{path} cannot be read as text: {error.reason}") from error

"""Your own images as files, one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from ddm_datasets.class_folders import ClassFolders, beside, class_folders
from ddm_datasets.decoding import Decoding, OnError, Samples
from ddm_framework import DataError, is_folder
from ddm_framework.data import DataSplits, hold_out

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""Names of folders, in lower case, that hold splits where all folders have such names."""


def load(
    *,
    root: Path | None = None,
    size: Annotated[int, Field(ge=1, le=10_000)] = 32,
    grayscale: bool = False,
    train: str = "train",
    test: str = "test",
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    cache: Path | None = None,
    on_error: OnError = "raise",
) -> DataSplits:
    """`root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*` from which a test split is cut.

    Classes are the folders' names in alphabetical order. Images are turned upright as their EXIF data say, resized
    to the shorter side and cropped to the centre: (N, 3, size, size), or (N, 1, size, size) in grey. Of an animation
    the first image is taken, and what is transparent becomes white. Names that start with a dot are passed over; what
    else is left out is told in the run.

    Args:
        root: the folder that holds the folders of the classes, or of the two splits.
        size: height and width, in pixels.
        grayscale: one channel instead of three.
        train: name of the folder with the training images.
        test: name of the folder with the test images.
        test_share: share of each class used as test images if neither of these two folders exists.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
        cache: a folder for the decoded pixels, which are then read from disk as needed. The next run decodes nothing,
            and the images need not fit in memory.
        on_error: refuse a file that cannot be read as an image, or skip it.
    Raises:
        DataError: if the folders have another layout, an image cannot be read, there are fewer images than asked for,
            or the cache cannot be written.
    """
    layout = f"images belong in <root>/{train}/<class>/ and <root>/{test}/<class>/, or all in <root>/<class>/"
    if root is None:
        raise DataError(f"the data set imagefolder needs `root:`, a folder; {layout}")
    if not is_folder(root):
        raise DataError(f"{root}: there is no such folder; {layout}")
    found = [name for name in (train, test) if is_folder(root / name)]
    if len(found) == 1:
        raise DataError(f"{root} has a folder {found[0]} but no {train if found == [test] else test}; {layout}")
    decoding = Decoding(size, "L" if grayscale else "RGB", cache, on_error)
    if found:
        trained, tested = (class_folders(root / name, layout, cache) for name in (train, test))
        notes = [beside(root, (train, test), cache), trained.told, tested.told]
        samples = trained.samples, _renumbered(root / test, root / train, tested, trained, layout)
        places = None, None
    else:
        trained = class_folders(root, layout, cache)
        if len(trained.classes) > 1 and SPLITS.issuperset(map(str.lower, trained.classes)):
            raise DataError(
                f"{root} holds the folders {', '.join(trained.classes)}, which look like splits and not like classes;"
                f" name them with `train:` and `test:`, or rename them: {layout}"
            )
        notes = [trained.told]
        places = _cut(root, trained, test_share)
        samples = tuple([trained.samples[i] for i in chosen] for chosen in places)
    parts = (
        decoding.read(samples[0], train_size, "train_size", places[0]),
        decoding.read(samples[1], test_size, "test_size", places[1]),
    )
    notes += [each for part in parts for each in part.told]
    return DataSplits.from_pixels(
        parts[0].part,
        parts[1].part,
        class_names=trained.classes,
        validation=validation,
        notes=[each for each in notes if each],
    )


def _renumbered(test: Path, train: Path, tested: ClassFolders, trained: ClassFolders, layout: str) -> Samples:
    """The test samples with the class ids of the training folder."""
    ids = {name: label for label, name in enumerate(trained.classes)}
    if strangers := [name for name in tested.classes if name not in ids]:
        raise DataError(f"{test} has classes that {train} does not have: {', '.join(strangers[:5])}; {layout}")
    return [(path, ids[tested.classes[label]]) for path, label in tested.samples]


def _cut(root: Path, whole: ClassFolders, test_share: float) -> tuple[list[int], list[int]]:
    """Places of the training and of the test samples."""
    labels = torch.tensor([label for _, label in whole.samples])
    kept, held = (index.tolist() for index in hold_out(labels, test_share, seed=0))
    if not held:
        raise DataError(f"`test_share: {test_share}` of {len(labels)} images in {root} leaves no test images; raise it")
    return kept, held

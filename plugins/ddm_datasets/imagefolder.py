"""Your own images as files, one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torchvision.datasets import ImageFolder

from ddm_datasets.decoding import Decoding, Samples
from ddm_framework import DataError, is_folder
from ddm_framework.data import DataSplits, hold_out


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
) -> DataSplits:
    """`root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*` from which a test split is cut.

    Classes are the folders' names in alphabetical order. Images are turned upright as their EXIF data say, resized
    to the shorter side and cropped to the centre: (N, 3, size, size), or (N, 1, size, size) in grey.

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
        cache: a folder (outside of root) for the decoded pixels, which are then read from disk as needed. The next run
            decodes nothing, and the images need not fit in memory.
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
    if found:
        trained, tested, classes = _two_folders(root / train, root / test, layout)
    else:
        trained, tested, classes = _one_folder(root, test_share, layout)
    decoding = Decoding(size, "L" if grayscale else "RGB", cache)
    return DataSplits.from_pixels(
        decoding.read(trained, train_size, "train_size"),
        decoding.read(tested, test_size, "test_size"),
        class_names=classes,
        validation=validation,
    )


def _two_folders(train: Path, test: Path, layout: str) -> tuple[Samples, Samples, tuple[str, ...]]:
    trained, tested = _classes(train, layout), _classes(test, layout)
    strangers = [name for name in tested.classes if name not in trained.class_to_idx]
    if strangers:
        raise DataError(f"{test} has classes that {train} does not have: {', '.join(strangers[:5])}; {layout}")
    renumbered = [(path, trained.class_to_idx[tested.classes[label]]) for path, label in tested.samples]
    return trained.samples, renumbered, tuple(trained.classes)


def _one_folder(root: Path, test_share: float, layout: str) -> tuple[Samples, Samples, tuple[str, ...]]:
    whole = _classes(root, layout)
    kept, held = (index.tolist() for index in hold_out(torch.tensor(whole.targets), test_share, seed=0))
    if not held:
        raise DataError(f"`test_share: {test_share}` of {len(whole)} images in {root} leaves no test images; raise it")
    return [whole.samples[i] for i in kept], [whole.samples[i] for i in held], tuple(whole.classes)


def _classes(folder: Path, layout: str) -> ImageFolder:
    try:
        return ImageFolder(folder)
    except FileNotFoundError as error:
        raise DataError(f"{folder} is not a folder of classes: {error}\n{layout}") from error

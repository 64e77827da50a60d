"""Anybody's images as files, one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ddm_datasets.sizes import positions
from ddm_framework.data import DataSplits, hold_out
from ddm_framework.errors import DataError

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file's name says: among Pillow's other formats are some that start programs."""

Samples = list[tuple[str, int]]
"""Files and the number of each one's class."""


def load(
    *,
    root: Path | None = None,
    size: Annotated[int, Field(ge=1)] = 32,
    grayscale: bool = False,
    train: str = "train",
    test: str = "test",
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> DataSplits:
    """`root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*` from which a test split is cut.

    Classes are the folders' names in alphabetical order. Images are turned upright as their EXIF data say, resized
    to the shorter side and cropped to the centre: (N, 3, size, size), or (N, 1, size, size) in grey.

    Args:
        root: the folder that holds the others.
        size: height and width, in pixels.
        grayscale: one channel instead of three.
        train: name of the folder with the training images.
        test: name of the folder with the test images.
        test_share: share of each class cut off as test images where neither of these two folders exists.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation.
    Raises:
        DataError: if folders are not laid out so, an image cannot be read, or there are fewer images than asked for.
    """
    layout = f"images belong in <root>/{train}/<class>/ and <root>/{test}/<class>/, or all in <root>/<class>/"
    if root is None:
        raise DataError(f"the data set imagefolder needs `root:`, a folder; {layout}")
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; {layout}")
    found = [name for name in (train, test) if (root / name).is_dir()]
    if len(found) == 1:
        raise DataError(f"{root} has a folder {found[0]} but no {train if found == [test] else test}; {layout}")
    if found:
        trained, tested, classes = _two_folders(root / train, root / test, layout)
    else:
        trained, tested, classes = _one_folder(root, test_share, layout)
    transform = v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.PILToTensor()])
    mode = "L" if grayscale else "RGB"
    return DataSplits.from_pixels(
        _read(trained, train_size, "train_size", mode, transform),
        _read(tested, test_size, "test_size", mode, transform),
        class_names=classes,
        validation=validation,
    )


def open_image(path: Path, mode: str) -> Image.Image:
    """The picture upright, in Pillow's mode `L` or `RGB`.

    Raises:
        DataError: naming the file, if it is damaged, no image, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = ImageOps.exif_transpose(file)
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise DataError(f"{path} cannot be read as an image: {error}; repair or remove it") from error
    if image.mode.startswith(("I", "F")):  # Pillow would clip it to white in silence
        raise DataError(f"{path} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
    return image.convert(mode)


def _two_folders(train: Path, test: Path, layout: str) -> tuple[Samples, Samples, tuple[str, ...]]:
    trained, tested = _classes(train, layout), _classes(test, layout)
    strangers = [name for name in tested.classes if name not in trained.class_to_idx]
    if strangers:
        raise DataError(f"{test} has classes that {train} has not: {', '.join(strangers[:5])}; {layout}")
    renumbered = [(path, trained.class_to_idx[tested.classes[label]]) for path, label in tested.samples]
    return trained.samples, renumbered, tuple(trained.classes)


def _one_folder(root: Path, test_share: float, layout: str) -> tuple[Samples, Samples, tuple[str, ...]]:
    whole = _classes(root, layout)
    kept, held = (index.tolist() for index in hold_out(torch.tensor(whole.targets), test_share, seed=0))
    if not held:
        raise DataError(f"`test_share: {test_share}` of {len(whole)} images in {root} leaves none to test; raise it")
    return [whole.samples[i] for i in kept], [whole.samples[i] for i in held], tuple(whole.classes)


def _classes(folder: Path, layout: str) -> ImageFolder:
    try:
        return ImageFolder(folder)
    except FileNotFoundError as error:
        raise DataError(f"{folder} is no folder of classes: {error}\n{layout}") from error


def _read(samples: Samples, size: int | None, option: str, mode: str, transform: v2.Transform) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], float32 (N, C, H, W), and labels int64 (N,); files that are not drawn stay unread."""
    labels = torch.tensor([label for _, label in samples])
    kept = positions(labels, size, option)
    pixels = torch.stack([transform(open_image(Path(samples[i][0]), mode)) for i in kept.tolist()])
    return pixels.float() / 255, labels[kept]

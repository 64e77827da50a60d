"""Data sets: `load(*, ...) -> DataSplits`."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch

from ddm_framework.data.splits import DataSplits, ImageSet
from ddm_framework.errors import DDMError
from ddm_framework.testing.contract import NotChecked, advice, expect, untouched_randomness
from ddm_framework.testing.subject import Subject

SPLITS = ("train", "validation", "test")
MOST_SHARED = 0.1
"""Share of a split's images that may also be in another, as real data sets hold some images twice."""
SAMPLE = 8
"""Images that are looked at value by value."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What happened when the data set was loaded for the first time."""

    splits: Any
    connections: list[str]
    touched: list[str]


def loading(subject: Subject) -> Loading:
    """The first loading, watched.

    Raises:
        DDMError: if the data set refuses, for instance because its files are missing.
    """
    return subject.once("loading", lambda: _loading(subject))


def _loading(subject: Subject) -> Loading:
    if subject.options.get("download"):
        return Loading(subject.choice(), [], [])
    with untouched_randomness() as touched, watched_network() as connections:
        splits = subject.choice()
    return Loading(splits, connections, touched)


def loaded(subject: Subject) -> DataSplits:
    """The splits.

    Raises:
        DDMError: as `loading`.
        NotChecked: if they are no splits at all.
    """
    splits = loading(subject).splits
    if not isinstance(splits, DataSplits):
        raise NotChecked("it does not return DataSplits")
    return splits


@contextmanager
def watched_network() -> Iterator[list[str]]:
    """No connection can be made; the list that it yields names those that were tried."""
    tried: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        tried.append(" ".join(str(each) for each in arguments if isinstance(each, str | tuple)))
        raise OSError("the network is closed while a data set is checked")

    with mock.patch.object(socket, "getaddrinfo", refuse), mock.patch.object(socket.socket, "connect", refuse):
        yield tried


def check_loads_data_splits(subject: Subject) -> None:
    """`load` returns `DataSplits`, or refuses with a DataError that says what is missing."""
    with advice("return DataSplits (DataSplits.from_pixels makes them), and raise DataError for what cannot be used"):
        splits = loading(subject).splits
    expect(
        isinstance(splits, DataSplits),
        f"it returns {type(splits).__name__}; return DataSplits, as DataSplits.from_pixels(...) makes them",
    )


def check_missing_files_are_a_data_error(subject: Subject) -> None:
    """Where its files are missing, it says so by a DataError that names the place."""
    paths = [option.name for option in subject.signature.options if option.takes_path]
    if not paths:
        raise NotChecked("none of its options is a path, so no file of it can be missing")
    with tempfile.TemporaryDirectory() as folder, watched_network():
        nowhere = {name: Path(folder, "nowhere", name) for name in paths}
        try:
            with advice(f"raise ddm_framework.DataError, naming the file and what to do, where {paths} do not exist"):
                subject.with_options(**nowhere)()
        except DDMError as error:
            told = str(error)
            expect(
                folder in told, f"its error does not name the missing place: {told!r}\nput the path into the message"
            )
            return
    raise NotChecked(f"it loads although {', '.join(paths)} do not exist")


def check_downloads_nothing_unasked(subject: Subject) -> None:
    """It connects to nothing unless a recipe says `download: true`."""
    if subject.options.get("download"):
        raise NotChecked("it was told to download")
    connections: list[str] = []
    with watched_network() as tried:
        try:
            connections = loading(subject).connections
        except DDMError:
            connections = tried
    expect(
        not connections,
        f"it tried to connect to {', '.join(connections[:3])}; add `download: bool = False` to its options, and without"
        " it raise a DataError that says where the files belong",
    )


def check_images_are_normalised_float32(subject: Subject) -> None:
    """Images are finite float32 (N, C, H, W) of the declared shape; undoing mean and std gives pixels in [0, 1]."""
    splits = loaded(subject)
    info, images = splits.info, splits.train.images[:SAMPLE]
    expect(
        images.dtype == torch.float32 and tuple(images.shape[1:]) == info.shape,
        f"training images are {images.dtype} {tuple(images.shape)}, DataInfo says float32 (N, {info.shape}); "
        "let DataSplits.from_pixels make both",
    )
    expect(torch.isfinite(images).all(), "training images hold NaN or infinity; remove or repair them")
    std, mean = info.channels(info.std, images), info.channels(info.mean, images)
    pixels = images * std + mean
    low, high = float(pixels.min()), float(pixels.max())
    expect(
        low >= -0.01 and high <= 1.01,
        f"images * std + mean run from {low:.3g} to {high:.3g}; they must be pixels in [0, 1], so give DataInfo the"
        " mean and std that the images were normalised by",
    )
    spread = float(std.max())
    expect(
        spread < 1,
        f"std is {spread:.3g}, as if the images were not normalised; DataInfo's mean and std are of pixels in [0, 1]",
    )


def check_all_splits_have_one_shape(subject: Subject) -> None:
    """Train, validation and test hold images of one shape, each with its label; train and test are not empty."""
    splits = loaded(subject)
    for name in SPLITS:
        part: ImageSet = getattr(splits, name)
        expect(len(part.images) == len(part.labels), f"{name}: {len(part.images)} images, {len(part.labels)} labels")
        expect(
            tuple(part.images.shape[1:]) == splits.info.shape,
            f"{name} images are {tuple(part.images.shape[1:])}, DataInfo says {splits.info.shape}; give all one shape",
        )
        expect(len(part) > 0 or name == "validation", f"the {name} split is empty; give it images or raise a DataError")


def check_labels_are_class_ids(subject: Subject) -> None:
    """Labels are int64 from 0 to classes - 1, and every class has a training image."""
    splits = loaded(subject)
    count = splits.info.num_classes
    for name in SPLITS:
        labels = getattr(splits, name).labels
        expect(labels.dtype == torch.int64, f"{name} labels are {labels.dtype}; make them int64 (labels.long())")
        expect(
            bool(((labels >= 0) & (labels < count)).all()),
            f"{name} labels run from {labels.min()} to {labels.max()}; number the {count} classes 0 to {count - 1}",
        )
    missing = sorted(set(range(count)) - set(splits.train.labels.tolist()))
    expect(not missing, f"class {missing[:5]} has no training image; give it some or drop it from class_names")


def check_classes_have_names(subject: Subject) -> None:
    """There is one name per class, and no two are alike."""
    info = loaded(subject).info
    expect(
        len(info.class_names) == info.num_classes == len(set(info.class_names)),
        f"{len(info.class_names)} class names, {len(set(info.class_names))} of them different, for {info.num_classes}"
        " classes; give each class a name of its own",
    )


def check_splits_do_not_overlap(subject: Subject) -> None:
    """Validation is cut from the training images: what is held out is not trained on, and is not the test set."""
    splits = loaded(subject)
    digests = {name: _digests(getattr(splits, name)) for name in SPLITS}
    for first, second in (("validation", "train"), ("validation", "test"), ("test", "train")):
        shared = len(digests[first] & digests[second])
        expect(
            shared <= MOST_SHARED * max(len(digests[first]), 1),
            f"{shared} of {len(digests[first])} {first} images are also in the {second} split; hold out a share of the"
            " training images for validation, as DataSplits.from_pixels does, and keep the test images apart",
        )


def _digests(part: ImageSet) -> set[bytes]:
    batches = part.images.split(256) if len(part) else ()
    return {hashlib.sha256(image.numpy().tobytes()).digest() for batch in batches for image in batch.contiguous()}


def check_loads_the_same_twice(subject: Subject) -> None:
    """Two loads give the same images, labels and splits, in the same order."""
    first, second = loaded(subject), subject.choice()
    expect(
        first.fingerprint() == second.fingerprint(),
        "two loads differ, so no run could be resumed; sort what is listed from folders, and draw splits from a "
        "torch.Generator with a fixed seed",
    )


def check_leaves_global_randomness_alone(subject: Subject) -> None:
    """It draws from generators of its own and leaves those of torch, numpy and Python as they are."""
    touched = loading(subject).touched
    expect(not touched, f"it changed the global random state of {', '.join(touched)}; use a torch.Generator of its own")

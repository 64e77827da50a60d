"""Each check of data sets catches one that breaks it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checked import assert_caught, result, results_of, subject_of

from ddm_framework import DataError, DataSplits, ImageSet
from ddm_framework.testing.checks import CHECKS

CALLS = itertools.count()


def good(*, size: int = 40, path: Path | None = None) -> DataSplits:
    """Noise; of `size` images, or from `path`."""
    if path is not None and not path.is_file():
        raise DataError(f"there is no file {path}")
    pixels, labels = torch.rand(size, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(size) % 2
    held = size // 4
    return DataSplits.from_pixels(
        (pixels[held:], labels[held:]), (pixels[:held], labels[:held]), class_names=("a", "b"), validation=0.25
    )


def with_train(images: ImageSet) -> DataSplits:
    """Another training split."""
    return replace(good(), train=images)


def a_tuple() -> Any:
    """What torchvision would return."""
    return good().train, good().test


def opening_anything(*, path: Path = Path("nowhere.pt")) -> DataSplits:
    """Opens `path` whether it is there or not."""
    return good(size=len(path.read_bytes()))


def naming_nothing(*, path: Path | None = None) -> DataSplits:
    """Says of `path` only that something is missing."""
    if path is not None:
        raise DataError("a file is missing")
    return good()


def downloading(*, path: Path | None = None) -> DataSplits:
    """Looks an address up before it looks into `path`."""
    try:
        socket.getaddrinfo("data.invalid", 80)
    except OSError:
        return good(path=path)
    return good()


def bytes_as_floats() -> DataSplits:
    """Pixels from 0 to 255."""
    splits = good()
    return with_train(ImageSet(splits.train.images.double(), splits.train.labels))


def unnormalised() -> DataSplits:
    """Pixels from 0 to 255 that were never divided."""
    splits = good()
    return with_train(ImageSet(255 * splits.info.to_pixels(splits.train.images), splits.train.labels))


def of_another_shape() -> DataSplits:
    """Test images are larger."""
    test = ImageSet(torch.zeros(10, 1, 8, 8), torch.arange(10) % 2)
    return replace(good(), test=test)


def without_a_class() -> DataSplits:
    """All training images are of the first class."""
    train = good().train
    return with_train(ImageSet(train.images, train.labels * 0))


def with_one_name_for_two() -> DataSplits:
    """Both classes are called alike."""
    return replace(good(), info=replace(good().info, class_names=("a", "a")))


def validated_on_the_test_set() -> DataSplits:
    """The validation split is the test set."""
    return replace(good(), validation=good().test)


def of_another_order() -> DataSplits:
    """Other images at each call."""
    return good(size=40 + 4 * next(CALLS))


def seeding() -> DataSplits:
    """Sets torch's seed for everybody."""
    torch.manual_seed(0)
    return good()


BROKEN: dict[str, Callable[..., Any]] = {
    "check_loads_data_splits": a_tuple,
    "check_missing_files_are_a_data_error": opening_anything,
    "check_downloads_nothing_unasked": downloading,
    "check_images_are_normalised_float32": unnormalised,
    "check_all_splits_have_one_shape": of_another_shape,
    "check_labels_are_class_ids": without_a_class,
    "check_classes_have_names": with_one_name_for_two,
    "check_splits_do_not_overlap": validated_on_the_test_set,
    "check_loads_the_same_twice": of_another_order,
    "check_leaves_global_randomness_alone": seeding,
}


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_caught(check: str) -> None:
    assert_caught("dataset", check, BROKEN[check])


def test_other_ways_to_break_a_clause_are_caught() -> None:
    assert_caught("dataset", "check_images_are_normalised_float32", bytes_as_floats)
    assert_caught("dataset", "check_missing_files_are_a_data_error", naming_nothing)


def test_a_plain_one_passes() -> None:
    assert all(each.outcome == "passed" for each in results_of(subject_of("dataset", good)).values())


def test_without_its_files_the_clear_error_passes_and_the_rest_is_skipped_with_it() -> None:
    def absent(*, path: Path = Path("absent.npz")) -> DataSplits:
        """Images in `path`."""
        raise DataError(f"there is no file {path}; put it there")

    found = results_of(subject_of("dataset", absent))
    assert found["check_missing_files_are_a_data_error"].outcome == "passed"
    assert found["check_downloads_nothing_unasked"].outcome == "passed"
    skipped = found["check_labels_are_class_ids"]
    assert skipped.outcome == "skipped"
    assert "there is no file" in skipped.message
    assert "--set dataset.tried.OPTION=VALUE" in skipped.message


def test_options_are_given_to_the_check(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("x" * 48)
    found = result("dataset", "check_loads_data_splits", opening_anything, path=str(tmp_path / "held"))
    assert found.outcome == "passed"


def test_every_check_is_tested_here() -> None:
    assert set(BROKEN) == {check.name for check in CHECKS["dataset"]}

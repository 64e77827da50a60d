"""Scikit-learn's handwritten digits: real data that needs neither a download nor a file."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from ddm_datasets.sizes import positions
from ddm_framework.data import DataSplits


def load(
    *,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    test: Annotated[int, Field(ge=1)] = 397,
) -> DataSplits:
    """1,797 images of 8x8 pixels, ten classes, images (N, 1, 8, 8).

    Args:
        validation: share of the training images held out for validation.
        test: number of test images, drawn at random with every class in proportion; the rest is for training.
    Raises:
        DataError: if `test` leaves too few images for training.
    Source: UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).float()[:, None] / 16  # grey levels run from 0 to 16
    labels = torch.from_numpy(bunch.target).long()
    tested = torch.zeros(len(labels), dtype=torch.bool)
    tested[positions(labels, test, "test")] = True
    return DataSplits.from_pixels(
        (pixels[~tested], labels[~tested]),
        (pixels[tested], labels[tested]),
        class_names=tuple("0123456789"),
        validation=validation,
    )

"""Scikit-learn's handwritten digits: real data that needs neither a download nor a file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from ddm_datasets.sizes import positions
from ddm_framework.data import DataSplits, Origin


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
    table = torch.from_numpy(_table())
    pixels = table[:, :-1].float().view(-1, 1, 8, 8) / 16  # grey levels run from 0 to 16
    labels = table[:, -1].long()
    tested = torch.zeros(len(labels), dtype=torch.bool)
    tested[positions(labels, test, "test")] = True
    train, test_set = ((pixels[chosen], labels[chosen], Origin(chosen.nonzero()[:, 0])) for chosen in (~tested, tested))
    return DataSplits.from_pixels(
        train,
        test_set,
        class_names=tuple("0123456789"),
        validation=validation,
    )


def _table() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows of 64 grey levels and a label (1797, 65), as `sklearn.datasets.load_digits` returns them.

    The file is read without importing scikit-learn, which takes a second of the wait for the first bar.
    """
    found = importlib.util.find_spec("sklearn")
    assert found is not None and found.origin is not None  # a dependency of ddm
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return np.column_stack([values, labels])

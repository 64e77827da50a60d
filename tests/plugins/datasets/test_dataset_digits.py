"""Scikit-learn's digits: whole, in order, split without overlap."""

from __future__ import annotations

import pytest
import torch
from ddm_datasets.digits import load
from sklearn.datasets import load_digits

from ddm_framework.errors import DataError


def test_sizes_and_shapes() -> None:
    splits = load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1260, 140, 397)
    assert splits.info.shape == (1, 8, 8)
    assert splits.info.class_names == tuple("0123456789")
    assert splits.train.images.dtype == torch.float32
    assert splits.train.labels.dtype == torch.int64


def test_every_digit_is_in_one_split_and_its_pixels_survive() -> None:
    splits = load()
    parts = (splits.train, splits.validation, splits.test)
    pixels = torch.cat([splits.info.to_pixels(part.images[:]) for part in parts]).flatten(1) * 16
    labels = torch.cat([part.labels for part in parts])
    found = {(int(label), tuple(row)) for label, row in zip(labels, pixels.round().int().tolist(), strict=True)}
    source = load_digits()
    wanted = {(int(label), tuple(map(int, row))) for label, row in zip(source.target, source.data, strict=True)}
    assert found == wanted
    assert len(labels) == 1797


def test_test_split_is_stratified() -> None:
    splits = load(validation=0)
    whole = torch.from_numpy(load_digits().target).bincount()
    assert ((splits.test.labels.bincount() - whole * 397 / 1797).abs() < 1).all()
    assert len(splits.validation) == 0


def test_split_is_always_the_same() -> None:
    torch.manual_seed(1)
    first = load().fingerprint()
    torch.manual_seed(2)
    assert load().fingerprint() == first


def test_too_many_test_images_are_refused() -> None:
    with pytest.raises(DataError, match="`test: 2000`: cannot take 2000 of 1797 samples"):
        load(test=2000)
    with pytest.raises(DataError, match="there is no training image"):
        load(test=1797)

"""The data contract: what is normalised, held out and drawn, and everything that is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddm_framework.data.splits import DataInfo, DataSplits, ImageSet, hold_out, subset
from ddm_framework.errors import DataError

NAMES = ("cat", "dog", "owl")
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(torch.tensor)


def pixels(count: int, *, channels: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, 3, 5, generator=torch.Generator().manual_seed(seed))


def splits(count: int = 30, validation: float = 0.2, split_seed: int = 0) -> DataSplits:
    train, test = (pixels(count), torch.arange(count) % 3), (pixels(6, seed=1), torch.arange(6) % 3)
    return DataSplits.from_pixels(train, test, class_names=NAMES, validation=validation, split_seed=split_seed)


def test_training_images_have_mean_zero_and_deviation_one() -> None:
    train = splits().train.images
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(train.std((0, 2, 3)), torch.ones(2), rtol=0, atol=1e-5)


def test_normalising_is_undone() -> None:
    data = splits()
    info = DataInfo((2, 3, 5), 3, data.info.mean, data.info.std, NAMES)
    torch.testing.assert_close(info.to_pixels(info.normalise(pixels(4))), pixels(4))
    assert info.to_pixels(torch.tensor([-9.0, 9.0])[:, None, None, None].expand(2, 2, 3, 5)).unique().tolist() == [0, 1]
    assert info.num_values == 30


def test_all_splits_are_normalised_by_the_training_images_alone() -> None:
    data = splits()
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.info.mean, data.info.std))
    torch.testing.assert_close(data.test.images, (pixels(6, seed=1) - mean) / std)
    everything = torch.cat([data.train.images, data.validation.images])
    found = data.info.to_pixels(everything).flatten(1)
    assert len(data.train) == 24
    assert {tuple(row) for row in found.mul(1e4).round().int().tolist()} == {
        tuple(row) for row in pixels(30).flatten(1).mul(1e4).round().int().tolist()
    }


def test_constant_channel_is_not_divided_by_zero() -> None:
    flat = torch.full((6, 1, 2, 2), 0.5)
    data = DataSplits.from_pixels((flat, torch.arange(6) % 3), (flat, torch.arange(6) % 3), class_names=NAMES)
    assert torch.isfinite(data.train.images).all()


def test_types_are_those_of_the_contract() -> None:
    train = (pixels(9).double(), (torch.arange(9) % 3).to(torch.uint8))
    data = DataSplits.from_pixels(train, train, class_names=NAMES)
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
    assert data.info.shape == (2, 3, 5)


def test_samples_are_taken_by_position() -> None:
    whole = splits().train
    index = torch.tensor([5, 0, 5])
    part = whole.take(index)
    assert len(part) == 3
    assert torch.equal(part.images, whole.images[index])
    assert torch.equal(part.labels, whole.labels[index])


def test_fingerprint_is_of_every_value() -> None:
    data = splits()
    changed = data.test.images.clone()
    changed[-1, -1, -1, -1] += 1e-3
    others = [
        DataSplits(data.train, data.validation, ImageSet(changed, data.test.labels), data.info),
        DataSplits(data.train, data.validation, ImageSet(data.test.images, data.test.labels.flip(0)), data.info),
        DataSplits(data.validation, data.train, data.test, data.info),
        splits(split_seed=1),
    ]
    assert splits().fingerprint() == data.fingerprint()
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == 5


def test_moving_to_a_device_keeps_everything() -> None:
    data = splits()
    assert data.to(torch.device("cpu")).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 2, 5), torch.zeros(3), r"training images must be \(N, C, H, W\), found shape \(3, 2, 5\)"),
        (torch.zeros(3, 2, 3, 5), torch.zeros(2), "3 training images but 2 labels"),
        (torch.zeros(0, 2, 3, 5), torch.zeros(0), "there is no training image"),
        (torch.zeros(3, 2, 3, 5), torch.tensor([0, 1, 3]), r"labels run from 0 to 3, but there are 3 class names"),
        (torch.zeros(3, 2, 3, 5), torch.tensor([-1, 1, 2]), r"labels run from -1 to 2, .* \(0 to 2\)"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(images: Tensor, labels: Tensor, message: str) -> None:
    test = (pixels(3), torch.arange(3))
    with pytest.raises(DataError, match=message):
        DataSplits.from_pixels((images, labels), test, class_names=NAMES)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_counted_and_the_first_is_named(value: float) -> None:
    bad = pixels(6)
    bad[2, 0, 1, 1] = bad[4, 1, 0, 0] = value
    with pytest.raises(DataError, match="2 test images hold NaN or infinity, the first at position 2"):
        DataSplits.from_pixels((pixels(6), torch.arange(6) % 3), (bad, torch.arange(6) % 3), class_names=NAMES)


def test_class_without_a_training_image_is_named() -> None:
    train, test = (pixels(6), torch.tensor([0, 0, 0, 1, 2, 2])), (pixels(3), torch.arange(3))
    with pytest.raises(DataError, match=r"no training image is left for class dog; .* lower `validation` \(0\.6\)"):
        DataSplits.from_pixels(train, test, class_names=NAMES, validation=0.6)


def test_a_class_that_never_had_an_image_is_not_put_down_to_the_validation_split() -> None:
    part = pixels(6), torch.arange(6) % 2 + 1
    with pytest.raises(DataError, match="left for class ant; give it images or count classes from 0 without gaps"):
        DataSplits.from_pixels(part, part, class_names=("ant", "bee", "cat"))


def test_two_classes_of_one_name_are_refused() -> None:
    part = pixels(6), torch.arange(6) % 3
    with pytest.raises(DataError, match="two classes have the name 'cat'"):
        DataSplits.from_pixels(part, part, class_names=("cat", "dog", "cat"))


def test_splits_of_two_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"training images are \(2, 3, 5\) and test images \(1, 3, 5\)"):
        DataSplits.from_pixels(
            (pixels(3), torch.arange(3)), (pixels(3, channels=1), torch.arange(3)), class_names=NAMES
        )


@given(LABELS, st.floats(0, 1, exclude_max=True), st.integers(0, 5))
def test_held_out_are_the_same_share_of_each_class(labels: Tensor, share: float, seed: int) -> None:
    kept, held = hold_out(labels, share, seed)
    assert torch.cat([kept, held]).sort().values.tolist() == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())
    for label in labels.unique():
        whole = int((labels == label).sum())
        assert int((labels[held] == label).sum()) == round(share * whole)
    again = hold_out(labels, share, seed)
    assert torch.equal(again[1], held)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, float("nan")])
def test_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="must be at least 0 and less than 1"):
        hold_out(torch.arange(4), share, 0)


def test_another_seed_holds_out_other_samples() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    assert not torch.equal(hold_out(labels, 0.5, 0)[1], hold_out(labels, 0.5, 1)[1])


@given(st.data(), LABELS, st.integers(0, 5))
@settings(max_examples=50)
def test_drawn_are_exactly_so_many_with_every_class_in_proportion(
    data: st.DataObject, labels: Tensor, seed: int
) -> None:
    size = data.draw(st.integers(1, len(labels)))
    drawn = subset(labels, size, seed)
    assert len(drawn) == size
    assert drawn.dtype == torch.int64
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    for label in labels.unique():
        share = float((labels == label).sum()) * size / len(labels)
        assert abs(int((labels[drawn] == label).sum()) - share) < 1
    assert torch.equal(subset(labels, size, seed), drawn)


@pytest.mark.parametrize("size", [0, 5])
def test_more_than_there_is_or_nothing_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"cannot take {size} of 4 samples; ask for 1 to 4"):
        subset(torch.arange(4), size, 0)

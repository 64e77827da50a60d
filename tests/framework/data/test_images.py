"""Stored images read exactly like the float tensor that they stand for, and nothing is read before it is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ddm_framework.data.images import BLOCK, StoredImages, statistics, taken
from ddm_framework.data.splits import DataSplits, ImageSet

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def stored(pixels: torch.Tensor) -> StoredImages:
    return StoredImages.of(pixels, MEAN, STD)


def as_floats(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.mark.parametrize(
    "index",
    [3, slice(2, 9), slice(None), torch.tensor([5, 1, 5]), torch.tensor([[0, 7], [9, 2]])],
    ids=["one", "slice", "all", "positions", "grid"],
)
def test_reads_what_the_tensor_would_hold(stored: StoredImages, pixels: torch.Tensor, index: object) -> None:
    assert torch.equal(stored[index], as_floats(pixels)[index])  # type: ignore[index]


def test_looks_like_the_tensor(stored: StoredImages, pixels: torch.Tensor) -> None:
    floats = as_floats(pixels)
    assert (len(stored), stored.shape, stored.ndim, stored.dtype) == (40, floats.shape, 4, torch.float32)
    assert all(map(torch.equal, stored.split(16), floats.split(16)))


def test_takes_positions_of_positions(stored: StoredImages, pixels: torch.Tensor) -> None:
    chosen = stored.take(torch.tensor([9, 4, 30, 2])).take(torch.tensor([3, 1]))
    assert torch.equal(chosen[:], as_floats(pixels)[[2, 4]])
    assert torch.equal(ImageSet(stored, torch.arange(40)).take(torch.tensor([7])).images[:], as_floats(pixels)[[7]])
    assert torch.equal(taken(as_floats(pixels), torch.tensor([7])), as_floats(pixels)[[7]])


def test_taking_copies_no_pixel(stored: StoredImages) -> None:
    assert stored.take(torch.arange(20)).pixels.data_ptr() == stored.pixels.data_ptr()


def test_uint8_and_float_pixels_make_the_same_splits(pixels: torch.Tensor) -> None:
    labels, names = torch.arange(40) % 4, tuple("abcd")
    small = DataSplits.from_pixels((pixels, labels), (pixels, labels), class_names=names)
    large = DataSplits.from_pixels((pixels / 255, labels), (pixels / 255, labels), class_names=names)
    assert isinstance(small.train.images, StoredImages)
    assert small.info.mean == pytest.approx(large.info.mean) and small.info.std == pytest.approx(large.info.std)
    for split in ("train", "validation", "test"):
        ours, theirs = getattr(small, split), getattr(large, split)
        assert torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.images[:], theirs.images)


def test_statistics_over_several_blocks_are_those_of_the_whole() -> None:
    pixels = torch.randint(
        256, (2 * BLOCK + 77, 2, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    rows = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(2))[: 2 * BLOCK]
    mean, std = statistics(pixels, rows)
    whole = pixels[rows].double() / 255
    assert mean == pytest.approx(whole.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(whole.std((0, 2, 3)).tolist(), rel=1e-9)


def test_a_constant_channel_has_a_standard_deviation_to_divide_by() -> None:
    assert statistics(torch.full((5, 1, 2, 2), 7, dtype=torch.uint8), torch.arange(5))[1] == (pytest.approx(1e-6),)


def test_the_fingerprint_sees_one_changed_pixel(pixels: torch.Tensor) -> None:
    def fingerprint(content: torch.Tensor) -> str:
        labels = torch.arange(40) % 4
        return DataSplits.from_pixels(
            (content, labels), (content[:8], labels[:8]), class_names=tuple("abcd")
        ).fingerprint()

    changed = pixels.clone()
    changed[39, 2, 5, 4] ^= 1
    assert fingerprint(pixels) == fingerprint(pixels.clone()) != fingerprint(changed)


def test_another_normalisation_of_the_same_pixels(pixels: torch.Tensor) -> None:
    labels, names = torch.arange(40) % 4, tuple("abcd")
    for content in (pixels, pixels / 255):
        splits = DataSplits.from_pixels((content, labels), (content, labels), class_names=names)
        other = splits.normalised_by(MEAN, STD)
        assert other.info.mean == MEAN
        torch.testing.assert_close(other.test.images[:], as_floats(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            other.info.to_pixels(other.train.images[:]), splits.info.to_pixels(splits.train.images[:])
        )


def test_a_memory_mapped_file_is_read_in_place(tmp_path: Path, pixels: torch.Tensor) -> None:
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "pixels.npy", mmap_mode="c"))
    labels = torch.arange(40) % 4
    splits = DataSplits.from_pixels((mapped, labels), (mapped, labels), class_names=tuple("abcd"))
    assert splits.train.images.pixels.data_ptr() == mapped.data_ptr()  # type: ignore[union-attr]
    assert splits.to(torch.device("cpu")).train.images.pixels.data_ptr() == mapped.data_ptr()  # type: ignore[union-attr]


def test_integers_other_than_uint8_are_refused() -> None:
    from ddm_framework.errors import DataError

    content, labels = torch.zeros(4, 1, 2, 2, dtype=torch.int64), torch.arange(4) % 2
    with pytest.raises(DataError, match=r"float in \[0, 1\] or uint8, found torch.int64"):
        DataSplits.from_pixels((content, labels), (content, labels), class_names=("a", "b"))

"""Folders of images: what is read from real files, and every way in which they can be laid out wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ddm_datasets.imagefolder import load, open_image
from PIL import Image

from ddm_framework.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """root/train and root/test with five and two images of each of two classes."""
    for name, colour in (("red", RED), ("blue", BLUE)):
        for i in range(5):
            paint(tmp_path / "train" / name / f"{i}.png", colour)
        for i in range(2):
            paint(tmp_path / "test" / name / f"{i}.jpg", colour)
    return tmp_path


def test_two_folders(split: Path) -> None:
    splits = load(root=split, size=8, validation=0.2)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (8, 2, 4)
    assert splits.info.shape == (3, 8, 8)
    assert splits.info.class_names == ("blue", "red")
    pixels = splits.info.to_pixels(splits.train.images)
    for label, colour in ((0, BLUE), (1, RED)):
        wanted = torch.tensor(colour)[:, None, None] / 255
        assert torch.allclose(pixels[splits.train.labels == label], wanted, atol=1e-4)


def test_grey_is_one_channel(split: Path) -> None:
    splits = load(root=split, grayscale=True)
    assert splits.info.shape == (1, 32, 32)
    assert splits.info.to_pixels(splits.test.images).unique().numel() >= 2


def test_names_of_the_folders(split: Path) -> None:
    (split / "train").rename(split / "a")
    (split / "test").rename(split / "b")
    assert len(load(root=split, train="a", test="b").test) == 4


def test_one_folder_is_split_by_class_and_always_the_same(split: Path) -> None:
    splits = load(root=split / "train", test_share=0.4, validation=0)
    assert splits.test.labels.bincount().tolist() == [2, 2]
    assert len(splits.train) == 6
    assert load(root=split / "train", test_share=0.4, validation=0).fingerprint() == splits.fingerprint()


def test_labels_follow_the_training_folder(split: Path) -> None:
    for image in (split / "test" / "blue").iterdir():
        image.unlink()
    (split / "test" / "blue").rmdir()
    assert load(root=split).test.labels.tolist() == [1, 1]


def test_sizes(split: Path) -> None:
    splits = load(root=split, train_size=4, test_size=2, validation=0.5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (2, 2, 2)
    with pytest.raises(DataError, match="`train_size: 11`: cannot take 11 of 10 samples"):
        load(root=split, train_size=11)


def test_longer_side_is_cropped_to_its_centre(split: Path) -> None:
    stripes = np.zeros((8, 24, 3), np.uint8)
    stripes[:, 8:16] = 255
    Image.fromarray(stripes).save(split / "test" / "red" / "0.png")
    splits = load(root=split, size=8)
    image = splits.info.to_pixels(splits.test.images)[splits.test.labels == 1][1]  # after 0.jpg
    assert image.mean() > 0.99


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[255, 0], [255, 0], [255, 0]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.asarray(open_image(tmp_path / "turned.png", "L")).tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_file_that_is_no_image(split: Path, content: bytes) -> None:
    bad = split / "train" / "red" / "3.png"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=rf"{bad} cannot be read as an image: .*; repair or remove it"):
        load(root=split)


def test_truncated_image(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut\.png cannot be read as an image"):
        open_image(path, "RGB")


def test_sixteen_bits_are_refused_instead_of_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 30000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits a channel \(mode I.*\); convert it to 8 bits"):
        open_image(tmp_path / "deep.png", "L")


def test_root_is_needed() -> None:
    with pytest.raises(DataError, match=r"imagefolder needs `root:`, a folder; images belong in <root>/train/<class>/"):
        load()


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such folder; images belong in"):
        load(root=tmp_path / "nowhere")


@pytest.mark.parametrize(("option", "found"), [("test", "train"), ("train", "test")])
def test_one_of_the_two_folders(split: Path, option: str, found: str) -> None:
    with pytest.raises(DataError, match=f"has a folder {found} but no oops; images belong in"):
        load(root=split, **{option: "oops"})


def test_no_classes(tmp_path: Path) -> None:
    paint(tmp_path / "lonely.png", RED)
    with pytest.raises(DataError, match=f"{tmp_path} is no folder of classes: .*\nimages belong in"):
        load(root=tmp_path)


def test_empty_class(split: Path) -> None:
    (split / "train" / "green").mkdir()
    with pytest.raises(DataError, match="train is no folder of classes: Found no valid file for the classes green"):
        load(root=split)


def test_class_of_the_test_folder_alone(split: Path) -> None:
    paint(split / "test" / "green" / "0.png", (0, 255, 0))
    with pytest.raises(DataError, match=r"test has classes that .*train has not: green; images belong in"):
        load(root=split)


def test_share_that_leaves_no_test_image(split: Path) -> None:
    with pytest.raises(DataError, match=r"`test_share: 0\.05` of 10 images in .* leaves none to test; raise it"):
        load(root=split / "train", test_share=0.05)


def test_real_photographs() -> None:
    root = os.environ.get("DDM_TEST_DATA")
    if not root:
        pytest.skip("DDM_TEST_DATA does not name a folder with tiny-imagenet-200 in it")
    splits = load(root=Path(root) / "tiny-imagenet-200" / "train", size=16, train_size=40, test_size=20)
    assert splits.info.shape == (3, 16, 16)
    assert splits.info.num_classes == 20
    assert len(splits.test) == 20

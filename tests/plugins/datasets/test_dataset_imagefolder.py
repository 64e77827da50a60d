"""Folders of images: what is read from real files, and every way in which they can be laid out wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ddm_datasets.imagefolder import load
from PIL import Image
from torchvision.datasets import ImageFolder

from ddm_framework.data.images import StoredImages
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
    pixels = splits.info.to_pixels(splits.train.images[:])
    for label, colour in ((0, BLUE), (1, RED)):
        wanted = torch.tensor(colour)[:, None, None] / 255
        assert torch.allclose(pixels[splits.train.labels == label], wanted, atol=1e-4)


def test_grey_is_one_channel(split: Path) -> None:
    splits = load(root=split, grayscale=True)
    assert splits.info.shape == (1, 32, 32)
    assert splits.info.to_pixels(splits.test.images[:]).unique().numel() >= 2


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
    image = splits.info.to_pixels(splits.test.images[:])[splits.test.labels == 1][1]  # after 0.jpg
    assert image.mean() > 0.99


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_file_that_is_no_image(split: Path, content: bytes) -> None:
    bad = split / "train" / "red" / "3.png"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=rf"{bad} cannot be read as an image: .*; repair or remove it"):
        load(root=split)


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
    with pytest.raises(DataError, match=f"{tmp_path} is not a folder of classes: .*\nimages belong in"):
        load(root=tmp_path)


def test_empty_class(split: Path) -> None:
    (split / "train" / "green").mkdir()
    with pytest.raises(DataError, match="train is not a folder of classes: there is no image in green"):
        load(root=split)


def test_class_of_the_test_folder_alone(split: Path) -> None:
    paint(split / "test" / "green" / "0.png", (0, 255, 0))
    with pytest.raises(DataError, match=r"test has classes that .*train does not have: green; images belong in"):
        load(root=split)


def test_share_that_leaves_no_test_image(split: Path) -> None:
    with pytest.raises(DataError, match=r"`test_share: 0\.05` of 10 images in .* leaves no test images; raise it"):
        load(root=split / "train", test_share=0.05)


def test_cache_gives_the_same_data_and_is_used_again(split: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.mktemp("cache")
    wanted = load(root=split, size=8)
    assert isinstance(wanted.train.images, StoredImages)  # as uint8
    assert load(root=split, size=8, cache=cache).fingerprint() == wanted.fingerprint()
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 2  # one file a split
    assert load(root=split, size=8, cache=cache).fingerprint() == wanted.fingerprint()
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept


@pytest.mark.parametrize("name", ["x.gif", "x.GIF", "x.jfif", "x.jpe", "x.webp", "x.tif", "x.bmp", "x.ppm"])
def test_whatever_is_decoded_is_taken(split: Path, name: str) -> None:
    (split / "train" / "red" / "0.png").unlink()
    kinds = {".jfif": "JPEG", ".jpe": "JPEG"}
    Image.new("RGB", (12, 10), RED).save(split / "train" / "red" / name, format=kinds.get(Path(name).suffix))
    splits = load(root=split, size=8, validation=0)
    assert splits.train.labels.bincount().tolist() == [5, 5]
    pixels = splits.info.to_pixels(splits.train.images[:])[splits.train.labels == 1]
    assert torch.allclose(pixels, torch.tensor(RED)[:, None, None] / 255, atol=0.02)
    assert splits.notes == ()


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("where", ["train", "train/red", "test", "."])
def test_names_that_start_with_a_dot_are_passed_over(split: Path, where: str, full: bool) -> None:
    wanted = load(root=split, size=8).fingerprint()
    hidden = split / where / ".ipynb_checkpoints"
    hidden.mkdir()
    if full:
        paint(hidden / "0.png", BLUE)
    paint(split / "train" / "red" / "._0.png", BLUE)
    splits = load(root=split, size=8)
    assert splits.fingerprint() == wanted
    count = 1 if where in {"test", "."} else 2
    assert f"left out in {split / 'train'}: {count} with a name that starts with a dot" in splits.notes


def test_what_is_left_out_is_counted(split: Path) -> None:
    for name in ("a.txt", "b.txt", "c.HEIC", "Thumbs"):
        (split / "train" / "red" / name).touch()
    (split / "train" / "index.csv").touch()
    paint(split / "train" / "lonely.png", RED)
    [told] = load(root=split, size=8).notes
    assert told.startswith(f"left out in {split / 'train'}: 5 of another format (.txt 2, ")
    assert told.endswith("), 1 in no folder of a class")
    assert ".heic 1" in told
    assert "no ending 1" in told


def test_a_class_of_another_format_is_told(split: Path) -> None:
    for path in (split / "train" / "red").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        DataError, match=r"there is no image in red \(left out in .*: 5 of another format \(.heic 5\)\)"
    ):
        load(root=split)


@pytest.mark.parametrize("cache", [False, True])
def test_a_file_that_is_no_image_is_skipped_if_asked(
    split: Path, cache: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (split / "train" / "red" / "3.png").write_bytes(b"hello")
    Image.fromarray(np.full((4, 4), 30000, np.uint16)).save(split / "train" / "blue" / "1.png")
    folder = tmp_path_factory.mktemp("cache") if cache else None
    for _ in range(2):  # the second time from the cache, where there is one
        splits = load(root=split, size=8, validation=0, on_error="skip", cache=folder)
        assert splits.train.labels.bincount().tolist() == [4, 4]
        [told] = splits.notes
        assert told.startswith("2 files were left out because no image can be read from them: ")
        assert "1.png has more than 8 bits per channel" in told
        assert splits.train.origin is not None
        assert [Path(each).stem for each in splits.train.origin.files] == ["0", "2", "3", "4", "0", "1", "2", "4"]
        assert splits.train.origin.positions.tolist() == [0, 2, 3, 4, 5, 6, 7, 9]
    with pytest.raises(
        DataError, match=r"1\.png has more than 8 bits .* or leave such files out with `on_error: skip`"
    ):
        load(root=split, size=8, cache=folder)


def test_a_class_of_which_nothing_can_be_read(split: Path) -> None:
    for path in (split / "train" / "red").iterdir():
        path.write_bytes(b"hello")
    with pytest.raises(DataError, match="no training image is left for class red"):
        load(root=split, on_error="skip")


@pytest.mark.parametrize("where", ["pixels", ".pixels", "train/pixels", "train/red/pixels"])
@pytest.mark.parametrize("one_folder", [True, False])
def test_our_own_cache_is_no_class_whoever_comes_later(split: Path, where: str, one_folder: bool) -> None:
    root = split / "train" if one_folder else split
    wanted = load(root=root, size=8).fingerprint()
    for cache in (split / where, split / where, None, split / "train" / "other", None):
        assert load(root=root, size=8, cache=cache).fingerprint() == wanted
    (split / where / ".DS_Store").touch()
    assert load(root=root, size=8).fingerprint() == wanted
    next((split / where).glob("*.npy")).write_bytes(b"cut short")
    assert load(root=root, size=8, cache=split / where).fingerprint() == wanted


def test_what_is_transparent_becomes_white_and_is_told(split: Path) -> None:
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.paste((*RED, 255), (0, 0, 4, 8))
    picture.save(split / "test" / "red" / "0.png")
    (split / "test" / "red" / "0.jpg").unlink()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([*RED, 0, 0, 0])
    palette.save(split / "test" / "red" / "1.png", transparency=1)
    (split / "test" / "red" / "1.jpg").unlink()
    Image.new("RGBA", (8, 8), (*BLUE, 255)).save(split / "test" / "blue" / "opaque.png")
    splits = load(root=split, size=8)
    pixels = splits.info.to_pixels(splits.test.images[:])[splits.test.labels == 1]
    assert torch.allclose(pixels[0, :, :, 4:], torch.ones(3, 8, 4), atol=1e-4)
    assert torch.allclose(pixels[0, :, :, :4], torch.tensor(RED)[:, None, None] / 255, atol=1e-4)
    assert torch.allclose(pixels[1], torch.ones(3, 8, 8), atol=1e-4)
    assert splits.notes == ("2 images are transparent in part and put on white",)


def test_folders_within_a_class_and_links_in_a_circle(split: Path) -> None:
    paint(split / "train" / "red" / "more" / "9.png", RED)
    (split / "train" / "red" / "more" / "again").symlink_to(split / "train" / "red", target_is_directory=True)
    assert load(root=split, size=8, validation=0).train.labels.bincount().tolist() == [5, 6]


def test_the_order_is_that_of_torchvision(split: Path) -> None:
    paint(split / "train" / "red" / "B" / "9.png", RED)
    paint(split / "train" / "red" / "10.png", RED)
    splits = load(root=split, size=8, validation=0)
    assert splits.train.origin is not None
    wanted = [path for path, _ in ImageFolder(str(split / "train")).samples]
    assert list(splits.train.origin.files) == wanted


def test_real_photographs(real_data: Path) -> None:
    splits = load(root=real_data / "tiny-imagenet-200" / "train", size=16, train_size=40, test_size=20)
    assert splits.info.shape == (3, 16, 16)
    assert splits.info.num_classes == 20
    assert len(splits.test) == 20


def test_what_lies_beside_the_splits_is_told(split: Path) -> None:
    paint(split / "val" / "red" / "0.png", RED)
    paint(split / "lonely.png", RED)
    assert load(root=split, size=8).notes == (f"left out in {split}: the folder val and 1 image beside train and test",)


def test_splits_of_other_names_are_no_classes(split: Path) -> None:
    for name, other in (("train", "Training"), ("test", "Val")):
        (split / name).rename(split / other)
    with pytest.raises(DataError, match=r"holds the folders Training, Val, which look like splits .* `train:`"):
        load(root=split)
    assert load(root=split, train="Training", test="Val", size=8).info.class_names == ("blue", "red")
    (split / "Training").rename(split / "Train")
    (split / "Val").rename(split / "Bus")
    assert load(root=split, size=8).info.class_names == ("Bus", "Train")

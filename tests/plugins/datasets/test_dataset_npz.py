"""Arrays from a file that nobody vouches for: what is read, and every way in which it can be wrong."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ddm_datasets.npz import load

from ddm_framework.data.images import StoredImages
from ddm_framework.errors import DataError

RNG = np.random.default_rng(0)


def arrays(shape: tuple[int, ...] = (6, 5, 3), **changes: Any) -> dict[str, Any]:
    """Twelve training and six test images of three classes, with changes; None leaves an array out."""
    made = {
        "x_train": RNG.integers(0, 256, (12, *shape), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": RNG.integers(0, 256, (6, *shape), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
        **changes,
    }
    return {name: array for name, array in made.items() if array is not None}


def save(folder: Path, **content: Any) -> Path:
    np.savez(folder / "data.npz", **content)
    return folder / "data.npz"


def save_folder(folder: Path, **content: Any) -> Path:
    for name, array in content.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def refused(folder: Path, match: str, **changes: Any) -> None:
    path = save(folder, **arrays(**changes))
    with pytest.raises(DataError, match=match) as error:
        load(path=path)
    assert str(error.value).startswith(str(path))


def test_uint8_colour_images(tmp_path: Path) -> None:
    content = arrays(class_names=np.array(["ant", "bee", "cat"]))
    splits = load(path=save(tmp_path, **content), validation=0)
    assert splits.info.shape == (3, 6, 5)
    assert splits.info.class_names == ("ant", "bee", "cat")
    pixels = splits.info.to_pixels(splits.train.images[:])
    assert torch.allclose(pixels.permute(0, 2, 3, 1), torch.from_numpy(content["x_train"]) / 255, atol=1e-5)
    assert splits.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_grey_images_and_numbers_for_names(tmp_path: Path) -> None:
    splits = load(path=save(tmp_path, **arrays((7, 5))))
    assert splits.info.shape == (1, 7, 5)
    assert splits.info.class_names == ("0", "1", "2")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_floats_in_the_unit_interval(tmp_path: Path, dtype: str) -> None:
    x = RNG.random((12, 6, 5)).astype(dtype)
    splits = load(path=save(tmp_path, **arrays((6, 5), x_train=x)), validation=0)
    assert splits.train.images.dtype == torch.float32
    found = splits.info.to_pixels(splits.train.images[:])[:, 0]
    assert torch.allclose(found, torch.from_numpy(x.astype("f4")), atol=1e-5)


def test_layouts_agree(tmp_path: Path) -> None:
    content = arrays((6, 5, 3))
    wanted = load(path=save(tmp_path, **content)).fingerprint()
    turned = {**content, **{x: content[x].transpose(0, 3, 1, 2) for x in ("x_train", "x_test")}}
    assert load(path=save(tmp_path, **turned)).fingerprint() == wanted
    assert load(path=save(tmp_path, **turned), layout="nchw").fingerprint() == wanted
    assert load(path=save(tmp_path, **content), layout="nhwc").fingerprint() == wanted


@pytest.mark.parametrize(("shape", "found"), [((3, 8, 4), "both"), ((8, 8, 8), "neither")])
def test_ambiguous_channels_ask_for_the_layout(tmp_path: Path, shape: tuple[int, ...], found: str) -> None:
    refused(
        tmp_path, rf"x_train has shape .* {found} look like channels \(at most 4\); set `layout: nhwc`", shape=shape
    )
    assert load(path=tmp_path / "data.npz", layout="nchw").info.shape == shape


def test_sizes(tmp_path: Path) -> None:
    splits = load(path=save(tmp_path, **arrays()), train_size=6, test_size=3, validation=0.5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (3, 3, 3)
    with pytest.raises(DataError, match="`test_size: 7`: cannot take 7 of 6 samples"):
        load(path=tmp_path / "data.npz", test_size=7)


def test_path_is_needed() -> None:
    with pytest.raises(
        DataError,
        match=r"npz needs `path:`, an \.npz file with the arrays x_train, .*, or a folder of them as \.npy files",
    ):
        load()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: there is no such file or folder"):
        load(path=tmp_path / "nowhere.npz")


def test_truncated_or_other_file(tmp_path: Path) -> None:
    path = save(tmp_path, **arrays())
    for content in (path.read_bytes()[:-30], b"hello", b"", pickle.dumps({"x_train": 1})):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz is not an \.npz archive, or is cut short"):
            load(path=path)


def test_damage_inside(tmp_path: Path) -> None:
    path = save(tmp_path, **arrays())
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match="x_train cannot be read, the file is damaged: Bad CRC"):
        load(path=path)


def test_member_that_is_no_array(tmp_path: Path) -> None:
    path = save(tmp_path, **arrays(y_test=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_test.npy", "not an array")
    with pytest.raises(DataError, match="y_test is not an array"):
        load(path=path)


def test_missing_arrays_are_listed(tmp_path: Path) -> None:
    found = "lacks y_train, y_test: found x_train, x_test, labels, needed x_train, y_train, x_test, y_test"
    refused(tmp_path, found, y_train=None, y_test=None, labels=np.arange(3))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["x_train", "y_test", "class_names"])
def test_pickled_objects_are_refused_unread(tmp_path: Path, name: str) -> None:
    bomb = np.array([Bomb(tmp_path / "exploded")], dtype=object)
    refused(tmp_path, f"{name} holds Python objects, which could run code when read", **{name: bomb})
    assert not (tmp_path / "exploded").exists()


def test_nan(tmp_path: Path) -> None:
    x = RNG.random((12, 6, 5))
    x[[4, 7], 2, 2] = np.nan
    refused(tmp_path, "x_train holds NaN or infinity in 2 of 12 images, the first at position 4", x_train=x)


@pytest.mark.parametrize(("scale", "shift", "found"), [(255, 0, "runs from 0 to 255"), (2, -1, "runs from -1 to 1")])
def test_floats_outside_the_unit_interval(tmp_path: Path, scale: float, shift: float, found: str) -> None:
    x = np.linspace(0, 1, 12 * 30).reshape(12, 6, 5) * scale + shift
    refused(tmp_path, rf"x_train {found}; floats must lie in \[0, 1\]", x_train=x)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64])
def test_images_of_another_dtype(tmp_path: Path, dtype: Any) -> None:
    refused(tmp_path, f"x_train is {np.dtype(dtype)}; store uint8", x_train=np.zeros((12, 6, 5), dtype))


@pytest.mark.parametrize("shape", [(12, 30), (12, 1, 6, 5, 3)])
def test_images_of_wrong_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    refused(tmp_path, r"x_train has shape .*; images are \(N, H, W\)", x_train=np.zeros(shape, np.uint8))


@pytest.mark.parametrize("images", [np.zeros((11, 6, 5), np.uint8), np.uint8(3)], ids=["eleven", "scalar"])
def test_lengths_that_differ(tmp_path: Path, images: Any) -> None:
    refused(tmp_path, r"x_train has shape .*, but y_train has 12 labels", x_train=images)


def test_labels_of_another_dtype(tmp_path: Path) -> None:
    refused(tmp_path, "y_train is float64; labels are integers that count from 0", y_train=np.arange(12) % 3 * 1.0)


@pytest.mark.parametrize("labels", [np.eye(12, 3, dtype=int), np.zeros(0, int), np.int64(3)])
def test_labels_of_wrong_dimensions(tmp_path: Path, labels: Any) -> None:
    refused(tmp_path, r"y_train has shape .*; labels are \(N,\), one per image", y_train=labels)


def test_negative_labels(tmp_path: Path) -> None:
    refused(tmp_path, "y_test holds the label -1; labels count from 0", y_test=np.array([0, 1, 2, -1, 0, 1]))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.arange(12) % 3 + 1, "y_train has 3 of 4 classes, the first without an image is 0"),
        (np.arange(12) % 3 * 2, "y_train has 3 of 5 classes, the first without an image is 1"),
        (np.arange(12) % 3 * 10**15, "the first without an image is 1"),
    ],
)
def test_gaps_in_the_labels(tmp_path: Path, labels: Any, found: str) -> None:
    refused(tmp_path, found, y_train=labels)


def test_fewer_classes_than_names(tmp_path: Path) -> None:
    found = "y_train has 3 of 4 classes, the first without an image is 3"
    refused(tmp_path, found, class_names=np.array(["ant", "bee", "cat", "dog"]))


@pytest.mark.parametrize("changes", [{"y_test": np.arange(6)}, {"class_names": np.array(["ant", "bee"])}])
def test_more_classes_than_names(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"labels run from 0 to .*, but there are . class names"):
        load(path=save(tmp_path, **arrays(**changes)))


@pytest.mark.parametrize("names", [np.arange(3), np.array("ant"), np.array([["ant"]])])
def test_class_names_that_are_none(tmp_path: Path, names: Any) -> None:
    refused(tmp_path, r"class_names is .*; store strings \(classes,\)", class_names=names)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (3, 6, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_folder_of_arrays_holds_the_same_data(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    content = arrays(shape, class_names=np.array(["ant", "bee", "cat"]))
    if dtype != np.uint8:
        content |= {x: (content[x] / 255).astype(dtype) for x in ("x_train", "x_test")}
    (tmp_path / "folder").mkdir()
    found = load(path=save_folder(tmp_path / "folder", **content))
    assert found.fingerprint() == load(path=save(tmp_path, **content)).fingerprint()
    assert isinstance(found.train.images, StoredImages) == (dtype == np.uint8)


def test_folder_of_arrays_is_read_from_disk_as_needed(tmp_path: Path) -> None:
    content = arrays((100, 100, 3), y_test=np.arange(3000) % 3, x_test=np.zeros((3000, 100, 100, 3), np.uint8))
    save_folder(tmp_path, **content)  # 90 MB of test images
    tracemalloc.start()
    try:
        splits = load(path=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10**7
    assert splits.test.images[2999].shape == (3, 100, 100)
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path / "x_test.npy") in maps.read_text()


def test_drawing_from_a_folder(tmp_path: Path) -> None:
    splits = load(path=save_folder(tmp_path, **arrays()), train_size=6, test_size=3, validation=0)
    assert splits.train.labels.bincount().tolist() == [2, 2, 2]
    assert len(splits.test) == 3


def test_folder_that_lacks_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks x_train, y_train, x_test, y_test: found nothing, needed x_train"):
        load(path=tmp_path)
    with pytest.raises(DataError, match="lacks y_test: found x_test, x_train, y_train, needed x_train"):
        load(path=save_folder(tmp_path, **arrays(y_test=None)))


def test_damaged_arrays_of_a_folder(tmp_path: Path) -> None:
    save_folder(tmp_path, **arrays())
    file = tmp_path / "x_train.npy"
    for content in (file.read_bytes()[:-1], b"hello", b"", pickle.dumps({"x_train": 1})):
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"^{tmp_path}: x_train cannot be read, the file is damaged: "):
            load(path=tmp_path)


def test_pickled_objects_of_a_folder_are_refused_unread(tmp_path: Path) -> None:
    bomb = np.array([Bomb(tmp_path / "exploded")], dtype=object)
    with pytest.raises(DataError, match="y_test holds Python objects, which could run code when read"):
        load(path=save_folder(tmp_path, **arrays(y_test=bomb)))
    assert not (tmp_path / "exploded").exists()


def test_nan_beyond_the_first_block(tmp_path: Path) -> None:
    x = np.zeros((2500, 4, 4), np.float32)
    x[2100, 1, 1] = np.nan
    y = np.arange(2500) % 3
    refused(tmp_path, "NaN or infinity in 1 of 2500 images, the first at position 2100", x_train=x, y_train=y)


@pytest.mark.parametrize(
    ("name", "classes", "num_train", "num_test"),
    [("cifar10_6k.npz", 10, 6000, 2000), ("cifar100_20c.npz", 20, 4000, 1000)],
)
def test_real_photographs(real_data: Path, name: str, classes: int, num_train: int, num_test: int) -> None:
    splits = load(path=real_data / name, validation=0)
    assert splits.info.shape == (3, 32, 32)
    assert splits.info.num_classes == classes
    assert (len(splits.train), len(splits.test)) == (num_train, num_test)
    assert isinstance(splits.train.images, StoredImages)
    assert splits.train.images[:].std().item() == pytest.approx(1, abs=0.01)

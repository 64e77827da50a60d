"""MNIST: the real files where they are at hand, small idx files of the same form everywhere."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch
from ddm_datasets.mnist import load, read_idx
from torch import Tensor
from torchvision.datasets import MNIST

from ddm_framework.data.images import StoredImages
from ddm_framework.errors import DataError

NAMES = [name for name, _ in MNIST.resources]


def idx(array: Tensor) -> bytes:
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def write(root: Path, num_train: int = 40, num_test: int = 20) -> tuple[Tensor, Tensor]:
    """Extracted files of random images; returns the training images and labels."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    written = []
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        images = torch.randint(256, (count, 28, 28), generator=torch.Generator().manual_seed(count))
        labels = torch.arange(count) % 10
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
        written.append((images, labels))
    return written[0]


def test_extracted_files_are_read(tmp_path: Path) -> None:
    images, labels = write(tmp_path)
    splits = load(root=tmp_path, validation=0)
    assert splits.info.shape == (1, 28, 28)
    assert splits.info.class_names == tuple("0123456789")
    assert torch.equal(splits.train.labels, labels)
    assert torch.allclose(splits.info.to_pixels(splits.train.images[:])[:, 0], images / 255, atol=1e-5)
    assert len(splits.test) == 20
    assert isinstance(splits.train.images, StoredImages)  # as uint8


def test_compressed_files_are_read_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    resources = []
    for name in NAMES:
        extracted = (raw / name).with_suffix("")
        (raw / name).write_bytes(gzip.compress(extracted.read_bytes()))
        extracted.unlink()
        resources.append((name, hashlib.md5((raw / name).read_bytes()).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    assert len(load(root=tmp_path).test) == 20
    assert sorted(path.name for path in raw.iterdir()) == sorted(NAMES)


def test_sizes_are_exact_and_stratified(tmp_path: Path) -> None:
    write(tmp_path)
    splits = load(root=tmp_path, train_size=20, test_size=10, validation=0.5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (10, 10, 10)
    assert splits.test.labels.bincount().tolist() == [1] * 10


def test_more_images_than_there_are(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match="`train_size: 41`: cannot take 41 of 40 samples"):
        load(root=tmp_path, train_size=41)


def test_missing_files_say_where_they_belong(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as error:
        load(root=tmp_path)
    message = str(error.value)
    assert message.startswith(f"MNIST: no t10k-labels-idx1-ubyte.gz under {tmp_path}; set `download: true`")
    assert all(str(tmp_path / "MNIST" / "raw" / name) in message for name in NAMES)


@pytest.mark.parametrize("failure", [RuntimeError("no mirror answers"), PermissionError("read-only")])
def test_failed_download_says_how_to_place_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def download(*_: object) -> None:
        raise failure

    monkeypatch.setattr(MNIST, "download", download)
    with pytest.raises(
        DataError, match=f"MNIST could not be downloaded: {failure}\nplace these files by hand"
    ) as error:
        load(root=tmp_path, download=True)
    assert str(tmp_path / "MNIST" / "raw" / NAMES[0]) in str(error.value)


def test_download_is_left_to_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "download", lambda self: write(Path(self.root)))
    assert len(load(root=tmp_path, download=True).test) == 20


def test_nothing_is_downloaded_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("downloaded"))
    load(root=tmp_path, download=True)


def test_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(torch.arange(5))))
    with pytest.raises(DataError, match="is damaged or another file: its md5 sum is not ec29112d"):
        read_idx(path, dict(MNIST.resources)[path.name], 1)


@pytest.mark.parametrize(
    "content",
    [b"", idx(torch.arange(5))[:-1], idx(torch.arange(5)) + b"x", idx(torch.zeros(5, 2, 2))],
    ids=["empty", "too short", "too long", "images"],
)
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is cut short, or not the idx file"):
        read_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", "", 1)


def test_unequal_numbers_of_images_and_labels(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.arange(9)))
    with pytest.raises(DataError, match=r"20 images but 9 labels in the files t10k-\*"):
        load(root=tmp_path)


def test_the_real_files(real_data: Path) -> None:
    splits = load(root=real_data, train_size=2000, validation=0.1)
    assert len(splits.train) + len(splits.validation) == 2000
    assert len(splits.validation) == pytest.approx(200, abs=5)  # rounded in each class
    assert splits.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert splits.info.mean[0] == pytest.approx(0.1307, abs=0.003)
    assert splits.info.std[0] == pytest.approx(0.3081, abs=0.004)

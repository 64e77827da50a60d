"""CIFAR in torchvision's layout: small files of the same form, with their checksums taken for the published ones."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ddm_datasets.cifar import cifar10, cifar100
from torchvision.datasets import CIFAR10, CIFAR100

from ddm_framework.data.splits import DataSplits
from ddm_framework.errors import DataError

Load = Callable[..., DataSplits]
BOTH = pytest.mark.parametrize(("dataset", "load"), [(CIFAR10, cifar10), (CIFAR100, cifar100)], ids=["10", "100"])
FINE = [f"fine {i}" for i in range(10)]
COARSE = ["coarse 0", "coarse 1"]


def batch(seed: int) -> dict[str, Any]:
    """A file of twenty images, two of each of ten classes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 3072), dtype=np.uint8)
    labels = [i % 10 for i in range(20)]
    return {"data": pixels, "labels": labels, "fine_labels": labels, "coarse_labels": [i // 5 for i in labels]}


def published(dataset: type[CIFAR10], monkeypatch: pytest.MonkeyPatch, **forged: bytes) -> dict[str, bytes]:
    """Contents by file name, and by `.tar.gz` of the archive; their checksums are what torchvision publishes now."""
    files: dict[str, bytes] = {}
    for kind in ("train_list", "test_list"):
        listed = [
            (name, forged.get(name, pickle.dumps(batch(len(name) + i))))
            for i, (name, _) in enumerate(getattr(dataset, kind))
        ]
        monkeypatch.setattr(dataset, kind, [[name, hashlib.md5(content).hexdigest()] for name, content in listed])
        files |= dict(listed)
    meta = pickle.dumps({"label_names": FINE, "fine_label_names": FINE, "coarse_label_names": COARSE})
    name = dataset.meta["filename"]
    monkeypatch.setattr(dataset, "meta", {"filename": name, "md5": hashlib.md5(meta).hexdigest()})
    files[name] = meta
    archive = packed(dataset, files)
    monkeypatch.setattr(dataset, "tgz_md5", hashlib.md5(archive).hexdigest())
    return {**files, ".tar.gz": archive}


def packed(dataset: type[CIFAR10], files: dict[str, bytes]) -> bytes:
    """The archive, with a link and a file outside of its folder beside what is read."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in {
            "../outside": b"",
            "/outside": b"",
            **{f"{dataset.base_folder}/{n}": c for n, c in files.items()},
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{dataset.base_folder}/readme.html")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return file.getvalue()


def place(root: Path, dataset: type[CIFAR10], files: dict[str, bytes], *, archive: bool) -> None:
    """Write the files, or the archive alone."""
    (root / dataset.base_folder).mkdir(parents=True, exist_ok=True)
    if archive:
        (root / dataset.base_folder).rmdir()
        (root / dataset.filename).write_bytes(files[".tar.gz"])
        return
    for name, content in files.items():
        if name != ".tar.gz":
            (root / dataset.base_folder / name).write_bytes(content)


@BOTH
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "archive"])
def test_files_are_read_in_order_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: type[CIFAR10], load: Load, archive: bool
) -> None:
    files = published(dataset, monkeypatch)
    place(tmp_path, dataset, files, archive=archive)
    before = sorted(tmp_path.rglob("*"))
    splits = load(root=tmp_path, validation=0)
    parts = [pickle.loads(files[name]) for name, _ in dataset.train_list]
    wanted = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32) / np.float32(255)
    assert splits.info.shape == (3, 32, 32)
    assert splits.info.class_names == tuple(FINE)
    assert torch.allclose(splits.info.to_pixels(splits.train.images[:]), torch.from_numpy(wanted), atol=1e-5)
    assert splits.train.labels.tolist() == [label for part in parts for label in part["labels"]]
    assert len(splits.test) == 20
    assert sorted(tmp_path.rglob("*")) == before


def test_torchvision_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, CIFAR100, published(CIFAR100, monkeypatch), archive=False)
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "key": "fine_label_names"})
    theirs = CIFAR100(tmp_path)
    ours = cifar100(root=tmp_path, validation=0)
    pixels = (ours.info.to_pixels(ours.train.images[:]) * 255).round().byte().permute(0, 2, 3, 1)
    assert np.array_equal(pixels, theirs.data)
    assert ours.train.labels.tolist() == theirs.targets
    assert list(ours.info.class_names) == theirs.classes


def test_superclasses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, CIFAR100, published(CIFAR100, monkeypatch), archive=False)
    splits = cifar100(root=tmp_path, labels="coarse")
    assert splits.info.class_names == tuple(COARSE)
    assert splits.test.labels.tolist() == [i % 10 // 5 for i in range(20)]


def test_sizes_are_exact_and_stratified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, CIFAR10, published(CIFAR10, monkeypatch), archive=False)
    splits = cifar10(root=tmp_path, train_size=40, test_size=10, validation=0.5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 20, 10)
    assert splits.test.labels.bincount().tolist() == [1] * 10
    with pytest.raises(DataError, match="`train_size: 101`: cannot take 101 of 100 samples"):
        cifar10(root=tmp_path, train_size=101)


@BOTH
def test_missing_files_say_where_they_belong(tmp_path: Path, dataset: type[CIFAR10], load: Load) -> None:
    name = dataset.test_list[0][0]
    (tmp_path / dataset.base_folder).mkdir()
    (tmp_path / dataset.base_folder / name).touch()
    with pytest.raises(DataError) as error:
        load(root=tmp_path)
    message = str(error.value)
    missing = ", ".join([*(name for name, _ in dataset.train_list), dataset.meta["filename"]])
    title = {CIFAR10: "CIFAR-10", CIFAR100: "CIFAR-100"}[dataset]
    assert message.startswith(f"{title}: no {missing} under {tmp_path}; set `download: true`, or place these files by")
    assert (
        f"(from {dataset.url} or any mirror):\n    {tmp_path / dataset.base_folder / dataset.train_list[0][0]}\n"
        in message
    )
    assert message.endswith(f"\nor the archive itself, unopened:\n    {tmp_path / dataset.filename}")


@BOTH
def test_wrong_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: type[CIFAR10], load: Load) -> None:
    files = published(dataset, monkeypatch)
    name, md5 = dataset.test_list[0]
    place(tmp_path, dataset, {**files, name: files[name] + b"x"}, archive=False)
    path = tmp_path / dataset.base_folder / name
    with pytest.raises(DataError, match=f"{path} is damaged or another file: its md5 sum is not {md5}; remove it and"):
        load(root=tmp_path)


def test_wrong_checksum_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = published(CIFAR10, monkeypatch)
    place(tmp_path, CIFAR10, {".tar.gz": files[".tar.gz"][:-1]}, archive=True)
    with pytest.raises(DataError, match=rf"tar\.gz is damaged or another file: its md5 sum is not {CIFAR10.tgz_md5}"):
        cifar10(root=tmp_path)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "archive"])
def test_malicious_file_is_refused_even_with_the_right_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bool
) -> None:
    bomb = pickle.dumps({**batch(0), "more": Bomb(tmp_path / "exploded")})
    place(tmp_path, CIFAR10, published(CIFAR10, monkeypatch, test_batch=bomb), archive=archive)
    with pytest.raises(DataError, match=r"test_batch is a pickle that asks for .*, which could run code"):
        cifar10(root=tmp_path)
    assert not (tmp_path / "exploded").exists()


@BOTH
def test_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str], dataset: type[CIFAR10], load: Load
) -> None:
    folder, address = served
    (folder / "it.tar.gz").write_bytes(published(dataset, monkeypatch)[".tar.gz"])
    monkeypatch.setattr(dataset, "url", f"{address}/it.tar.gz")
    assert len(load(root=tmp_path / "new" / "data", download=True).test) == 20
    assert [path.name for path in (tmp_path / "new" / "data").iterdir()] == [dataset.filename]
    monkeypatch.setattr(dataset, "url", f"{address}/gone")
    load(root=tmp_path / "new" / "data", download=True)  # what is there is not fetched again


@pytest.mark.parametrize(
    ("name", "reason"),
    [("gone.tar.gz", "HTTP Error 404: File not found"), ("it.tar.gz", "File not found or corrupted.")],
)
def test_failed_download_says_how_to_place_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str], name: str, reason: str
) -> None:
    (served[0] / "it.tar.gz").write_bytes(b"another file")
    monkeypatch.setattr(CIFAR10, "url", f"{served[1]}/{name}")
    with pytest.raises(DataError, match=f"CIFAR-10 could not be downloaded: {reason}\nplace these files by hand"):
        cifar10(root=tmp_path / "data", download=True)
    assert not list((tmp_path / "data").iterdir())

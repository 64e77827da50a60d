"""Image files to pixels: only what is drawn is decoded, and a cache that is never wrong and never large in memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from ddm_datasets import decoding as module
from ddm_datasets.decoding import Decoding
from PIL import Image

from ddm_framework.data.image_files import Opened, read_image
from ddm_framework.errors import DataError

Samples = list[tuple[str, int]]


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Nine files of noise, three of each class, 12x10 pixels."""
    made = []
    for i in range(9):
        noise = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
        made.append((str(tmp_path / f"{i}.png"), i % 3))
    return made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    paths: list[Path] = []

    def counted(path: Path, mode: str) -> Opened:
        paths.append(path)
        return read_image(path, mode)

    monkeypatch.setattr(module, "read_image", counted)
    return paths


def test_pixels_are_those_of_the_files(samples: Samples) -> None:
    pixels, labels, _ = Decoding(10, "RGB", None).read(samples, None, "train_size").part
    assert pixels.dtype == torch.uint8
    assert labels.tolist() == [0, 1, 2] * 3
    for image, (path, _) in zip(pixels, samples, strict=True):
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(path))[:, 1:11])


def test_only_files_that_are_drawn_are_decoded(samples: Samples, opened: list[Path]) -> None:
    pixels, labels, _ = Decoding(8, "L", None).read(samples, 3, "train_size").part
    assert pixels.shape == (3, 1, 8, 8)
    assert sorted(labels.tolist()) == [0, 1, 2]
    assert len(opened) == 3


def test_cache_gives_the_same_pixels_and_decodes_once(samples: Samples, opened: list[Path], tmp_path: Path) -> None:
    plain, *_ = Decoding(8, "RGB", None).read(samples, None, "train_size").part
    first, *_ = Decoding(8, "RGB", tmp_path / "a" / "cache").read(samples, None, "train_size").part
    assert len(opened) == 18
    again, labels, _ = Decoding(8, "RGB", tmp_path / "a" / "cache").read(samples, None, "train_size").part
    assert len(opened) == 18
    assert torch.equal(first, plain)
    assert torch.equal(again, plain)
    assert labels.tolist() == [0, 1, 2] * 3
    (file,) = (tmp_path / "a" / "cache").iterdir()
    assert np.array_equal(np.load(file), plain)  # an ordinary .npy file


def test_cached_pixels_stay_on_disk(samples: Samples, tmp_path: Path) -> None:
    many = samples * 200  # 1,800 images of 64x64: 22 MB
    tracemalloc.start()
    try:
        pixels, *_ = Decoding(64, "RGB", tmp_path / "cache").read(many, None, "train_size").part
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < pixels.numel() / 8
    (file,) = (tmp_path / "cache").iterdir()
    assert str(file) in Path("/proc/self/maps").read_text() or not Path("/proc/self/maps").exists()


def test_writing_to_cached_pixels_leaves_the_file_alone(samples: Samples, tmp_path: Path) -> None:
    decoding = Decoding(8, "RGB", tmp_path / "cache")
    pixels, *_ = decoding.read(samples, None, "train_size").part
    kept = pixels.clone()
    pixels.zero_()
    assert torch.equal(decoding.read(samples, None, "train_size").part[0], kept)


@pytest.mark.parametrize("change", ["content", "time", "files", "size", "mode", "pillow"])
def test_cache_is_not_used_for_something_else(
    samples: Samples, opened: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    cache = tmp_path / "cache"
    Decoding(8, "RGB", cache).read(samples, None, "train_size")
    path = Path(samples[0][0])
    if change == "content":
        Image.new("RGB", (12, 10)).save(path)
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "files":
        samples = samples[1:]
    elif change == "pillow":
        monkeypatch.setattr("PIL.__version__", "0")
    changed = Decoding(9 if change == "size" else 8, "L" if change == "mode" else "RGB", cache)
    pixels, *_ = changed.read(samples, None, "train_size").part
    assert len(opened) == 9 + len(samples)
    assert torch.equal(pixels, Decoding(changed.size, changed.mode, None).read(samples, None, "train_size").part[0])


@pytest.mark.parametrize("damage", ["empty", "short", "cut", "header", "pixel", "checksum", "longer"])
def test_damaged_cache_is_made_again(samples: Samples, opened: list[Path], tmp_path: Path, damage: str) -> None:
    decoding = Decoding(8, "RGB", tmp_path / "cache")
    wanted = decoding.read(samples, None, "train_size").part[0].clone()
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    content = bytearray(whole)
    cut = {"empty": b"", "short": whole[:10], "cut": whole[:-100], "longer": whole + b"x"}
    content[{"header": 3, "pixel": 500, "checksum": -1}.get(damage, 0)] ^= 1
    file.write_bytes(cut.get(damage, bytes(content)))
    assert torch.equal(decoding.read(samples, None, "train_size").part[0], wanted)
    assert len(opened) == 18
    assert file.read_bytes() == whole


def test_a_failed_decoding_leaves_no_file_behind(samples: Samples, tmp_path: Path) -> None:
    Path(samples[5][0]).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"5\.png cannot be read as an image: .*; repair or remove it"):
        Decoding(8, "RGB", tmp_path / "cache").read(samples, None, "train_size")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_that_cannot_be_written(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError,
        match=r"`cache: .*file`: decoded images cannot be kept there: .*; name another folder, or leave `cache` out",
    ):
        Decoding(8, "RGB", tmp_path / "file").read(samples, None, "train_size")


@pytest.mark.parametrize("cache", [None, "cache"])
def test_missing_file(tmp_path: Path, cache: str | None) -> None:
    with pytest.raises(DataError, match=r"gone\.png cannot be read as an image: .*o such file"):
        Decoding(8, "RGB", cache and tmp_path / cache).read([(str(tmp_path / "gone.png"), 0)], None, "train_size")

"""A reader is told what was left out, which images occur twice and which clusters are odd; by us and by no library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from html_page import Page
from PIL import Image
from run_fixtures import ddm, manifest, numbers, save_data, tiny
from safetensors.torch import load_file

import ddm_framework
from ddm_framework.data import DataSplits
from ddm_framework.data.duplicates import content_ids
from ddm_framework.data.images import StoredImages
from ddm_framework.offline import Partition
from ddm_framework.runs.data_notes import on_duplicates, on_sizes


@pytest.mark.parametrize("stored", [True, False])
def test_the_same_pixels_have_the_same_number(stored: bool) -> None:
    pixels = torch.randint(2, (3000, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = StoredImages.of(pixels, (0.5,), (0.5,)) if stored else pixels.float()
    first, second = content_ids(
        images.take(torch.arange(2000)) if stored else images[:2000],
        images[2000:] if not stored else images.take(torch.arange(2000, 3000)),
    )
    code = (pixels.flatten(1) * torch.tensor([1, 2, 4, 8])).sum(1)
    found = torch.cat([first, second])
    assert torch.equal(found[:, None] == found, code[:, None] == code)


def splits(*train: tuple[int, int], test: list[tuple[int, int]]) -> DataSplits:
    """Plain images of one level of grey, each with a label."""
    parts = [
        (
            torch.tensor([level for level, _ in each], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2),
            torch.tensor([label for _, label in each]),
        )
        for each in (train, test)
    ]
    return DataSplits.from_pixels(*parts, class_names=("a", "b"), validation=0)


def test_copies_are_counted_and_copies_in_another_class_too() -> None:
    data = splits((1, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 1), (4, 1), test=[(4, 1), (9, 0), (3, 0)])
    first, second = on_duplicates(data)
    assert first.startswith(
        "5 of 7 training images have an identical copy among them; 3 of them have copies in another"
    )
    assert second == "2 of 3 test images are also among the training images"
    assert list(on_duplicates(splits((1, 0), (2, 1), test=[(3, 0)]))) == []


def test_clusters_of_one_beside_sixty_are_told() -> None:
    even = Partition(torch.arange(60) % 3, torch.zeros(3, dtype=torch.int64))
    assert list(on_sizes(even)) == []
    sizes = torch.tensor([60, 1, 3, 30, 2])
    odd = Partition(torch.arange(5).repeat_interleave(sizes), torch.zeros(5, dtype=torch.int64))
    [told] = on_sizes(odd)
    assert told.startswith("3 of 5 clusters have a twentieth of the 60 images of the largest one or less, down to 1:")


def test_identical_images_are_named_in_a_sentence_and_no_library_warns(tmp_path: Path) -> None:
    images = np.repeat(np.random.default_rng(0).random((3, 6, 6)), 8, 0).astype(np.float32)
    save_data(tmp_path / "data.npz", x_train=images, y_train=np.arange(3).repeat(8))
    recipe = tiny(tmp_path, clusterer="{use: kmeans, clusters_per_class: 3}")
    command = [
        sys.executable,
        "-W",
        "always",
        "-m",
        "ddm_framework",
        "run",
        str(recipe),
        "--out",
        str(tmp_path / "run"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Warning" not in ended.stderr + ended.stdout
    told = "18 of 18 training images have an identical copy among them."
    assert told in " ".join(ended.stdout.split())
    assert any(each.startswith(told) for each in numbers(tmp_path / "run")["notes"])
    assert told in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("size", [6, 12])
def test_a_long_tail_runs_with_a_size_of_clusters(tmp_path: Path, size: int) -> None:
    save_data(tmp_path / "data.npz", num_train=48)
    with np.load(tmp_path / "data.npz") as file:
        arrays = dict(file)
    rare = np.flatnonzero(arrays["y_train"] == 2)[5:]
    save_data(
        tmp_path / "data.npz", x_train=np.delete(arrays["x_train"], rare, 0), y_train=np.delete(arrays["y_train"], rare)
    )
    refused = ddm("run", tiny(tmp_path), "--set", "clusterer.clusters_per_class=6", "--out", tmp_path / "refused")
    assert refused[0] == 2
    assert "clusterer.cluster_size" in refused[2]
    run = ddm_framework.run(tiny(tmp_path), [f"clusterer.cluster_size={size}"], out=tmp_path / "run")
    classes = load_file(run.path / "offline" / "partition.safetensors")["classes"]
    assert classes.bincount().tolist() == [12 // size, 12 // size, 1]


def test_what_is_left_out_reaches_the_reader_whatever_names_hold(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    random = np.random.default_rng(0)
    for name in ("a", "b & c", hostile.replace("/", "\u2215")):
        for number in range(8):
            path = tmp_path / "photos" / name / f"<b>{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "x.<i>heic").touch()
    (tmp_path / "photos" / "a" / "<i>broken.png").write_bytes(b"none")
    dataset = "{use: imagefolder, root: photos, size: 6, grayscale: true, on_error: skip, validation: 0.25}"
    status, out, err = ddm("run", tiny(tmp_path, dataset=dataset), "--out", tmp_path / "run")
    assert status == 0, err
    notes = numbers(tmp_path / "run")["notes"]
    assert notes[0] == f"left out in {tmp_path / 'photos'}: 1 of another format (.<i>heic 1)"
    assert notes[1].startswith("1 file was left out because no image can be read from it: ")
    for told in notes[:2]:
        assert " ".join(told.split()) in " ".join(out.split())
    html = (tmp_path / "run" / "report.html").read_text()
    assert "<i>" not in html
    assert "<script>alert" not in html
    assert notes[0] in Page(html).text
    assert "<b>0.png" in (tmp_path / "run" / "samples.csv").read_text()
    assert manifest(tmp_path / "run")["data"]["sizes"]["train"] > 0

"""TinyImageNet: the real files where they are at hand, a small copy of their layout everywhere."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ddm_datasets import tinyimagenet
from ddm_datasets.tinyimagenet import load
from ddm_datasets.unzipping import extract_folder
from PIL import Image

from ddm_framework.errors import DataError

WNIDS = ("n03", "n01", "n02", "n04")


def jpeg(grey: int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, grey if mode == "L" else (grey,) * 3).save(file, "JPEG")
    return file.getvalue()


def files() -> dict[str, bytes]:
    """Four classes of six training and two validation images; the grey level tells the class."""
    made = {
        "wnids.txt": "\n".join(WNIDS).encode(),
        "words.txt": b"n00\tentity\nn01\tcrane, bird\nn02\tcrane, machine\nn03\tgoldfish, Carassius auratus\n",
    }
    for label, wnid in enumerate(WNIDS):
        made[f"train/{wnid}/{wnid}_boxes.txt"] = b"not used"
        made |= {f"train/{wnid}/images/{wnid}_{i}.JPEG": jpeg(60 * label) for i in range(6)}
        made |= {f"val/images/val_{label + 4 * i}.JPEG": jpeg(60 * label) for i in range(2)}
    lines = [f"val_{i}.JPEG\t{WNIDS[i % 4]}\t0\t10\t44\t62\n" for i in reversed(range(8))]
    return {**made, "val/val_annotations.txt": "".join(lines).encode()}


def write(root: Path, **changes: bytes) -> Path:
    """The extracted folder; changes by path."""
    for name, content in {**files(), **changes}.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def packed(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The archive; its checksum is the published one now."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny-imagenet-200/", "")
        for name, content in files().items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
    monkeypatch.setattr(tinyimagenet, "MD5", hashlib.md5(file.getvalue()).hexdigest())
    return file.getvalue()


def test_layout_is_understood(tmp_path: Path) -> None:
    splits = load(root=write(tmp_path), validation=0)
    assert splits.info.shape == (3, 64, 64)
    assert splits.info.class_names == ("goldfish", "crane (n01)", "crane (n02)", "n04")
    assert splits.train.labels.tolist() == [label for label in range(4) for _ in range(6)]
    assert splits.test.labels.tolist() == [3, 2, 1, 0] * 2
    for part in (splits.train, splits.test):
        found = splits.info.to_pixels(part.images[:]).mean((1, 2, 3)) * 255
        assert torch.allclose(found, part.labels * 60.0, atol=2)


def test_first_classes_keep_their_numbers_and_names(tmp_path: Path) -> None:
    splits = load(root=write(tmp_path), classes=2)
    assert splits.info.class_names == ("goldfish", "crane (n01)")
    assert splits.test.labels.tolist() == [1, 0, 1, 0]


def test_more_classes_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`classes: 5`: .*wnids\.txt lists 4; ask for 2 to 4"):
        load(root=write(tmp_path), classes=5)


def test_sizes(tmp_path: Path) -> None:
    splits = load(root=write(tmp_path), size=16, train_size=16, test_size=4, validation=0.25)
    assert splits.info.shape == (3, 16, 16)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 4, 4)
    with pytest.raises(DataError, match="`test_size: 9`: cannot take 9 of 8 samples"):
        load(root=tmp_path, test_size=9)


def test_cache_gives_the_same_data(tmp_path: Path) -> None:
    wanted = load(root=write(tmp_path)).fingerprint()
    for _ in range(2):
        assert load(root=tmp_path, cache=tmp_path / "cache").fingerprint() == wanted
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_grey_images_become_three_channels(tmp_path: Path) -> None:
    write(tmp_path, **{"val/images/val_3.JPEG": jpeg(180, "L", (50, 80))})
    splits = load(root=tmp_path)
    image = splits.info.to_pixels(splits.test.images[:])[4]  # 7, 6, 5, 4, 3
    assert torch.allclose(image, torch.full((3, 64, 64), 180 / 255), atol=0.01)


def test_damaged_image(tmp_path: Path) -> None:
    write(tmp_path, **{"train/n02/images/n02_3.JPEG": jpeg(9)[:200]})
    with pytest.raises(DataError, match=r"n02_3\.JPEG cannot be read as an image: .*; repair or remove it"):
        load(root=tmp_path)


def test_class_without_training_images(tmp_path: Path) -> None:
    write(tmp_path, **{"wnids.txt": "\n".join([*WNIDS, "n05"]).encode()})
    with pytest.raises(DataError, match=r"n05.images holds no \.JPEG file, but .*wnids\.txt lists n05"):
        load(root=tmp_path)
    assert len(load(root=tmp_path, classes=4).test) == 8


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("val_0.JPEG\tn99\t0\t0\t1\t1", r"the class 'n99' is not in .*wnids\.txt"),
        ("val_0.JPEG", r"the class '' is not in .*wnids\.txt"),
        ("val_99.JPEG\tn01\t0\t0\t1\t1", r"there is no file .*val_99\.JPEG"),
    ],
)
def test_annotations_at_odds_with_the_files(tmp_path: Path, line: str, reason: str) -> None:
    annotations = files()["val/val_annotations.txt"] + line.encode()
    write(tmp_path, **{"val/val_annotations.txt": annotations})
    with pytest.raises(DataError, match=rf"val_annotations\.txt:9: {reason}"):
        load(root=tmp_path)


def test_no_image_to_test(tmp_path: Path) -> None:
    write(tmp_path, **{"val/val_annotations.txt": b"val_3.JPEG\tn04\t0\t0\t1\t1\n"})
    with pytest.raises(DataError, match=r"val_annotations\.txt names no image of the classes n03, n01$"):
        load(root=tmp_path, classes=2)


@pytest.mark.parametrize(("wnids", "found"), [(b"", "lists 0 classes"), (b"n01\nn02\nn01\n", "lists n01 twice")])
def test_list_of_classes(tmp_path: Path, wnids: bytes, found: str) -> None:
    with pytest.raises(DataError, match=rf"wnids\.txt {found}; it holds one wnid per line, at least two"):
        load(root=write(tmp_path, **{"wnids.txt": wnids}))


def test_text_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"words\.txt cannot be read as text: it is not UTF-8 text"):
        load(root=write(tmp_path, **{"words.txt": b"\xff\xfe"}))


def test_missing_folder_says_where_files_belong(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load(root=tmp_path)
    message = str(error.value)
    assert message.startswith(f"TinyImageNet: no tiny-imagenet-200 under {tmp_path}; set `download: true`, or place")
    assert f"\n    {tmp_path / 'tiny-imagenet-200' / 'val' / 'val_annotations.txt'}" in message
    assert message.endswith(f"\nor the archive itself, unopened:\n    {tmp_path / 'tiny-imagenet-200.zip'}")


def test_incomplete_folder(tmp_path: Path) -> None:
    (write(tmp_path) / "tiny-imagenet-200" / "words.txt").unlink()
    with pytest.raises(
        DataError, match=r"tiny-imagenet-200 lacks words\.txt; remove it and start again, or place these"
    ):
        load(root=tmp_path)


def test_archive_is_extracted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load(root=write(tmp_path / "extracted")).fingerprint()
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(packed(monkeypatch))
    assert load(root=tmp_path).fingerprint() == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "extracted",
        "tiny-imagenet-200",
        "tiny-imagenet-200.zip",
    ]
    (tmp_path / "tiny-imagenet-200.zip").unlink()
    load(root=tmp_path, download=True)


def test_archive_with_another_checksum(tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"half")
    with pytest.raises(
        DataError, match=r"200\.zip is damaged or another file: its md5 sum is not 90528d7ca1a48142e341f"
    ):
        load(root=tmp_path)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]) -> None:
    (served[0] / "it.zip").write_bytes(packed(monkeypatch))
    monkeypatch.setattr(tinyimagenet, "URL", f"{served[1]}/it.zip")
    assert len(load(root=tmp_path / "data", download=True).test) == 8


def test_failed_download_says_how_to_place_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]
) -> None:
    monkeypatch.setattr(tinyimagenet, "URL", f"{served[1]}/gone.zip")
    with pytest.raises(DataError, match=r"TinyImageNet could not be downloaded: HTTP Error 404: .*\nplace these files"):
        load(root=tmp_path, download=True)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "it/../../x", "it\\..\\..\\x", "other/x", "it2/x", "C:/x"])
def test_archive_with_files_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.writestr("it/good", "")
        archive.writestr(name, "")
    with pytest.raises(DataError, match=r"it\.zip holds .*, which lies outside of it/; nothing was extracted"):
        extract_folder(tmp_path / "it.zip", "it")
    assert [path.name for path in tmp_path.iterdir()] == ["it.zip"]


def test_archive_with_a_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("it/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(DataError, match=r"it\.zip holds the link 'it/link'; nothing was extracted"):
        extract_folder(tmp_path / "it.zip", "it")


def test_archive_that_cannot_be_extracted(tmp_path: Path) -> None:
    (tmp_path / "it.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"it\.zip cannot be extracted to .*it: File is not a zip file"):
        extract_folder(tmp_path / "it.zip", "it")
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.writestr("it/file", "content")
    content = (tmp_path / "it.zip").read_bytes().replace(b"content", b"CONTENT", 1)
    (tmp_path / "it.zip").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        extract_folder(tmp_path / "it.zip", "it")
    assert [path.name for path in tmp_path.iterdir()] == ["it.zip"]


def test_the_real_files(real_data: Path, tmp_path: Path) -> None:
    splits = load(root=real_data, classes=5, train_size=50, validation=0.2, cache=tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 10, 100)
    assert splits.info.class_names[0] == "Egyptian cat"
    assert splits.info.shape == (3, 64, 64)
    pixels = splits.info.to_pixels(splits.test.images[:2])
    first = real_data / "tiny-imagenet-200" / "val" / "images"
    lines = (first.parent / "val_annotations.txt").read_text().splitlines()
    wnids = (first.parent.parent / "wnids.txt").read_text().split()[:5]
    name = next(line.split("\t")[0] for line in lines if line.split("\t")[1] in wnids)
    wanted = np.asarray(Image.open(first / name).convert("RGB"))
    assert np.abs(pixels[0].permute(1, 2, 0).numpy() * 255 - wanted).max() < 0.01

"""Images that a table lists: what is read, how splits and groups are kept, and each line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ddm_datasets.manifest import load
from PIL import Image

from ddm_framework.errors import DataError

LEVELS = {"cat": 40, "dog, big": 200}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten grey pictures of each of two classes, one level of grey each."""
    for name, level in LEVELS.items():
        for number in range(10):
            path = tmp_path / "photos" / f"{name[:3]}{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("L", (6, 6), level + number).save(path)
    return tmp_path


def write(folder: Path, *columns: str, **cells: list[str]) -> Path:
    """A manifest in which every class is named; `columns` are those that are written."""
    lines = [",".join(["path", "label", *columns])]
    for index, (name, number) in enumerate((name, number) for name in LEVELS for number in range(10)):
        label = f'"{name}"'
        lines.append(",".join([f"photos/{name[:3]}{number}.png", label, *(cells[each][index] for each in columns)]))
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def test_labels_files_and_places_are_those_of_the_table(photos: Path) -> None:
    splits = load(path=write(photos), size=6, grayscale=True)
    assert splits.info.class_names == ("cat", "dog, big")
    assert [len(each) for each in (splits.train, splits.validation, splits.test)] == [14, 2, 4]
    seen = []
    for split in (splits.train, splits.validation, splits.test):
        assert split.origin is not None
        pixels = (255 * splits.info.to_pixels(split.images[:])[:, 0, 0, 0]).round().int().tolist()
        for level, label, file, place in zip(
            pixels, split.labels.tolist(), split.origin.files, split.origin.positions.tolist(), strict=True
        ):
            assert label == (level >= 200)
            assert Path(file) == photos / "photos" / f"{'dog' if label else 'cat'}{place % 10}.png"
            assert level == LEVELS[splits.info.class_names[label]] + place % 10
            seen.append(place)
    assert sorted(seen) == list(range(20))


def test_splits_are_those_that_the_table_names(photos: Path) -> None:
    named = (["train"] * 6 + ["val", "Validation", "test", "test"]) * 2
    splits = load(path=write(photos, "split", split=named), size=6)
    for split, wanted in ((splits.train, range(6)), (splits.validation, (6, 7)), (splits.test, (8, 9))):
        assert split.origin is not None
        assert sorted({place % 10 for place in split.origin.positions.tolist()}) == list(wanted)


def test_no_cut_tears_a_group_apart(photos: Path) -> None:
    groups = [f"g{number // 2}" for number in range(20)]
    for share in (0.2, 0.4):
        splits = load(path=write(photos, "group", group=groups), size=6, test_share=share, validation=0.3)
        sides = []
        for split in (splits.train, splits.validation, splits.test):
            assert split.origin is not None
            sides.append({place // 2 for place in split.origin.positions.tolist()})
            assert len(split) == 2 * len(sides[-1])
        assert sum(map(len, sides)) == 10
        assert len(splits.test) == 20 * share


def test_a_group_on_both_sides_is_told(photos: Path) -> None:
    cells = {
        "split": (["train"] * 8 + ["test"] * 2) * 2,
        "group": ["one"] + [f"g{i}" for i in range(8)] + ["one"] + [""] * 10,
    }
    assert load(path=write(photos, "split", "group", **cells), size=6).notes == (
        "1 of the groups are both in training and in test: one",
    )


def test_other_columns_and_spaces_do_not_matter(photos: Path) -> None:
    path = photos / "list.csv"
    lines = [f"x, {name[:3]} ,photos/{name[:3]}{i}.png," for name in LEVELS for i in range(10)]
    path.write_text("\n".join(["who, label ,path,note", *lines]))
    assert load(path=path, size=6).info.class_names == ("cat", "dog")


def test_a_file_that_is_not_there_can_be_skipped(photos: Path) -> None:
    path = write(photos)
    (photos / "photos" / "cat3.png").unlink()
    message = rf"{path}:5: there is no file .*cat3\.png; correct the line or remove it, or leave such files out"
    with pytest.raises(DataError, match=message):
        load(path=path, size=6)
    for cache in (None, photos / "kept", photos / "kept"):
        splits = load(path=path, size=6, on_error="skip", validation=0, cache=cache)
        assert len(splits.train) + len(splits.test) == 19
        assert "cat3.png cannot be read as an image" in splits.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list\.csv has no column path \(columns: none\); a manifest is a CSV file with the columns path,label"),
        ("path,class\na,b\n", r"has no column label \(columns: path, class\)"),
        ("path,label\n", "lists no image"),
        ("path,label\nphotos/cat0.png,\n", r"list\.csv:2: the cell of the column label is empty"),
        ("path,label,split\nphotos/cat0.png,a,\n", r"list\.csv:2: the cell of the column split is empty"),
        ("path,label,split\nphotos/cat0.png,a,dev\n", r":2: a split is train, validation or test, not 'dev'"),
        ("path,label,split\nphotos/cat0.png,a,train\n", "names no test image"),
        ("path,label,split\nphotos/cat0.png,a,test\n", "no training image has the label 'a'"),
        (
            "path,label,split\nphotos/cat0.png,a,train\nphotos/cat1.png,b,test\n",
            r"list\.csv:3: no training image has the label 'b'",
        ),
        ("path,label\nphotos/cat0.png,a\nphotos/cat1.png,a\n", r"`test_share: 0\.2` of the 2 images .* leaves none"),
        ('path,label\n"photos/cat0.png,a\n', "cannot be read as a table"),
    ],
)
def test_each_mistake_is_named_with_its_line(photos: Path, text: str, message: str) -> None:
    (photos / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(path=photos / "list.csv", size=6)


def test_a_table_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="manifest needs `path:`"):
        load()
    with pytest.raises(DataError, match="there is no such file"):
        load(path=tmp_path / "gone.csv")
    (tmp_path / "bytes.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match=r"UTF-8.*a manifest is a CSV file"):
        load(path=tmp_path / "bytes.csv")


def test_statistics_are_those_of_what_is_trained_on(photos: Path) -> None:
    named = (["train"] * 6 + ["validation"] * 2 + ["test"] * 2) * 2
    splits = load(path=write(photos, "split", split=named), size=6, grayscale=True)
    wanted = torch.tensor([level + number for level in LEVELS.values() for number in range(6)]).double().mean() / 255
    assert splits.info.mean[0] == pytest.approx(float(wanted))

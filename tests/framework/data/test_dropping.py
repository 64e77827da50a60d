"""A list of samples to drop takes away exactly those, and each line that does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ddm_framework.data import DataSplits, Origin, corrupted, corrupted_in
from ddm_framework.data.corruption import corrupt
from ddm_framework.data.dropping import dropped
from ddm_framework.errors import DataError
from ddm_framework.recipe.settings import Corruption


def data(files: bool = False, count: int = 40) -> DataSplits:
    """Images of one level each, which is twice their index; half of them of each class."""
    random = torch.Generator().manual_seed(0)
    places = torch.randperm(2 * count, generator=random)
    parts = []
    for chosen in (places[:count], places[count:]):
        names = tuple(f"/photos/{'ab'[place % 2]}/{place // 2}.png" for place in chosen.tolist()) if files else ()
        parts.append(((2 * chosen).byte()[:, None, None, None].expand(-1, 1, 2, 2), chosen % 2, Origin(chosen, names)))
    return DataSplits.from_pixels(*parts, class_names=("a", "b"), validation=0.25)


def levels(splits: DataSplits) -> list[int]:
    return (255 * splits.info.to_pixels(splits.train.images[:])[:, 0, 0, 0] / 2).round().int().tolist()


def listed(folder: Path, text: str) -> Path:
    (folder / "mask.csv").write_text(text, encoding="utf-8-sig")
    return folder / "mask.csv"


def test_the_samples_that_are_named_are_gone_and_nothing_else_changes(tmp_path: Path) -> None:
    whole = data()
    gone = levels(whole)[3:9]
    left = dropped(whole, listed(tmp_path, "sample\n" + "\n".join(map(str, gone))))
    assert levels(left) == [each for each in levels(whole) if each not in gone]
    assert left.info == whole.info
    assert torch.equal(left.validation.images[:], whole.validation.images[:])
    assert torch.equal(left.test.images[:], whole.test.images[:])
    assert left.notes == ("6 of 30 training images are left out, as mask.csv says",)
    assert left.train.origin is not None
    assert left.train.origin.positions.tolist() == levels(left)


@pytest.mark.parametrize("how", ["path", "end", "both"])
def test_by_file(tmp_path: Path, how: str) -> None:
    whole = data(files=True)
    assert whole.train.origin is not None
    file = whole.train.origin.files[5]
    named = {"path": file, "end": file.removeprefix("/photos/"), "both": file}[how]
    text = f"sample,file\n{999 if how == 'both' else ''},{named}\n"
    left = dropped(whole, listed(tmp_path, text))
    assert left.train.origin is not None
    assert left.train.origin.files == tuple(each for each in whole.train.origin.files if each != file)


def test_an_end_that_two_files_share_names_none_of_them(tmp_path: Path) -> None:
    whole = data(files=True, count=40)
    assert whole.train.origin is not None
    ends = [Path(each).name for each in whole.train.origin.files]
    twice = next(each for each in ends if ends.count(each) == 2)
    with pytest.raises(DataError, match="no line names a training sample, the first being line 2"):
        dropped(whole, listed(tmp_path, f"file\n{twice}\n"))


def test_only_lines_that_say_yes_and_are_of_the_training_split_count(tmp_path: Path) -> None:
    whole = data()
    first, second, third, fourth = levels(whole)[:4]
    held = whole.validation.origin.positions.tolist()[0]  # type: ignore[union-attr]
    said = {first: "x", second: "", third: "0", fourth: "True"}
    lines = [f"train,{sample},{yes}" for sample, yes in said.items()]
    text = "\n".join(["split,sample,drop", *lines, f"validation,{held},yes"])
    left = dropped(whole, listed(tmp_path, text))
    assert set(levels(whole)) - set(levels(left)) == {first, fourth}
    assert len(left.validation) == len(whole.validation)


def test_lines_that_name_no_training_sample_are_told(tmp_path: Path) -> None:
    whole = data()
    left = dropped(whole, listed(tmp_path, f"sample\n{levels(whole)[0]}\n777\n778\n"))
    assert left.notes[0].endswith("; 2 of its lines name no training image, the first being line 3")


def test_an_empty_list_drops_nothing(tmp_path: Path) -> None:
    assert levels(dropped(data(), listed(tmp_path, "sample,drop\n3,no\n"))) == levels(data())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mask\.csv has the columns none; a list of samples to drop is a CSV file with a column"),
        ("path,label\na,b\n", "has the columns path, label;"),
        ("sample\n-1\n", r"mask\.csv:2: a sample is an index from 0, not '-1'"),
        ("sample\n1.5\n", ":2: a sample is an index"),
        ("sample,file,note\n,,look\n", ":2: neither a file nor a sample is named"),
        ("sample,drop\n1,maybe\n", ":2: the column drop holds yes or no, or 1 or nothing, not 'maybe'"),
        ("sample\n777\n", "no line names a training sample"),
        ('sample\n"1\n', "cannot be read as a table"),
        ("sample\n" + "\n".join(map(str, range(0, 80, 2))), "no training image would be left of class a; drop fewer"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dropped(data(), listed(tmp_path, text))


def test_it_is_still_known_which_of_the_others_are_corrupted(tmp_path: Path) -> None:
    whole, settings = data(), Corruption(labels=0.3, share=0.2)
    spoilt = corrupt(whole, settings)
    before = dict(zip(levels(whole), corrupted(settings, len(whole.train)).relabelled.tolist(), strict=True))
    gone = levels(whole)[::3]
    left = dropped(spoilt, listed(tmp_path, "sample\n" + "\n".join(map(str, gone))))
    found = corrupted_in(left, settings).relabelled
    assert left.train.origin is not None
    places = left.train.origin.positions.tolist()
    assert found.tolist() == [before[place] for place in places]
    assert found.tolist() == [int(label) != place % 2 for place, label in zip(places, left.train.labels, strict=True)]


@pytest.mark.parametrize(
    ("line", "gone"), [("0,/a.png", [0]), ("1,/a.png", [1]), (",/a.png", [0, 1]), ("9,a.png", [0, 1])]
)
def test_a_file_that_is_listed_twice(tmp_path: Path, line: str, gone: list[int]) -> None:
    files = ("/a.png", "/a.png", "/b.png", "/c.png", "/d.png", "/e.png")
    images, labels = torch.arange(6).byte()[:, None, None, None], torch.tensor([0, 1, 0, 1, 0, 1])
    part = images, labels, Origin(torch.arange(6), files)
    whole = DataSplits.from_pixels(part, (images, labels), class_names=("a", "b"), validation=0.0)
    left = dropped(whole, listed(tmp_path, f"sample,file\n{line}\n"))
    assert left.train.origin is not None
    assert left.train.origin.positions.tolist() == [each for each in range(6) if each not in gone]

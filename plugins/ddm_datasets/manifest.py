"""Your own images as files, listed with their labels in a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from ddm_datasets.decoding import Decoding, OnError
from ddm_framework import DataError, is_file, shown
from ddm_framework.data import DataSplits, read_table

SPLITS = {"train": "train", "test": "test", "validation": "validation", "val": "validation", "valid": "validation"}
"""What the column `split` may hold, and which split it means."""
RULE = "a manifest is a CSV file with the columns path,label and perhaps split and group"


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the manifest: its number in the file, and its cells."""

    line: int
    file: str
    label: str
    split: str
    group: str


def load(
    *,
    path: Path | None = None,
    size: Annotated[int, Field(ge=1)] = 32,
    grayscale: bool = False,
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    cache: Path | None = None,
    on_error: OnError = "raise",
) -> DataSplits:
    """A CSV file with the columns `path,label`, and perhaps `split` and `group`; other columns are not read.

    Paths are relative to the file. Labels are names of classes, which are sorted. `split` holds `train`, `test` or
    `validation`; without it the test split is cut here, and without `validation` among them that one. Samples of one
    `group`, such as the photographs of one patient, then stay together. Images are prepared as in `imagefolder`.

    Args:
        path: the CSV file, UTF-8, with a header.
        size: height and width, in pixels.
        grayscale: one channel instead of three.
        test_share: share of each class used as test images if there is no column `split`.
        train_size: number of training images (validation included), a stratified draw; all if left out.
        test_size: the same for the test images.
        validation: share of the training images held out for validation, where the table names none.
        cache: a folder for the decoded pixels, which are then read from disk as needed.
        on_error: refuse a file that cannot be read as an image, or skip it.
    Raises:
        DataError: naming the line that is wrong, or if an image cannot be read, there are fewer images than asked for,
            or the cache cannot be written.
    """
    if path is None:
        raise DataError(f"the data set manifest needs `path:`; {RULE}")
    rows = _rows(path)
    if on_error == "raise":
        _refuse_missing(path, rows)
    tested = _in_split(rows, "test", test_share, path, "test_share")
    names = sorted({row.label for row, is_test in zip(rows, tested, strict=True) if not is_test})
    ids = {name: label for label, name in enumerate(names)}
    if strangers := [row for row in rows if row.label not in ids]:
        raise DataError(f"{path}:{strangers[0].line}: no training image has the label {shown(strangers[0].label)}")
    decoding = Decoding(size, "L" if grayscale else "RGB", cache, on_error)
    parts = []
    for wanted, number, option in ((False, train_size, "train_size"), (True, test_size, "test_size")):
        places = [place for place, is_test in enumerate(tested) if is_test == wanted]
        if not places:
            raise DataError(f"{path} names no {'test' if wanted else 'training'} image; {RULE}")
        files = [(str(path.parent / rows[place].file), ids[rows[place].label]) for place in places]
        parts.append(decoding.read(files, number, option, places))
    train, test = parts
    kept = [rows[place] for place in train.part[2].positions.tolist()]
    held = _in_split(kept, "validation", validation, path, "validation")
    return DataSplits.from_pixels(
        train.part,
        test.part,
        class_names=tuple(names),
        validation=torch.tensor(held, dtype=torch.bool),
        notes=[*train.told, *test.told, *_torn_groups(rows, tested)],
    )


def _rows(path: Path) -> list[_Row]:
    table = read_table(path, RULE)
    if missing := [name for name in ("path", "label") if name not in table.columns]:
        raise DataError(f"{path} has no column {missing[0]} (columns: {', '.join(table.columns) or 'none'}); {RULE}")
    rows = [_row(path, line, cells, table.columns) for line, cells in table.rows]
    if not rows:
        raise DataError(f"{path} lists no image; {RULE}")
    return rows


def _refuse_missing(path: Path, rows: Sequence[_Row]) -> None:
    for row in rows:
        if not is_file(path.parent / row.file):
            raise DataError(
                f"{path}:{row.line}: there is no file {path.parent / row.file}; correct the line or remove it, or leave"
                " such files out with `on_error: skip`"
            )


def _row(path: Path, line: int, cells: dict[str, str], columns: Sequence[str]) -> _Row:
    told = {name: cells.get(name, "") for name in ("path", "label", "split", "group")}
    for name in ("path", "label", *(["split"] if "split" in columns else [])):
        if not told[name]:
            raise DataError(f"{path}:{line}: the cell of the column {name} is empty")
    if "split" in columns and told["split"].lower() not in SPLITS:
        raise DataError(f"{path}:{line}: a split is train, validation or test, not {shown(told['split'])}")
    return _Row(line, told["path"], told["label"], SPLITS.get(told["split"].lower(), ""), told["group"])


def _in_split(rows: Sequence[_Row], split: str, share: float, path: Path, option: str) -> list[bool]:
    """Which samples are in a split: those that say so, or else a share of each class that tears no group apart."""
    named = [row.split == split for row in rows]
    if any(named) or (split == "test" and any(row.split for row in rows)):
        return named
    held = _drawn(rows, share)
    if share and split == "test" and not any(held):
        raise DataError(f"`{option}: {share}` of the {len(rows)} images that {path} names leaves none; raise it")
    return held


def _drawn(rows: Sequence[_Row], share: float) -> list[bool]:
    """Groups at random, as long as no class gives more than its share, rounded; a sample without one is a group."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault((row.group and f"group {row.group}") or f"sample {place}", []).append(place)
    room = {label: round(share * count) for label, count in _counted(rows).items()}
    held = [False] * len(rows)
    members = list(groups.values())
    for index in torch.randperm(len(members), generator=torch.Generator().manual_seed(0)).tolist():
        wanted = _counted(rows[place] for place in members[index])
        if all(count <= room[label] for label, count in wanted.items()):
            for label, count in wanted.items():
                room[label] -= count
            for place in members[index]:
                held[place] = True
    return held


def _counted(rows: Iterable[_Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.label] = counts.get(row.label, 0) + 1
    return counts


def _torn_groups(rows: Sequence[_Row], tested: Sequence[bool]) -> list[str]:
    """A sentence on groups that the table itself puts on both sides."""
    sides: list[set[str]] = [set(), set()]
    for row, is_test in zip(rows, tested, strict=True):
        sides[is_test].add(row.group)
    torn = sorted((sides[0] & sides[1]) - {""})
    if not torn:
        return []
    named = ", ".join(torn[:3]) + (", ..." if len(torn) > 3 else "")
    return [f"{len(torn)} of the groups are both in training and in test: {named}"]

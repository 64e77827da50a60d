"""Training samples that a run does without: a list of them as a CSV file (`dataset.drop`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import torch

from ddm_framework.data.splits import DataSplits, Kept, Origin
from ddm_framework.data.tables import read_table
from ddm_framework.errors import DataError, readable, shown

RULE = (
    "a list of samples to drop is a CSV file with a column `file` or `sample`, such as the one that `ddm audit --drop`"
    " writes"
)
YES, NO = (
    frozenset({"1", "1.0", "true", "yes", "y", "x", "drop"}),
    frozenset({"", "0", "0.0", "false", "no", "n", "keep"}),
)
"""What a column `drop`, where there is one, may hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list.

    Attributes:
        line: its number in the file.
        file: path of the sample; empty if the line names none.
        sample: its index in the source's own order; None if the line names none.
    """

    line: int
    file: str
    sample: int | None


def dropped(data: DataSplits, path: Path) -> DataSplits:
    """The data without the training samples that a file lists; the other splits and the normalisation stay.

    A sample is named by its file, or, where samples are no files, by its index in the source's own order. With a column
    `drop` only lines that say yes there count, and with a column `split` only those of `train`.

    Args:
        data: whole.
        path: the list.
    Raises:
        DataError: naming the line that is wrong, if no line names a training sample, or if a class loses its last one.
    """
    origin = data.train.origin or Origin(torch.arange(len(data.train)))
    entries = read_entries(path)
    places = _Places(origin)
    found = {entry.line: places.of(entry) for entry in entries}
    gone = torch.zeros(len(data.train), dtype=torch.bool)
    gone[torch.tensor([place for each in found.values() for place in each], dtype=torch.int64)] = True
    missing = [entry for entry in entries if not found[entry.line]]
    if entries and not gone.any():
        raise DataError(f"{path}: no line names a training sample, the first being line {entries[0].line}; {RULE}")
    index = (~gone).nonzero()[:, 0]
    train = data.train.take(index.to(data.train.labels.device))
    if lost := sorted(set(range(data.info.num_classes)) - set(train.labels.tolist())):
        names = ", ".join(data.info.class_names[label] for label in lost[:5])
        raise DataError(f"{path}: no training image would be left of class {names}; drop fewer")
    notes = [f"{int(gone.sum())} of {len(gone)} training images are left out, as {path.name} says"]
    if missing:
        notes[0] += f"; {len(missing)} of its lines name no training image, the first being line {missing[0].line}"
    return replace(data, train=train, notes=(*data.notes, *notes), kept=Kept(len(gone), index))


def read_entries(path: Path) -> list[Entry]:
    """The lines of a list that count.

    Raises:
        DataError: if it is no such file, or naming the line that is wrong.
    """
    table = read_table(path, RULE)
    if not {"file", "sample"} & set(table.columns):
        raise DataError(f"{path} has the columns {', '.join(table.columns) or 'none'}; {RULE}")
    return [_entry(path, line, cells) for line, cells in table.rows if _counts(path, line, cells)]


def _counts(path: Path, line: int, cells: Mapping[str, str]) -> bool:
    said = cells.get("drop", "yes").lower()
    if said not in YES | NO:
        raise DataError(f"{path}:{line}: the column drop holds yes or no, or 1 or nothing, not {shown(said)}")
    return said in YES and cells.get("split", "train") in {"train", ""}


def _entry(path: Path, line: int, cells: Mapping[str, str]) -> Entry:
    file, sample = cells.get("file", ""), cells.get("sample", "")
    if sample and not sample.isdecimal():
        raise DataError(f"{path}:{line}: a sample is an index from 0, not {shown(sample)}")
    if not file and not sample:
        raise DataError(f"{path}:{line}: neither a file nor a sample is named")
    return Entry(line, file, int(sample) if sample else None)


class _Places:
    """Positions in the training split by file, by the end of a path where only one file has it, and by index.

    A table may list a file twice; then the index tells which is meant, and without it both are.
    """

    def __init__(self, origin: Origin) -> None:
        self._files: dict[str, list[int]] = {}
        for place, file in enumerate(origin.files):
            self._files.setdefault(readable(file), []).append(place)
        self._samples = {sample: place for place, sample in enumerate(origin.positions.tolist())}
        self._names: dict[str, list[str]] = {}
        for file in self._files:
            self._names.setdefault(PurePath(file).name, []).append(file)

    def of(self, entry: Entry) -> list[int]:
        """Of the sample that a line names; none if it is not in the training split."""
        numbered = [] if entry.sample is None else [self._samples.get(entry.sample, -1)]
        if not entry.file or not self._files:
            return [place for place in numbered if place >= 0]
        places = self._of_file(entry.file)
        return [place for place in numbered if place in places] or places

    def _of_file(self, name: str) -> list[int]:
        if name in self._files:
            return self._files[name]
        ends = "/" + name.removeprefix("./")
        same = [file for file in self._names.get(PurePath(name).name, ()) if file.endswith(ends)]
        return self._files[same[0]] if len(same) == 1 else []

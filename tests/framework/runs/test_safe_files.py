"""A file of a run is the old one or the new one, never half of one; and what is not ours is told from what is."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddm_framework.errors import RunFolderError
from ddm_framework.runs.safe_files import json_text, load_json, save_json, save_text, write_atomically
from ddm_framework.runs.tensor_files import save_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "empty": torch.zeros(0, 4)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_tensors(tmp_path / "x", TENSORS)
        save_text(tmp_path / "y", "text")
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xy"} == {0o644}


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "x", []
    write_atomically(path, b"old")

    def fsync(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"newer")
    assert seen == [(5, b"old")]
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("failing_call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: str, error: BaseException
) -> None:
    path = tmp_path / "x"
    save_text(path, "old")
    monkeypatch.setattr(os if failing_call == "fsync" else Path, failing_call, failing(error))
    expected = RunFolderError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        save_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(RunFolderError, match=r"cannot write .*x: the disk is full; free some space and run the same"):
        save_tensors(tmp_path / "x", TENSORS)


def test_a_file_that_the_system_refuses_to_hold_is_not_left_in_part(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    save_text(tmp_path / "x", "old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RunFolderError, match=r"cannot write .*: File too large"):
            save_tensors(tmp_path / "x", {"large": torch.zeros(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("parts", [("file", "x"), ("file", "deep", "x"), ("folder",), ("n" * 300,)])
def test_a_place_where_no_file_can_be_is_named(tmp_path: Path, parts: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFolderError, match=r"cannot write .*" + parts[-1]):
        save_text(tmp_path.joinpath(*parts), "text")
    assert names(tmp_path) == ["file", "folder"]


def test_what_is_not_finite_becomes_null() -> None:
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5], 3: (np.float32("nan"), torch.tensor(math.nan))}
    assert json.loads(json_text(value)) == {"a": None, "b": [None, None, 1.5], "3": [None, None]}


def test_numbers_of_torch_and_numpy_become_plain_ones() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": torch.tensor(2), "d": torch.ones(2, 1), "e": True, "f": None}
    assert json.loads(json_text(value)) == {"a": 0.5, "b": [0, 1, 2], "c": 2, "d": [[1.0], [1.0]], "e": True, "f": None}


def test_what_json_cannot_hold_is_an_error() -> None:
    with pytest.raises(TypeError):
        json_text({"a": object()})


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(PLAIN)
def test_plain_values_come_back_from_json_as_they_were(value: Any) -> None:
    assert json.loads(json_text(value)) == value


def test_json_is_written_in_utf8(tmp_path: Path) -> None:
    save_json(tmp_path / "x", {"Größe": "✓"})
    assert "Größe" in (tmp_path / "x").read_bytes().decode("utf-8")
    assert load_json(tmp_path / "x") == {"Größe": "✓"}


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RunFolderError, match="x is not readable JSON"):
        load_json(tmp_path / "x")


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="x is missing; run with --fresh"):
        load_json(tmp_path / "x")

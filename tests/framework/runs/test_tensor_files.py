"""Tensors come back as they were; a truncated or foreign file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ddm_framework.errors import RunFolderError
from ddm_framework.runs.tensor_files import check_tensors, load_tensors, save_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "empty": torch.zeros(0, 4)}


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "x.safetensors"
    save_tensors(path, {**TENSORS, "view": TENSORS["a"].T, "same": TENSORS["a"]})
    loaded = load_tensors(path, ["a", "same"])
    assert torch.equal(loaded["view"], TENSORS["a"].T)
    assert all(torch.equal(loaded[name], each) and loaded[name].dtype == each.dtype for name, each in TENSORS.items())
    assert [each.name for each in path.parent.iterdir()] == ["x.safetensors"]


def test_no_tensors_at_all_can_be_saved(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {})
    assert load_tensors(tmp_path / "x") == {}


def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_tensors(path, TENSORS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RunFolderError, match=r"x is truncated or not a safetensors file .*; run with --fresh"):
            check_tensors(path)
    path.write_bytes(whole)
    check_tensors(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(100), b"\xff" * 100, b"{}" * 40])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RunFolderError, match="truncated or not a safetensors file"):
        load_tensors(tmp_path / "x")


def test_a_missing_file_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"x is missing; run with --fresh to make it again"):
        load_tensors(tmp_path / "x")
    (tmp_path / "x").mkdir()
    with pytest.raises(RunFolderError, match="x is truncated or not a safetensors file"):
        load_tensors(tmp_path / "x")


def test_other_tensors_than_those_wanted_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", TENSORS)
    with pytest.raises(RunFolderError, match=r"not what ddm wrote there: it lacks 'c' and holds \['a', 'b', 'empty'\]"):
        load_tensors(tmp_path / "x", ["a", "c"])


@pytest.mark.parametrize("found", [None, {}, {"inputs": "2"}, {"inputs": "1"}, {"inputs": "1", "file": "y"}])
def test_another_stamp_than_the_one_wanted_is_refused(tmp_path: Path, found: dict[str, str] | None) -> None:
    wanted = {"inputs": "1", "file": "x"}
    save_tensors(tmp_path / "x", TENSORS, found)
    with pytest.raises(RunFolderError, match="it comes from another run; run with --fresh"):
        load_tensors(tmp_path / "x", stamp=wanted)
    save_tensors(tmp_path / "x", TENSORS, {**wanted, "more": "than that"})
    assert load_tensors(tmp_path / "x", stamp=wanted).keys() == TENSORS.keys()

"""Files that others publish: fetched whole or not at all, and checked."""

from __future__ import annotations

import hashlib
from http.client import IncompleteRead
from pathlib import Path

import pytest
from ddm_datasets.published import Published, download_file, verify

from ddm_framework.errors import DataError


def test_a_file_is_downloaded_under_its_own_name_when_it_is_whole(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "file").write_bytes(b"content")
    download_file(f"{address}/file", tmp_path / "data" / "mine", hashlib.md5(b"content").hexdigest())
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]
    assert (tmp_path / "data" / "mine").read_bytes() == b"content"


def test_another_content_is_not_kept(tmp_path: Path, served: tuple[Path, str]) -> None:
    (served[0] / "file").write_bytes(b"content")
    with pytest.raises(RuntimeError, match="corrupted"):
        download_file(f"{served[1]}/file", tmp_path / "data" / "mine", hashlib.md5(b"other").hexdigest())
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("failure", [PermissionError("read-only"), RuntimeError(" no mirror "), IncompleteRead(b"x")])
def test_failures_come_with_the_reason_and_the_way_by_hand(tmp_path: Path, failure: Exception) -> None:
    def fetch() -> None:
        raise failure

    published = Published("Pets", "https://pets", tmp_path, (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(DataError) as error:
        published.provide(["a"], fetch, download=True)
    assert str(error.value) == (
        f"Pets could not be downloaded: {str(failure).strip()}\n"
        f"place these files by hand (from https://pets or any mirror):\n    {tmp_path / 'a'}\n    {tmp_path / 'b'}"
    )


def test_nothing_is_fetched_unless_something_is_missing(tmp_path: Path) -> None:
    published = Published("Pets", "https://pets", tmp_path, (tmp_path / "a",))
    published.provide([], lambda: pytest.fail("fetched"), download=True)
    with pytest.raises(DataError, match=r"Pets: no a, b under .*; set `download: true`, or place these files by hand"):
        published.provide(["a", "b"], lambda: pytest.fail("fetched"), download=False)


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    verify(tmp_path / "file", hashlib.md5(b"content").hexdigest())
    with pytest.raises(
        DataError, match="file is damaged or another file: its md5 sum is not 0; remove it and fetch it"
    ):
        verify(tmp_path / "file", "0")

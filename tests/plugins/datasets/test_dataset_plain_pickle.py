"""Pickles that are read without running anything: as Python 2 wrote them, as Python 3 does, and forged ones."""

from __future__ import annotations

import pickle
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ddm_datasets.plain_pickle import read_plain_pickle

from ddm_framework.errors import DataError

ARRAY = np.arange(24, dtype=np.uint8).reshape(4, 6)


class _Python2Pickler(pickle._Pickler):
    """Strings and bytes as Python 2 wrote its only kind of string."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        short = len(content) < 256
        self.write(pickle.SHORT_BINSTRING if short else pickle.BINSTRING)
        self.write(struct.pack("<B" if short else "<i", len(content)) + content)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(content: object) -> bytes:
    """A pickle as the published files are."""
    file = BytesIO()
    _Python2Pickler(file, 2).dump(content)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.mark.parametrize("write", [python2_pickle, lambda content: pickle.dumps(content, 4)], ids=["2", "3"])
@pytest.mark.parametrize("array", [ARRAY, np.asfortranarray(ARRAY), np.zeros((0, 3), np.uint8)])
def test_plain_data_and_arrays_are_read(write: Any, array: Any) -> None:
    found = read_plain_pickle(write({"data": array, "labels": [1, 2], "é": "ü", "none": None}), "here")
    assert np.array_equal(found.pop("data"), array)
    assert found == {"labels": [1, 2], "é": "ü", "none": None}


class Bomb:
    """Calls a function when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_function_is_refused_uncalled(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"data": Bomb(Path.touch, tmp_path / "exploded")}, protocol)
    with pytest.raises(DataError, match=r"^here is a pickle that asks for .*, which could run code; it was not read"):
        read_plain_pickle(content, "here")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "numpy.ndarray.__class__"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
    ],
)
def test_forged_pickles_name_what_they_ask_for(content: bytes, name: str) -> None:
    with pytest.raises(DataError, match=f"asks for {name}, which could run code"):
        read_plain_pickle(content, "here")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        pickle.dumps({"data": ARRAY}, 4)[:-40],
        pickle.dumps([1, 2]),
        b"Pname\n.",
        pickle.dumps({"data": ARRAY.astype(np.int64)}, 4),
        pickle.dumps({"data": np.array([{}], object)}, 4),
        b"\x80\x04}\x8c\x01xcnumpy\nndarray\n)Rs.",
        b"cnumpy\nndarray\n}b.",
    ],
    ids=["empty", "text", "cut", "list", "persistent id", "int64", "objects", "array without state", "class"],
)
def test_what_is_no_pickle_of_arrays(content: bytes) -> None:
    with pytest.raises(
        DataError, match=r"(?s)^here is not a pickle of arrays, or damaged: .*; remove it and fetch it anew"
    ):
        read_plain_pickle(content, "here")

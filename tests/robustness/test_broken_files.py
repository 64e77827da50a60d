"""Archives, arrays, images and run folders with bytes changed: read as they are, or refused in a sentence."""

from __future__ import annotations

import io
import random
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ddm_datasets.npz import load
from ddm_datasets.unzipping import extract_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from run_fixtures import copied, ddm, save_data
from tries import TIMES, tried

from ddm_framework.data.image_files import fitted, open_image
from ddm_framework.errors import DataError, DDMError

NAMES = ("x_train", "y_train", "x_test", "y_test", "class_names")
changes = st.lists(
    st.tuples(st.sampled_from(["flip", "byte", "cut", "insert", "swap", "zero"]), st.floats(0, 1), st.integers(0, 255)),
    min_size=1,
    max_size=3,
)


def changed(content: bytes, steps: list[tuple[str, float, int]]) -> bytes:
    """Bytes with some of them changed."""
    data = bytearray(content)
    for kind, where, value in steps:
        at = min(int(where * len(data)), max(len(data) - 1, 0))
        if not data:
            return b""
        if kind == "flip":
            data[at] ^= 1 << (value % 8)
        elif kind == "byte":
            data[at] = value
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = bytes([value]) * (1 + value % 7)
        elif kind == "swap":
            other = (at + value + 1) % len(data)
            data[at], data[other] = data[other], data[at]
        else:
            data[at : at + 1 + value % 16] = bytes(1 + value % 16)
    return bytes(data)


def read_or_refused(read: Callable[[], Any]) -> None:
    """Nothing but a user's error comes out, and nothing is printed beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read()
        except DDMError as error:
            assert "Traceback" not in str(error)
            assert len(str(error)) < 2000


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small archives, stored and compressed, and the members of a folder."""
    folder = tmp_path_factory.mktemp("arrays")
    save_data(folder / "plain.npz", num_train=6, class_names=np.array(["a", "b", "c"]))
    with np.load(folder / "plain.npz") as found:
        np.savez_compressed(folder / "packed.npz", **found)
        for name in found.files:
            np.save(folder / f"{name}.npy", found[name])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@tried(300)
@given(steps=changes, name=st.sampled_from(["plain.npz", "packed.npz"]), near_end=st.booleans())
def test_archives_of_arrays(
    steps: list[tuple[str, float, int]], name: str, near_end: bool, arrays: dict[str, bytes], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    content = arrays[name]
    at = len(content) - 600 if near_end else 0  # where the directory lies
    path.write_bytes(content[:at] + changed(content[at:], steps))
    read_or_refused(lambda: load(path=path))


@tried(200)
@given(
    steps=changes, name=st.sampled_from(["x_train", "y_train", "x_test", "y_test", "class_names"]), head=st.booleans()
)
def test_folders_of_arrays(
    steps: list[tuple[str, float, int]], name: str, head: bool, arrays: dict[str, bytes], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    for each, content in arrays.items():
        if each.endswith(".npy"):
            (folder / each).write_bytes(content)
    content = arrays[f"{name}.npy"]
    end = 128 if head else len(content)
    (folder / f"{name}.npy").write_bytes(changed(content[:end], steps) + content[end:])
    read_or_refused(lambda: load(path=folder))


@pytest.fixture(scope="module")
def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("tiny/", "")
        for name in ("tiny/words.txt", "tiny/train/a/images/a_0.JPEG", "tiny/val/images/b.JPEG"):
            made.writestr(name, name * 20)
    return file.getvalue()


@tried(200)
@given(steps=changes)
def test_archives_of_files(steps: list[tuple[str, float, int]], archive: bytes, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "tiny.zip").write_bytes(changed(archive, steps))
    read_or_refused(lambda: extract_folder(folder / "tiny.zip", "tiny"))
    assert {path.name for path in folder.iterdir()} <= {"tiny", "tiny.zip"}


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    made = {}
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        noise.save(file, name)
        made[name] = file.getvalue()
    return made


@tried(200)
@given(steps=changes, name=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), head=st.booleans())
def test_images(
    steps: list[tuple[str, float, int]], name: str, head: bool, pictures: dict[str, bytes], tmp_path_factory: Any
) -> None:
    path, content = tmp_path_factory.getbasetemp() / "changed.img", pictures[name]
    end = 64 if head else len(content)
    path.write_bytes(changed(content[:end], steps) + content[end:])
    read_or_refused(lambda: fitted(open_image(path, "RGB"), 8, 8))


def test_run_folders(tmp_path: Path, finished: Path) -> None:
    chance = random.Random(0)
    names = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    run = copied(finished, tmp_path / "sent")
    Image.new("L", (6, 6), 100).save(tmp_path / "five.png")
    ended = {0: 0, 2: 0}
    for number in range(100 * TIMES):
        name = chance.choice(names)
        content = (finished / name).read_bytes()
        kinds = ["flip", "byte", "cut", "insert", "swap", "zero"]
        count = chance.randint(1, 3)
        steps = [(chance.choice(kinds), chance.random() ** 2, chance.randint(0, 255)) for _ in range(count)]
        (run / name).write_bytes(changed(content, steps))
        asked = ["attribute", run, "--images", tmp_path / "five.png"]
        unlearned = ["unlearn", run, "--clusters", "1", "--out", tmp_path / "net.safetensors"]
        status, _, told = ddm(*(asked if number % 2 else unlearned))
        assert status in (0, 2), f"{name} {steps}: {told}"
        assert "Traceback" not in told
        ended[status] += 1
        shutil.rmtree(run)
        copied(finished, tmp_path / "sent")
    assert min(ended.values()) > 5


def claiming(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    """An .npy file whose header claims more than it holds."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + b"\0" * 64


def zipped(path: Path, arrays: dict[str, bytes], **replaced: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in arrays.items():
            if name.endswith(".npy"):
                made.writestr(name, replaced.get(name.removesuffix(".npy"), content))
    return path


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (claiming((10**12, 32, 32, 3)), "its header claims"),
        (claiming((2**62, 2**62)), "its header claims"),
        (claiming((-1, 6, 6)), "its header claims"),
        (claiming((4, 6, 6), "|O"), "Python objects"),
        (claiming((1, 8, 8, 0)), "cannot be read, the file is damaged|at least one pixel"),
        (b"\x93NUMPY\x09\x00v\x00", "version 9.0"),
        (b"GIF89a", "is not an array"),
        (b"", "is not an array"),
    ],
)
def test_headers_that_claim_what_cannot_be(content: bytes, told: str, arrays: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        load(path=zipped(tmp_path / "data.npz", arrays, x_train=content))


def test_images_without_channels(arrays: dict[str, bytes], tmp_path: Path) -> None:
    save_data(tmp_path / "data.npz", x_train=np.zeros((48, 6, 6, 0), np.uint8))
    with pytest.raises(DataError, match="at least one pixel and one channel"):
        load(path=tmp_path / "data.npz")


@pytest.mark.parametrize(
    "names", [np.array([b"\xff", b"b", b"c"]), np.array(["a\ud800", "b", "c"])], ids=["bytes", "half"]
)
def test_class_names_that_are_no_text(names: Any, tmp_path: Path) -> None:
    save_data(tmp_path / "data.npz", class_names=np.array(names))
    with pytest.raises(DataError, match="no UTF-8 text"):
        load(path=tmp_path / "data.npz")


def test_class_names_beyond_unicode(tmp_path: Path) -> None:
    names = np.frombuffer(np.array([0x110000, 98, 99], np.uint32).tobytes(), "<U1")
    save_data(tmp_path / "data.npz", class_names=names)
    with pytest.raises(DataError, match="no UTF-8 text"):
        load(path=tmp_path / "data.npz")


def test_class_names_in_bytes_are_utf8(tmp_path: Path) -> None:
    save_data(tmp_path / "data.npz", class_names=np.array(["ä".encode(), b"b", b"c"]))
    assert load(path=tmp_path / "data.npz").info.class_names == ("ä", "b", "c")


def patched(content: bytes, offset: int, code: str, value: int) -> bytes:
    """The archive with a field of every entry of its directory and of every local header replaced."""
    data = bytearray(content)
    for magic, field in ((b"PK\x01\x02", offset), (b"PK\x03\x04", offset - 2)):
        at = data.find(magic)
        while at >= 0:
            struct.pack_into(code, data, at + field, value)
            at = data.find(magic, at + 4)
    return bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "told"),
    [(8, 1, "encrypted"), (10, 99, "method|damaged"), (10, 12, "method"), (10, 14, "method")],
)
def test_encrypted_and_strange_members(
    offset: int, value: int, told: str, arrays: dict[str, bytes], archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "data.npz").write_bytes(patched(zipped(tmp_path / "x.npz", arrays).read_bytes(), offset, "<H", value))
    with pytest.raises(DataError, match=told):
        load(path=tmp_path / "data.npz")
    (tmp_path / "tiny.zip").write_bytes(patched(archive, offset, "<H", value))
    with pytest.raises(DataError, match=told):
        extract_folder(tmp_path / "tiny.zip", "tiny")
    assert not (tmp_path / "tiny").exists()


def test_bombs_and_doubles(arrays: dict[str, bytes], tmp_path: Path) -> None:
    lying = patched(zipped(tmp_path / "x.npz", arrays).read_bytes(), 24, "<I", 2**31)
    (tmp_path / "data.npz").write_bytes(lying)
    with pytest.raises(DataError, match="more than the file can hold"):
        load(path=tmp_path / "data.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("x_train.npy", arrays["x_test.npy"])
    with pytest.raises(DataError, match="twice"):
        load(path=tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as made:
        made.writestr("tiny/" + "d/" * 1000 + "x", "")
    with pytest.raises(DataError, match="a path of 1002 parts"):
        extract_folder(tmp_path / "deep.zip", "tiny")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with a right checksum and hardly any content."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((30_000, 30_000), "are decoded|exceeds limit"),
        ((1, 10_000_000), "are decoded"),
        ((2**31 - 1, 2**31 - 1), "are decoded|cannot be read"),
        ((3, 60_000), "a strip"),
    ],
)
def test_images_are_bounded_before_they_are_decoded(size: tuple[int, int], told: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png_claiming(*size))
    with pytest.raises(DDMError, match=told) as caught:
        open_image(tmp_path / "x.png", "RGB")
    assert "x.png" in str(caught.value)


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "YCbCr", "I", "F", "I;16", "1", "P", "LA"])
@pytest.mark.parametrize("wanted", ["L", "RGB", "RGBA"])
def test_colours_are_converted_or_refused(mode: str, wanted: str, tmp_path: Path) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "x.tiff")
    read_or_refused(lambda: open_image(tmp_path / "x.tiff", wanted))

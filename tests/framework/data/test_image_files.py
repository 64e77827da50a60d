"""Image files to pixels: what the decoder refuses, and pixels that are those of a data set of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional

from ddm_framework.answers.image_questions import read_images
from ddm_framework.data.image_files import fitted, open_image, read_image, to_pixels
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DataError

SIDES = st.integers(1, 40)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(SIDES, SIDES, SIDES)
def test_a_square_is_torchvision_s_resize_and_centre_crop(width: int, height: int, size: int) -> None:
    picture = noise(width, height)
    wanted = functional.center_crop(functional.resize(picture, [size]), [size])
    assert np.array_equal(to_pixels(fitted(picture, size, size)), functional.pil_to_tensor(wanted).numpy())


@given(SIDES, SIDES, SIDES, SIDES)
def test_any_size_is_reached_and_the_right_one_is_left_alone(width: int, height: int, wide: int, high: int) -> None:
    picture = noise(width, height)
    assert fitted(picture, high, wide).size == (wide, high)
    assert np.array_equal(fitted(picture, height, width), picture)


def test_nothing_is_distorted() -> None:
    picture = Image.new("L", (40, 10))
    picture.paste(255, (16, 0, 24, 10))
    assert to_pixels(fitted(picture, 10, 10))[0, 5].tolist() == [0] + [255] * 8 + [0]


def test_a_question_sees_the_pixels_that_the_data_set_had(tmp_path: Path) -> None:
    noise(31, 17).save(tmp_path / "x.png")
    _, asked = read_images([tmp_path / "x.png"], DataInfo((3, 8, 8), 2, (0.5,) * 3, (0.2,) * 3, ("a", "b")))
    had = to_pixels(fitted(open_image(tmp_path / "x.png", "RGB"), 8, 8))
    assert torch.equal(asked[0], torch.from_numpy(had.copy()) / 255)


def test_a_format_that_starts_programs_is_not_opened_whatever_its_name(tmp_path: Path) -> None:
    noise(8, 8).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png cannot be read as an image"):
        read_images([tmp_path / "x.png"], DataInfo((3, 8, 8), 2, (0.5,) * 3, (0.2,) * 3, ("a", "b")))


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[255, 0], [255, 0], [255, 0]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.asarray(open_image(tmp_path / "turned.png", "L")).tolist() == [[255] * 3, [0] * 3]


def test_truncated_image(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut\.png cannot be read as an image"):
        open_image(path, "RGB")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("inks", "light"), [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0)), ((0,) * 4, (255,) * 3)]
)
def test_each_ink_takes_away_its_light(
    tmp_path: Path, kind: str, inks: tuple[int, ...], light: tuple[int, ...]
) -> None:
    Image.new("CMYK", (8, 8), inks).save(tmp_path / "printed", kind)
    assert np.allclose(np.asarray(open_image(tmp_path / "printed", "RGB")), light, atol=2)


def test_of_an_animation_the_first_image_is_taken(tmp_path: Path) -> None:
    first, *later = (Image.new("RGB", (4, 4), colour) for colour in ((10, 200, 30), (0, 0, 0), (255, 255, 255)))
    for name in ("x.gif", "x.webp"):
        first.save(tmp_path / name, save_all=True, append_images=later, **({"lossless": True} if "w" in name else {}))
        assert np.allclose(np.asarray(open_image(tmp_path / name, "RGB")), (10, 200, 30), atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_half_of_the_light_comes_through_what_is_half_transparent(tmp_path: Path, mode: str) -> None:
    alpha = {"RGBA": (0, 0, 0, 128), "LA": (0, 128), "P": 0}[mode]
    picture = Image.new(mode, (4, 4), alpha)
    if mode == "P":
        picture.putpalette([0, 0, 0])
    picture.save(tmp_path / "x.png", **({"transparency": bytes([128])} if mode == "P" else {}))
    for wanted in ("L", "RGB"):
        read = read_image(tmp_path / "x.png", wanted)
        assert np.allclose(np.asarray(read.image), 127, atol=1)
        assert read.over_white
    assert np.asarray(open_image(tmp_path / "x.png", "RGBA"))[0, 0].tolist() == [0, 0, 0, 128]  # kept where it fits


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_every_kind_of_pixel_is_read_or_refused_by_name(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "x.tif")
    try:
        assert open_image(tmp_path / "x.tif", "L").mode == "L"
    except DataError as error:
        assert "x.tif" in str(error)


def test_sixteen_bits_are_refused_instead_of_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 30000, np.uint16)).save(tmp_path / "deep.png")
    message = r"deep\.png has more than 8 bits per channel \(mode I.*\); convert it to 8 bits"
    with pytest.raises(DataError, match=message):
        open_image(tmp_path / "deep.png", "L")

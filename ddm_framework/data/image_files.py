"""Image files to pixels: which formats are decoded, and how a picture of any size is fitted to the data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ddm_framework.errors import DataError, DDMError
from ddm_framework.files import FileError, check_file
from ddm_framework.resources import check_fits

MOST_PIXELS, MOST_PIXELS_IN_A_ROW, MOST_ELONGATED = 178_000_000, 65_535, 1000
"""Bounds of an image: its pixels, its longer side, and that side in multiples of the shorter one."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are decoded, whatever the file's name; some of Pillow's other formats start external programs."""
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".apng", ".gif", ".bmp"),
    *(".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""How the names of such files end; by these, images are told from other files in a folder."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An image file as it is used.

    Attributes:
        image: in the mode that was asked for.
        over_white: whether it was transparent somewhere, and so was put on white.
    """

    image: Image.Image
    over_white: bool


def open_image(path: Path, mode: str) -> Image.Image:
    """The image alone, as `read_image` reads it."""
    return read_image(path, mode).image


def read_image(path: Path, mode: str) -> Opened:
    """The image, turned upright, in Pillow's mode `L`, `RGB` or `RGBA`; the first one of an animation.

    What is transparent becomes white, as on paper, where the mode knows no transparency. Of CMYK, each ink takes away
    its light; colour profiles are not applied.

    Raises:
        DataError: if the file is damaged, is not an image, or has more than 8 bits per channel.
    """
    try:
        check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are bounded here, and of what is merely unusual
            with Image.open(path, formats=FORMATS) as file:
                _check_bounds(file)
                image = ImageOps.exif_transpose(file)
    except DDMError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # for a damaged file, decoders can raise anything
        raise unreadable(path, error) from error
    if image.mode.startswith(("I", "F")):  # Pillow would silently clip it to white
        raise DataError(f"{path} has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
    try:
        return _opened(image, mode)
    except Exception as error:
        raise unreadable(path, error) from error


def _opened(image: Image.Image, mode: str) -> Opened:
    if mode == "RGBA" or not image.has_transparency_data:
        return Opened(image.convert(mode), over_white=False)
    layered = image.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    lowest, _ = layered.getchannel("A").getextrema()
    return Opened(Image.alpha_composite(white, layered).convert(mode), over_white=lowest != 255)


def _check_bounds(image: Image.Image) -> None:
    """Refuse an image by its header, before it is decoded.

    Raises:
        DataError: for more pixels than a camera takes, or a strip that nothing can be seen in.
        MemoryShortageError: if it does not fit into the memory.
    """
    least, longest = sorted(image.size)
    if least < 1 or longest > MOST_PIXELS_IN_A_ROW or image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"{image.width:,} x {image.height:,} pixels, and at most {MOST_PIXELS:,} are decoded, in sides of at most"
            f" {MOST_PIXELS_IN_A_ROW:,}"
        )
    if longest > MOST_ELONGATED * least:
        raise DataError(f"{image.width:,} x {image.height:,} pixels are a strip and not an image")
    # Four bytes a pixel, once as decoded and once turned upright or converted.
    check_fits(8 * image.width * image.height, "it", "make it smaller")


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """The image resized to just cover the wanted size, then cropped to the centre; its aspect ratio is kept.

    For a square this is the usual resizing of the shorter side. Data sets of image files and `ddm attribute` share it,
    because queries must be prepared in the same way as the training images.
    """
    if image.width * height <= image.height * width:
        size = (width, max(int(image.height * width / image.width), height))
    else:
        size = (max(int(image.width * height / image.height), width), height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((has - wanted) / 2) for has, wanted in zip(size, (width, height), strict=True))
    return image.crop((left, top, left + width, top + height))


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 (C, H, W)."""
    values = np.array(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that is not an image."""
    reason = error.reason if isinstance(error, FileError) else error
    return DataError(f"{path} cannot be read as an image: {reason}; repair or remove it")

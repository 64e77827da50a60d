"""An image of one's own: decoded by the reader that decodes the data, and never stored under a name of the sender's."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from ddm_framework.answers import read_images
from ddm_framework.app.served_run import ServedRun
from ddm_framework.data.image_files import FORMATS
from ddm_framework.errors import DDMError

MOST_BYTES = 16 * 2**20
MOST_PIXELS = 50_000_000
"""A small file may hold a picture that fills the memory."""
MOST_NAME = 100


def received(served: ServedRun, name: str, content: bytes) -> str:
    """Read an image that was sent, and keep it as a query; returns its key.

    Args:
        served: the run.
        name: what the sender calls it; shown, and nothing else.
        content: of the file.
    Raises:
        DDMError: if it is no image, or too large.
    """
    shown = " ".join("".join(each if each.isprintable() else " " for each in name).split())[:MOST_NAME] or "image"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "image")
        file.write_bytes(content)
        try:
            _check_size(file)
            _, pixels = read_images([file], served.run.workspace.info)
        except DDMError as error:
            raise DDMError(str(error).replace(str(file), shown)) from None
    return served.add(served.run.queries(served.run.workspace.info.normalise(pixels), ids=[shown]))


def _check_size(file: Path) -> None:
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise DDMError(f"the image has more pixels than are read: {error}") from None
    except Exception:  # `read_images` says what is wrong with it
        return
    if width * height > MOST_PIXELS:
        raise DDMError(f"the image has {width} × {height} pixels; at most {MOST_PIXELS:,} are read; send a smaller one")

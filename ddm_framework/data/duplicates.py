"""Images that occur more than once, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ddm_framework.data.images import BLOCK, Images, StoredImages


def content_ids(*sets: Images) -> list[Tensor]:
    """A number for each image, the same for the same pixels in whichever set: int64 (N,), one tensor for each set."""
    known: dict[bytes, int] = {}
    return [torch.tensor([known.setdefault(each, len(known)) for each in _digests(images)]) for images in sets]


def _digests(images: Images) -> Iterator[bytes]:
    blocks = images.stored() if isinstance(images, StoredImages) else images.split(BLOCK)
    for block in blocks:
        for image in block.cpu().contiguous().numpy():
            yield hashlib.blake2b(image.data, digest_size=16).digest()

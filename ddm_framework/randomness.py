"""Every random draw derives from the recipe's seed and a purpose, never from global random state."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose: the same arguments give the same seed, on every machine."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; draws are moved to the device afterwards, so all devices get the same."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))

"""Shapes of data sets for networks to be built for, and one thread to try them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from ddm_framework.data.splits import DataInfo


@pytest.fixture
def info() -> Callable[..., DataInfo]:
    """`info(size, channels, classes)`, of square images."""

    def make(size: int = 8, channels: int = 1, classes: int = 3) -> DataInfo:
        names = tuple(map(str, range(classes)))
        return DataInfo((channels, size, size), classes, (0.5,) * channels, (0.25,) * channels, names)

    return make


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, which on a busy machine wait for one another ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

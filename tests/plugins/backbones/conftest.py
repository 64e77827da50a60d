"""Shapes of data sets for networks to be built for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ddm_framework.data import DataInfo


@pytest.fixture
def info() -> Callable[..., DataInfo]:
    """`info(size, channels, classes)`, of square images."""

    def make(size: int = 8, channels: int = 1, classes: int = 3) -> DataInfo:
        names = tuple(map(str, range(classes)))
        return DataInfo((channels, size, size), classes, (0.5,) * channels, (0.25,) * channels, names)

    return make

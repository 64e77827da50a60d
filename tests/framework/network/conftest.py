"""A stack of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ddm_framework.network.stacks import (
    Parameters,
)

if TYPE_CHECKING:
    from conftest import Toy


@pytest.fixture
def stack(toy: Toy) -> Parameters:
    return {name: torch.stack([each[name] for each in toy.trajectory.values()]) for name in toy.initial}

"""Logits of the target and of another network on five images of three classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddm_framework import Reference
from ddm_framework.data.splits import DataInfo

INFO = DataInfo((1, 2, 2), 3, (0.5,), (0.25,), ("a", "b", "c"))


def drawn(seed: int) -> Tensor:
    return 2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def logits() -> Tensor:
    return drawn(0)


@pytest.fixture
def labelled() -> Reference:
    return Reference(torch.zeros(5, 1, 2, 2), torch.tensor([0, 2, 1, 1, 0]), drawn(1), INFO)


@pytest.fixture
def unlabelled() -> Reference:
    return Reference(torch.zeros(5, 1, 2, 2), None, drawn(1), INFO)

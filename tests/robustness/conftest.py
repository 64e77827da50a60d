"""Broken and hostile inputs: how often each property is tried, and the small runs that are broken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "framework"))

TIMES = int(os.environ.get("DDM_FUZZ", "1"))
"""How many times as many inputs are tried; `make fuzz` tries ten times as many, and others each time."""

settings.register_profile(
    "robustness",
    derandomize=TIMES == 1,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe beside its data, to be copied."""
    from run_fixtures import finished_tiny

    return finished_tiny(tmp_path_factory.mktemp("whole"))

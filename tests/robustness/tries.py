"""How often each property is tried."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("DDM_FUZZ", "1"))
"""How many times as many inputs are tried as in an ordinary run of the tests; `make fuzz` sets it."""


def tried(count: int) -> settings:
    """So many inputs, the same ones every time."""
    return settings(
        max_examples=count * TIMES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

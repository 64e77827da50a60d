"""The paper's matching distances (Eq. 6, Table 5)."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_distances() -> Iterator[Component]:
    """Cosine and mean squared error."""
    yield Component(
        "cosine", "ddm_distances.cosine:distance", "One minus the cosine of two gradients", "Eq. 6, Table 5"
    )
    yield Component("mse", "ddm_distances.mse:distance", "Mean squared difference of two gradients", "Table 5")

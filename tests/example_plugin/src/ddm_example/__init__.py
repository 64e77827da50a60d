"""A backbone and an objective for ddm; keep heavy imports out of this file, as it is read whenever ddm starts."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_backbones() -> Iterator[Component]:
    """MLP-Mixer."""
    yield Component("mixer", "ddm_example.mixer:build", "An MLP-Mixer for small images", "Tolstikhin et al. 2021")


@hookimpl
def ddm_register_objectives() -> Iterator[Component]:
    """Surprise."""
    yield Component("surprise", "ddm_example.surprise:measure", "How unexpected the target's prediction becomes")

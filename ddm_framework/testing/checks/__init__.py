"""The contract of each kind of component, clause by clause."""

from __future__ import annotations

from types import ModuleType

from ddm_framework.testing.checks import (
    attributors,
    backbones,
    clusterers,
    datasets,
    distances,
    every_kind,
    objectives,
    studies,
)
from ddm_framework.testing.contract import Check


def _of(module: ModuleType, *, calls: bool = True) -> tuple[Check, ...]:
    """The checks of a file, in its order."""
    return tuple(Check(value, calls) for name, value in vars(module).items() if name.startswith("check_"))


COMMON = _of(every_kind, calls=False)
"""What is asked of a component of any kind."""

CHECKS: dict[str, tuple[Check, ...]] = {
    "dataset": _of(datasets),
    "backbone": _of(backbones),
    "clusterer": _of(clusterers),
    "distance": _of(distances),
    "objective": _of(objectives),
    "attributor": _of(attributors),
    "study": _of(studies),
}
"""What is asked of each kind beside that."""


def checks_of(kind: str) -> tuple[Check, ...]:
    """All checks of a kind: the common ones first."""
    return (*COMMON, *CHECKS[kind])

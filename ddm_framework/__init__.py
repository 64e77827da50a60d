"""ddm: which training data made this network do that, and what would it do without them?

Importing this package is cheap; names that need torch are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ddm_framework.attributors import attributor
from ddm_framework.components import Component
from ddm_framework.errors import DataError, DDMError, RecipeError
from ddm_framework.hookspecs import hookimpl
from ddm_framework.objectives import Reference, Surrogate, objective

if TYPE_CHECKING:
    from ddm_framework.api import Run, open_run, run
    from ddm_framework.brought import from_module
    from ddm_framework.data import DataInfo, DataSplits, ImageSet
    from ddm_framework.effects import Queries
    from ddm_framework.objectives import Reference as Reference
    from ddm_framework.reports import Report, Section
    from ddm_framework.workspace import Workspace

_LAZY = {
    "run": "ddm_framework.api",
    "open_run": "ddm_framework.api",
    "Run": "ddm_framework.api",
    "from_module": "ddm_framework.brought",
    "DataInfo": "ddm_framework.data",
    "DataSplits": "ddm_framework.data",
    "ImageSet": "ddm_framework.data",
    "Report": "ddm_framework.reports",
    "Section": "ddm_framework.reports",
    "Queries": "ddm_framework.effects",
    "Workspace": "ddm_framework.workspace",
}

__all__ = [
    "Component",
    "DDMError",
    "DataError",
    "DataInfo",
    "DataSplits",
    "ImageSet",
    "Queries",
    "RecipeError",
    "Reference",
    "Report",
    "Run",
    "Section",
    "Surrogate",
    "Workspace",
    "attributor",
    "from_module",
    "hookimpl",
    "objective",
    "open_run",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ddm_framework' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)

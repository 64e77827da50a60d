"""Libraries that only the comparison methods need, and that may not be installed."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from ddm_framework import DDMError


def needed(module: str, attributor: str) -> ModuleType:
    """Import a library that an attributor needs, without the warnings that this may give.

    Args:
        module: its name, as in `captum.influence`.
        attributor: for the message.
    Raises:
        DDMError: if it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise DDMError(
            f"attributor {attributor} needs {package}; install it with pip install 'ddm-framework[compare]'"
        ) from error

"""For plugin authors: the contract of each kind of component as checks, for pytest and for `ddm check`."""

from __future__ import annotations

from ddm_framework.testing.checks import checks_of
from ddm_framework.testing.contract import Check, ContractError, NotChecked
from ddm_framework.testing.pytest_marks import parametrize_with_checks
from ddm_framework.testing.running import Result, run_checks
from ddm_framework.testing.small_run import small_workspace
from ddm_framework.testing.subject import Subject

__all__ = [
    "Check",
    "ContractError",
    "NotChecked",
    "Result",
    "Subject",
    "checks_of",
    "parametrize_with_checks",
    "run_checks",
    "small_workspace",
]

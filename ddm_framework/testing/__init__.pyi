from .checks import checks_of
from .contract import Check, ContractError, NotChecked
from .pytest_marks import parametrize_with_checks
from .running import Result, run_checks
from .small_run import small_workspace
from .subject import Subject

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

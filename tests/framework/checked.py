"""Components made of plain functions, and which checks they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ddm_framework.plugin.components import Component
from ddm_framework.plugin.registry import Registered, Registry
from ddm_framework.testing import Subject
from ddm_framework.testing.checks import checks_of
from ddm_framework.testing.running import Result, result_of

_MODULE = "functions_under_check"


def subject_of(kind: str, function: Callable[..., Any], *, summary: str = "To be checked", **options: Any) -> Subject:
    """A function as a registered component."""
    module = sys.modules.setdefault(_MODULE, ModuleType(_MODULE))
    name = f"{kind}_{function.__name__.strip('<>')}_{id(function)}"
    setattr(module, name, function)
    return Subject(
        Registered(kind, Component("tried", f"{_MODULE}:{name}", summary), "tests"), Registry((), []), options
    )


def results_of(subject: Subject) -> dict[str, Result]:
    """Every check's result, by name."""
    return {check.name: result_of(check, subject) for check in checks_of(subject.kind)}


def result(kind: str, check: str, function: Callable[..., Any], **options: Any) -> Result:
    """What one check finds."""
    (chosen,) = (each for each in checks_of(kind) if each.name == check)
    return result_of(chosen, subject_of(kind, function, **options))


def assert_caught(kind: str, check: str, function: Callable[..., Any]) -> None:
    """The check fails, and says more than that."""
    found = result(kind, check, function)
    assert found.outcome == "failed", found
    assert len(found.message) > 20


def assert_all_pass(kind: str, function: Callable[..., Any]) -> None:
    """Nothing fails, and nothing is skipped."""
    others = [each for each in results_of(subject_of(kind, function)).values() if each.outcome != "passed"]
    assert not others

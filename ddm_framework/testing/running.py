"""Run checks and say what each found: what `ddm check` prints."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ddm_framework.plugin.registry import Registry
from ddm_framework.testing.checks import checks_of
from ddm_framework.testing.contract import Check, ContractError, NotChecked
from ddm_framework.testing.subject import NO_OPTIONS, Options, Subject, plugins_of, subjects

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found.

    Attributes:
        kind, name: of the component.
        check: name of the check.
        outcome: `skipped` where the check could not be made.
        message: what is wrong and what to do, or why it was skipped.
        seconds: that it took.
    """

    kind: str
    name: str
    check: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """The check in words."""
        return self.check.removeprefix("check_").replace("_", " ")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_checks(registry: Registry, plugin: str | None = None, options: Options = NO_OPTIONS) -> Iterator[Result]:
    """Check the components of a plugin, or of all, one result at a time.

    Args:
        registry: where they are.
        plugin: a distribution, one of its entry points as `ddm plugins` names it, or a local file.
        options: that some components are checked with, as in `{"dataset.mnist": {"root": "data"}}`.
    Raises:
        DDMError: for an unknown plugin, or options that do not fit.
    """
    chosen = subjects(registry, plugin=plugin, options=options)
    for each in registry.plugins if plugin is None else plugins_of(registry, plugin):
        if each.failure:
            yield Result("plugin", each.name, "check_it_loads", "failed", each.failure)
    for subject in chosen:
        for check in checks_of(subject.kind):
            yield result_of(check, subject)


def count_checks(registry: Registry, plugin: str | None = None) -> int:
    """How many results there will be, but for plugins that do not load."""
    return sum(len(checks_of(subject.kind)) for subject in subjects(registry, plugin=plugin))


def result_of(check: Check, subject: Subject) -> Result:
    """Make one check; whatever it raises becomes the result."""
    outcome: Outcome = "passed"
    message, begun = "", time.monotonic()
    try:
        check(subject)
    except NotChecked as reason:
        outcome, message = "skipped", str(reason)
    except ContractError as error:
        outcome, message = "failed", str(error)
    except Exception as error:
        outcome, message = "failed", _told(error)
    return Result(subject.kind, subject.name, check.name, outcome, message, round(time.monotonic() - begun, 3))


def _told(error: Exception) -> str:
    """What a component raised by accident, with the line where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split()) or "no message"
    return f"it raised {type(error).__name__}: {text}{place}\nlet it work, or raise a DDMError that says what to change"

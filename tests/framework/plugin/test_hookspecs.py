"""Every hook is explained by an example that passes the conformance checks, and every hook is checked and tested."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import pytest

from ddm_framework.plugin import hookspecs
from ddm_framework.plugin.components import KINDS, hook_name
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.testing import run_checks
from ddm_framework.testing.checks import CHECKS

TESTS = Path(__file__).resolve().parents[2]
PRELUDE = """\
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ddm_framework import Component, DataSplits, Report, Section, hookimpl, objective
from ddm_framework.report import Text

"""


def example(kind: str) -> str:
    """The indented blocks of a hook's docstring, which hold code; in a single file its functions are the targets."""
    doc = inspect.getdoc(getattr(hookspecs, hook_name(kind))) or ""
    code = textwrap.dedent("\n".join(line for line in doc.splitlines() if line.startswith("    ") or not line))
    return re.sub(r'"my_package\.\w+:(\w+)"', r'f"{__name__}:\1"', code)


def test_there_is_one_hook_for_each_kind_and_no_other() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("ddm_register_")]
    assert hooks == [hook_name(kind) for kind in KINDS]
    assert all(not inspect.signature(getattr(hookspecs, hook)).parameters for hook in hooks)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_line_says_what_a_target_takes_and_returns(kind: str) -> None:
    first, _, _ = (inspect.getdoc(getattr(hookspecs, hook_name(kind))) or "").partition("\n")
    assert "(" in first
    assert "->" in first


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_a_plugin_that_passes_every_check(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"{kind}_example.py"
    file.write_text(PRELUDE + example(kind), encoding="utf-8")
    registry = load_plugins([file])
    ((found, component),) = registry.plugins[-1].components
    assert found == kind
    assert component.summary
    results = list(run_checks(registry, str(file)))
    assert not [(each.check, each.message) for each in results if each.outcome == "failed"]
    assert {each.name for each in CHECKS[kind]} & {each.check for each in results if each.outcome == "passed"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_is_checked_and_tested(kind: str) -> None:
    assert CHECKS[kind]
    assert all(check.summary for check in CHECKS[kind])
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    assert any(hook_name(kind) in source for source in sources), f"no test mentions {hook_name(kind)}"


def test_how_a_single_file_names_its_targets_is_told() -> None:
    assert '`f"{__name__}:measure"`' in (hookspecs.__doc__ or "")

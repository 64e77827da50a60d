"""Every hook is explained by an example, and every example is a plugin that loads."""

from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path

import pytest

from ddm_framework import hookspecs
from ddm_framework.components import KINDS, hook_name
from ddm_framework.loader import load_plugins
from ddm_framework.signatures import read_signature

PRELUDE = """\
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ddm_framework import Component, Report, Section, hookimpl, objective
from ddm_framework.reports import Text

"""


def example(kind: str) -> str:
    """The indented blocks of a hook's docstring, which hold code."""
    doc = inspect.getdoc(getattr(hookspecs, hook_name(kind))) or ""
    return textwrap.dedent("\n".join(line for line in doc.splitlines() if line.startswith("    ") or not line))


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
def test_the_example_is_a_plugin_whose_target_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"{kind}_example.py"
    file.write_text(PRELUDE + example(kind), encoding="utf-8")
    plugin = load_plugins([file]).plugins[-1]
    ((found, component),) = plugin.components
    assert found == kind
    assert component.summary
    (module,) = [module for module in sys.modules.values() if getattr(module, "__file__", None) == str(file)]
    target = getattr(module, component.target.partition(":")[2])
    assert read_signature(target, kind, "the example").problems({}, "the example") == []


def test_how_a_single_file_names_its_targets_is_told() -> None:
    assert '`f"{__name__}:measure"`' in (hookspecs.__doc__ or "")

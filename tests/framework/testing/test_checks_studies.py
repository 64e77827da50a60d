"""Each check of studies catches one that breaks it, on the small run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checked import assert_all_pass, assert_caught

from ddm_framework import Report, Section, Workspace
from ddm_framework.report.blocks import Clusters, Text
from ddm_framework.testing.checks import CHECKS

SECTIONS = [Section("Found", [Text("something"), Clusters("some", [0, 1], [0.1, 0.2])])]


def good(workspace: Workspace, /) -> Report:
    """The mean effect, and a time."""
    effect = workspace.attribution(workspace.queries_of("test", 4), workspace.objectives[0]).effect
    metrics = {"mine": {"effect": effect.mean(), "by_cluster": effect.mean((0, 2)).tolist(), "seconds": time.time()}}
    return Report(SECTIONS, metrics, {"effect": effect})


def text(workspace: Workspace, /) -> Any:
    """No report."""
    return "found"


def naming_a_lost_cluster(workspace: Workspace, /) -> Report:
    """A cluster that does not exist."""
    return Report([Section("Found", [Clusters("some", [99], [0.1])])])


def with_objects(workspace: Workspace, /) -> Report:
    """Metrics that JSON does not know."""
    return Report(SECTIONS, {"mine": {"path": Path("x")}})


def taking_names(workspace: Workspace, /) -> Report:
    """Metrics in the place of the core's."""
    return Report(SECTIONS, {"target": {"test_accuracy": 1.0}})


def with_lists(workspace: Workspace, /) -> Report:
    """Tensors that are none."""
    return Report(SECTIONS, {}, {"effect": [1.0]})  # type: ignore[dict-item]


def writing(workspace: Workspace, /) -> Report:
    """Stores its own picture."""
    Path("figure.svg").write_text("<svg/>")
    return Report(SECTIONS)


def changing(workspace: Workspace, /) -> Report:
    """Zeroes the synset."""
    workspace.synset.images.zero_()
    return Report(SECTIONS)


def drawing(workspace: Workspace, /) -> Report:
    """Draws from the global state."""
    return Report(SECTIONS, {"mine": {"luck": float(torch.rand(()))}})


BROKEN: dict[str, Callable[..., Any]] = {
    "check_returns_a_report": text,
    "check_report_renders": naming_a_lost_cluster,
    "check_metrics_are_plain_numbers": with_objects,
    "check_metrics_leave_the_cores_own_alone": taking_names,
    "check_tensors_can_be_stored": with_lists,
    "check_writes_nothing_itself": writing,
    "check_workspace_is_only_read": changing,
    "check_same_report_twice": drawing,
    "check_leaves_global_randomness_alone": drawing,
}


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_caught(check: str) -> None:
    assert_caught("study", check, BROKEN[check])


def test_what_is_no_block_is_caught() -> None:
    def with_a_string(workspace: Any, /) -> Report:
        """A text that is not wrapped."""
        return Report([Section("Found", ["something"])])  # type: ignore[list-item]

    assert_caught("study", "check_report_renders", with_a_string)


def test_a_plain_one_passes() -> None:
    assert_all_pass("study", good)


def test_every_check_is_tested_here() -> None:
    assert set(BROKEN) == {check.name for check in CHECKS["study"]}

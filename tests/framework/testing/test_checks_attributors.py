"""Each check of attributors catches one that breaks it, on the small run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checked import assert_all_pass, assert_caught, result
from torch import Tensor

from ddm_framework import DDMError, Queries, Workspace, attributor
from ddm_framework.offline.partition import Partition
from ddm_framework.online.questions import Objective
from ddm_framework.testing.checks import CHECKS


def good(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """The distilled datamodel."""
    return workspace.attribution(queries, objective).effect


def too_few(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """One cluster is left out."""
    return good(workspace, queries, objective)[:, 1:]


@attributor(partition=lambda workspace: Partition(workspace.partition.clusters * 0, workspace.partition.classes))
def of_empty_clusters(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Its clusters are empty, all but one."""
    return good(workspace, queries, objective)


def unseeded(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Draws from the global state."""
    return good(workspace, queries, objective) + torch.rand(1).double()


def ranked_over_queries(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Scaled by all queries."""
    effect = good(workspace, queries, objective)
    return effect - effect.mean(0)


def for_each_query(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """As if every objective were of single queries, with one behaviour."""
    return good(workspace, queries, objective)[:, :, :1].expand(len(queries), -1, -1)


def by_labels(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Needs labels without saying so."""
    return good(workspace, queries, objective) + queries.labels.double().mean()  # type: ignore[union-attr]


def refusing_the_unlabelled(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Needs labels and says so."""
    if queries.labels is None:
        raise DDMError("it needs labels")
    return good(workspace, queries, objective)


def training_on(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Writes to the target."""
    effect = good(workspace, queries, objective)
    for each in workspace.target.values():
        each += 1
    return effect


def logging(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Leaves a file behind."""
    Path("log.txt").write_text("done")
    return good(workspace, queries, objective)


def of_everything(workspace: Workspace, queries: Queries, objective: Objective, perturbations: Tensor, /) -> Tensor:
    """Says that deleting nothing has an effect."""
    return torch.ones(len(perturbations), len(queries), 1)


@attributor(sets=of_everything)
def with_wrong_sets(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Right for single clusters only."""
    return good(workspace, queries, objective)


BROKEN: dict[str, Callable[..., Any]] = {
    "check_effects_of_each_cluster_on_each_query": too_few,
    "check_clusters_are_a_partition": of_empty_clusters,
    "check_same_answer_twice": unseeded,
    "check_queries_do_not_matter_to_one_another": ranked_over_queries,
    "check_objectives_of_a_whole_set": for_each_query,
    "check_objectives_of_several_behaviours": for_each_query,
    "check_works_without_labels_or_says_so": by_labels,
    "check_workspace_is_only_read": training_on,
    "check_sets_of_clusters": with_wrong_sets,
    "check_leaves_global_randomness_alone": unseeded,
}


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_caught(check: str) -> None:
    assert_caught("attributor", check, BROKEN[check])


def test_a_file_left_behind_is_caught() -> None:
    assert_caught("attributor", "check_workspace_is_only_read", logging)


def test_plain_ones_pass() -> None:
    assert_all_pass("attributor", good)
    assert_all_pass("attributor", refusing_the_unlabelled)


def test_a_missing_library_is_a_reason_to_skip() -> None:
    def without(workspace: Any, queries: Any, objective: Any, /) -> Tensor:
        """Stands on what is not installed."""
        raise DDMError("it needs a library; install it with pip")

    found = result("attributor", "check_same_answer_twice", without)
    assert found.outcome == "skipped"
    assert "install it with pip" in found.message


def test_every_check_is_tested_here() -> None:
    assert set(BROKEN) == {check.name for check in CHECKS["attributor"]}

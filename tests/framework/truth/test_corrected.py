"""Corrected estimates of a run are those of the formula, from its own retrainings."""

from __future__ import annotations

import math

import pytest
import torch
from run_fixtures import tiny
from torch import Tensor

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.online import leave_one_out
from ddm_framework.truth import bank_logits, correct_sets, correct_singles, random_fifths, retrained
from ddm_framework.truth.corrected import centred
from ddm_framework.truth.correction import choose_strength


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("corrected")
    return ddm_framework.run(tiny(folder, online="{replay: 2}"), out=folder / "runs" / "tiny").workspace


def retrainings(workspace: Workspace) -> Tensor:
    """Networks without one, two and three of six clusters."""
    rows = torch.ones(5, 6)
    for row, lacking in enumerate(([0], [1, 2], [3, 4, 5], [0, 4], [2, 5])):
        rows[row, lacking] = 0
    return rows


def changes(workspace: Workspace, rows: Tensor) -> Tensor:
    """True centred changes of all test images, (R, N classes)."""
    queries = workspace.queries_of("test")
    logits = bank_logits(workspace, retrained(workspace, rows), queries)
    return centred(logits - workspace.target_logits(queries.images)).flatten(1)


def ridge(deleted: Tensor, residual: Tensor, penalty: float) -> Tensor:
    """The datamodel of a residual, solved over the clusters."""
    normal = deleted.T @ deleted + penalty * torch.eye(deleted.shape[1], dtype=torch.float64)
    return torch.linalg.solve(normal, deleted.T @ residual)


def test_single_effects_are_those_of_the_formula(workspace: Workspace) -> None:
    queries, rows = workspace.queries_of("test"), retrainings(workspace)
    true, deleted = changes(workspace, rows), 1 - rows.double()
    estimated = centred(workspace.logit_effects(queries)).flatten(1)
    strength = choose_strength(deleted, deleted @ estimated, true)
    penalty = min(strength.penalty, 1e12)
    wanted = strength.scale * estimated + ridge(deleted, true - strength.scale * deleted @ estimated, penalty)
    found = correct_singles(workspace, queries, rows)
    assert found.strength == strength
    torch.testing.assert_close(centred(found.change).flatten(1), wanted, atol=1e-8, rtol=1e-6)


def test_sets_are_a_datamodel_around_their_own_networks(workspace: Workspace) -> None:
    queries, rows = workspace.queries_of("test"), retrainings(workspace)
    asked = torch.tensor([[0.0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    target = workspace.target_logits(queries.images)

    def estimated(perturbations: Tensor) -> Tensor:
        logits = workspace.perturbed_logits(queries, perturbations, workspace.synset)
        return centred(logits - target).flatten(1)

    true, deleted = changes(workspace, rows), 1 - rows.double()
    strength = choose_strength(deleted, estimated(rows), true)
    learned = ridge(deleted, true - strength.scale * estimated(rows), min(strength.penalty, 1e12))
    wanted = strength.scale * estimated(asked) + (1 - asked.double()) @ learned
    found = correct_sets(workspace, queries, rows, asked)
    torch.testing.assert_close(centred(found.change).flatten(1), wanted, atol=1e-5, rtol=1e-4)
    assert float(found.change[1].abs().max()) < 1e-5  # what lacks nothing is the target


def test_objectives_are_measured_on_the_corrected_logits(workspace: Workspace) -> None:
    queries, rows = workspace.queries_of("test"), retrainings(workspace)
    found = correct_singles(workspace, queries, rows)
    before = workspace.target_logits(queries.images).double()
    after = (before + found.change).softmax(2)
    effect = found.effect(workspace, queries, workspace.objective("output_shift"))
    torch.testing.assert_close(effect[:, :, 0], (after - before.softmax(1)).square().sum(2).T)


def test_an_exact_estimate_is_not_touched(workspace: Workspace) -> None:
    exact = workspace.with_online(replay=4)  # all epochs
    queries, singles = exact.queries_of("test"), leave_one_out(6)[1:]
    found = correct_singles(exact, queries, singles)
    assert found.strength.scale == pytest.approx(1, abs=1e-3)
    assert math.isinf(found.strength.penalty) or found.strength.error < 1e-8
    torch.testing.assert_close(centred(found.change).flatten(1), changes(exact, singles), atol=1e-4, rtol=1e-3)


def test_a_query_has_no_say_in_the_answer_to_another(workspace: Workspace) -> None:
    queries, rows = workspace.queries_of("test"), retrainings(workspace)
    alone = correct_singles(workspace, queries.take(torch.tensor([4])), rows).change
    among = correct_singles(workspace, queries, rows).change
    torch.testing.assert_close(alone[:, 0], among[:, 4], atol=1e-5, rtol=1e-4)


def test_sets_lack_a_fifth_and_a_larger_number_goes_on(workspace: Workspace) -> None:
    few, many = random_fifths(workspace, 3), random_fifths(workspace, 8)
    assert torch.equal(few, many[:3])
    assert (many == 0).sum(1).tolist() == [1] * 8

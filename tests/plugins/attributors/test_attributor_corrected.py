"""`ddm_corrected` is the replay, corrected by its retrainings, which count as offline work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_fixtures import tiny

import ddm_framework
from ddm_framework import DDMError, Workspace
from ddm_framework.plugin import choose
from ddm_framework.runs import open_account
from ddm_framework.truth import correct_sets, correct_singles, random_fifths, retrained


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("corrected")
    return ddm_framework.run(tiny(folder), out=folder / "runs" / "tiny").workspace


def test_it_is_the_correction_of_the_replay(workspace: Workspace) -> None:
    queries, margin = workspace.queries_of("test"), workspace.objective("margin")
    rows = random_fifths(workspace, 5)
    estimate = workspace.effects_by(queries, margin, "ddm_corrected", retrainings=5, epochs=2)
    replayed = workspace.with_online(replay=2, replay_step_size=0.01)
    wanted = correct_singles(replayed, queries, rows).effect(workspace, queries, margin)
    torch.testing.assert_close(estimate.effect, wanted)
    choice = choose(workspace.registry, "attributor", "ddm_corrected", {"retrainings": 5, "epochs": 2})
    masks = torch.ones(2, 6)
    masks[0, [1, 4]] = 0
    sets = workspace.set_effects_by(queries, margin, choice, masks)
    found = correct_sets(replayed, queries, rows, masks).effect(workspace, queries, margin)
    assert sets is not None
    torch.testing.assert_close(sets, found.transpose(0, 1))


def test_by_default_the_last_sixth_is_replayed_from_a_saved_checkpoint(workspace: Workspace) -> None:
    queries, margin = workspace.queries_of("test"), workspace.objective("margin")
    by_default = workspace.effects_by(queries, margin, "ddm_corrected", retrainings=5)
    nearest = workspace.effects_by(queries, margin, "ddm_corrected", retrainings=5, epochs=2)  # of 4, 0 and 2 are saved
    torch.testing.assert_close(by_default.effect, nearest.effect)


def test_retrained_networks_are_offline_work(workspace: Workspace) -> None:
    queries, margin = workspace.queries_of("test"), workspace.objective("margin")
    seconds = retrained(workspace, random_fifths(workspace, 7)).seconds
    spent = workspace.folder.seconds()
    for direction, stages in (("influence", ["partition"]), ("synset", ["partition", "matching"])):
        with open_account() as ledger:
            workspace.effects_by(queries, margin, "ddm_corrected", retrainings=7, direction=direction)
        assert ledger.charged >= seconds + sum(spent[stage] for stage in stages)


def test_objectives_of_sets_and_of_several_behaviours_are_answered(workspace: Workspace) -> None:
    queries = workspace.queries_of("test")
    whole = workspace.effects_by(queries, workspace.objective("performance"), "ddm_corrected", retrainings=5)
    assert whole.effect.shape == (1, 6, 1)
    several = workspace.effects_by(queries, workspace.objective("predictions"), "ddm_corrected", retrainings=5)
    assert several.effect.shape == (len(queries), 6, 3)
    assert float(several.effect.sum(2).abs().max()) < 1e-6  # probabilities still add up to one


def test_a_training_that_nobody_knows_is_refused_for_what_it_cannot_do(workspace: Workspace, tmp_path: Path) -> None:
    torch.save(workspace.target, tmp_path / "net.pt")
    recipe = tiny(tmp_path, target=f"{{checkpoint: {tmp_path / 'net.pt'}}}")
    workspace = ddm_framework.run(recipe, out=tmp_path / "run").workspace
    queries, margin = workspace.queries_of("test"), workspace.objective("margin")
    with pytest.raises(DDMError, match="exact retraining needs the training"):
        workspace.effects_by(queries, margin, "ddm_corrected")
    choice = choose(workspace.registry, "attributor", "ddm_corrected", {})
    with pytest.raises(DDMError, match="exact retraining needs the training"):
        workspace.set_effects_by(queries, margin, choice, torch.tensor([[0.0, 1, 1, 1, 1, 1]]))

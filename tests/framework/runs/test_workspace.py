"""Other online settings keep what a workspace has loaded, and an anchor is the share of the data asked for."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from ddm_framework import DDMError, Workspace
from ddm_framework.answers.unlearning import request, unlearn
from ddm_framework.network.stacks import norms, take
from ddm_framework.online import Anchor
from ddm_framework.runs import open_account
from ddm_framework.runs.real_training import real_data


def test_other_online_settings_keep_what_was_loaded(workspace: Workspace) -> None:
    synset, design = workspace.synset, workspace.perturbations
    other = workspace.with_online(perturbations="random", num_perturbations=20)
    assert other.synset is synset
    assert len(other.perturbations) == 21
    assert torch.equal(workspace.perturbations, design)


@pytest.mark.parametrize(("passes", "epochs", "share"), [(0.5, 1, 0.5), (1.0, 1, 1.0), (1.5, 2, 0.75), (3.0, 3, 1.0)])
def test_passes_are_a_share_of_the_images_and_whole_epochs(
    workspace: Workspace, passes: float, epochs: int, share: float
) -> None:
    anchor = real_data(workspace.with_online(anchor=passes), workspace.partition).training_after
    assert isinstance(anchor, Anchor)
    count = len(workspace.data.train)
    assert (anchor.epochs, len(anchor.data.labels)) == (epochs, round(share * count))
    assert torch.equal(workspace.partition.classes[anchor.clusters], anchor.data.labels)
    assert len(anchor.data.labels.unique()) == workspace.info.num_classes


def test_without_an_anchor_no_data_are_touched(workspace: Workspace) -> None:
    assert not real_data(workspace, workspace.partition).used
    next(workspace.perturbed(workspace.perturbations[:2], workspace.synset))
    assert "data" not in workspace.__dict__


def test_unlearning_clusters_follows_the_anchor(workspace: Workspace) -> None:
    anchored, asked = workspace.with_online(anchor=1.0, step_size=0.02), request(workspace, [1, 4])
    row = torch.ones(2, workspace.partition.num_clusters)
    row[:, [1, 4]] = 0
    expected = take(next(anchored.perturbed(row, anchored.synset))[1], 0)
    found = unlearn(anchored, asked).parameters
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    plain = unlearn(workspace, asked, step_size=0.02).parameters
    assert float(norms({name: (each - plain[name])[None] for name, each in found.items()})[0]) > 0


def test_the_anchored_datamodel_goes_from_the_target_whatever_the_recipe_does(workspace: Workspace) -> None:
    asked, margin = workspace.queries_of("test"), workspace.objective("margin")
    found = workspace.with_online(start="initial", steps=2).effects_by(asked, margin, "ddm_anchored").effect
    expected = workspace.with_online(anchor=1.0, step_size=0.02, steps=2).attribution(asked, margin).effect
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"replay": 1, "anchor": 1.0}, "online settings: replay and anchor are two ways to do the same"),
        ({"replay": -1}, "online settings: replay"),
    ],
)
def test_settings_that_do_not_go_together_are_one_message(
    workspace: Workspace, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(DDMError, match=message):
        workspace.with_online(**given)


@pytest.mark.parametrize("options", [{"start": "initial"}, {"start": "target"}])
def test_forward_matching_answers_in_a_run_that_is_replayed(workspace: Workspace, options: dict[str, str]) -> None:
    replayed, margin = workspace.with_online(replay="auto"), workspace.objective("margin")
    effect = replayed.effects_by(workspace.queries_of("test", 2), margin, "ddm_match", **options).effect
    assert torch.isfinite(effect).all()


def test_the_step_size_of_the_datamodel_counts_under_a_replay_too(workspace: Workspace) -> None:
    asked, margin = workspace.queries_of("test", 2), workspace.objective("margin")
    replayed = workspace.with_online(replay="auto")
    short, long = (replayed.effects_by(asked, margin, "ddm", step_size=size).effect for size in (0.001, 0.1))
    assert not torch.equal(short, long)


def test_what_is_made_once_is_made_once_and_counted_once_a_question(workspace: Workspace) -> None:
    calls: list[str] = []

    def make(name: str) -> str:
        calls.append(name)
        time.sleep(0.01)
        return name

    for _ in range(2):  # each question is told what the work took, though only the first one did it
        with open_account() as ledger:
            for _ in range(2):
                assert workspace.with_online(steps=2).made_once("a 1", lambda: make("a")) == "a"
        assert ledger.charged >= 0.01
        assert ledger.charged < 0.02 + ledger.elapsed
    assert calls == ["a"]
    assert workspace.made_once("b", lambda: make("b")) == "b"
    assert workspace.made_once("a 1", lambda: make("a")) == "a"
    assert calls == ["a", "b", "a"]  # only the last one is kept

"""A run folder that an earlier commit made is opened and answers, or is refused with the versions of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_fixtures import refused

import ddm_framework
from ddm_framework.errors import RecipeError, RunFolderError
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.runs.provenance import own_version
from ddm_framework.runs.run_folder import STAGES, RunFolder
from ddm_framework.stages.inputs import stage_inputs

OLD = Path(__file__).with_name("made_by_0_1_0")
"""Made by commit 19b0eec, before the modules stood in packages and before digests saw code:
`ddm run digits_convnet` with threads 1, width 4, depth 1, four epochs, two clusters per class, four matching steps."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_it_is_opened_and_gives_the_answers_that_it_gave(old: Path) -> None:
    opened = ddm_framework.open_run(old)
    assert opened.metrics == json.loads((OLD / "metrics.json").read_text())
    workspace = opened.workspace
    assert len(workspace.synset) == workspace.partition.num_clusters == 20
    images = torch.zeros(2, *workspace.info.shape)
    answer = opened.attribute(images)
    assert answer.effect.shape == (2, 20, 1)
    assert opened.attribute(images, torch.tensor([1, 2]), objective="margin").effect.shape == (2, 20, 1)
    assert opened.unlearn([3]) is not None


def test_its_inputs_are_those_of_today(old: Path) -> None:
    folder, registry = RunFolder.existing(old), load_plugins()
    recipe = load_recipe(str(old / "recipe.yaml"), registry)
    inputs = stage_inputs(recipe, registry, folder.input("training", "data"))
    folder.check(inputs)
    folder.claim(inputs, fresh=False)
    assert all(map(folder.is_done, STAGES))
    assert inputs["training"].digest != folder.manifest["stages"]["training"]["hash"]  # code is seen by now


def test_its_weights_are_not_taken_for_those_of_another_recipe(old: Path) -> None:
    path = old / "recipe.yaml"
    path.write_text(path.read_text().replace("width: 4", "width: 5"))
    with pytest.raises(RunFolderError, match=r"backbone\.width: 4 there, 5 asked for"):
        ddm_framework.open_run(old)


def test_a_setting_that_this_version_does_not_know_is_refused_with_both_versions(old: Path) -> None:
    noted = json.loads((old / "manifest.json").read_text())
    noted["versions"]["ddm-framework"] = "9.9"
    (old / "manifest.json").write_text(json.dumps(noted))
    path = old / "recipe.yaml"
    path.write_text(path.read_text().replace("matching:\n", "matching:\n  swiftly: 3\n"))
    with pytest.raises(RecipeError) as caught:
        ddm_framework.open_run(old)
    told = str(caught.value)
    assert "has no setting 'swiftly'" in told
    assert f"it was made by ddm-framework 9.9, and this is {own_version()}" in told
    assert "ddm-framework 9.9" in refused("attribute", old, "--images", "nothing.png")

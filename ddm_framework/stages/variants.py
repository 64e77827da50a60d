"""What an experiment needs besides the artifacts of a run, stored in the folder of the run.

A variant has the target of the run and another synset or partition. A sibling has the data of the run and its own
target.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ddm_framework.plugin import Choice
from ddm_framework.recipe import Recipe
from ddm_framework.runs import RunFolder, StageInputs, Workspace, account
from ddm_framework.stages.inputs import stage_inputs
from ddm_framework.stages.pipeline import note, save_recipe, work_offline

NO_SETTINGS: Mapping[str, Any] = {}


def variant(
    workspace: Workspace,
    name: str,
    *,
    clusterer: Choice | None = None,
    matching: Mapping[str, Any] = NO_SETTINGS,
    online: Mapping[str, Any] = NO_SETTINGS,
) -> Workspace:
    """A workspace on the same target with another partition or synset; made once and then reused.

    Its partition and synset are stored in `variants/<name>` of the run folder. Their original cost counts as offline
    work of the given workspace.

    Args:
        workspace: a run whose target is trained and whose data are divided.
        name: of the variant, a folder's name.
        clusterer: instead of the recipe's.
        matching, online: settings instead of the recipe's.
    """
    begun = time.monotonic()
    recipe = replace(
        workspace.recipe,
        clusterer=clusterer or workspace.recipe.clusterer,
        matching=workspace.recipe.matching.changed(matching),
        online=workspace.recipe.online.changed(online),
    )
    folder, inputs = _claimed(workspace, name, recipe, ["partition", "matching"] if clusterer else ["matching"])
    other = replace(workspace, recipe=recipe, folder=folder, loaded_data=workspace.data, parent=workspace)
    work_offline(other, inputs)
    account.enter(time.monotonic() - begun, sum(folder.seconds().values()), once=str(folder.path))
    if clusterer is None:
        workspace.charge("partition")
    return other


def sibling(
    workspace: Workspace,
    name: str,
    *,
    backbone: Choice | None = None,
    distance: Choice | None = None,
    matching: Mapping[str, Any] = NO_SETTINGS,
) -> Workspace:
    """Another run on the same data, up to its synset, with another network or matching; made once and then reused.

    Its artifacts are stored in `variants/<name>` of the run folder.

    Args:
        workspace: a run.
        name: of the sibling, a folder's name.
        backbone, distance: instead of the recipe's.
        matching: settings instead of the recipe's.
    """
    old = workspace.recipe
    recipe = replace(
        old,
        backbone=backbone or old.backbone,
        distance=distance or old.distance,
        matching=old.matching.changed(matching),
    )
    folder, inputs = _claimed(workspace, name, recipe, ["training", "partition", "matching"])
    other = Workspace(recipe, folder, workspace.registry, workspace.device, workspace.display, workspace.data)
    note(other)
    save_recipe(other)
    work_offline(other, inputs)
    return other


def _claimed(
    workspace: Workspace, name: str, recipe: Recipe, stages: Sequence[str]
) -> tuple[RunFolder, dict[str, StageInputs]]:
    """The folder of a variant or sibling, and the inputs of its stages; those that differ are dropped."""
    inputs = stage_inputs(recipe, workspace.registry, workspace.root.input("training", "data"))
    chosen = {stage: inputs[stage] for stage in stages}
    folder = RunFolder.open(workspace.root.file("variants", name))
    folder.claim(chosen, fresh=True)
    return folder, chosen

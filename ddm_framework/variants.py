"""The same target, matched or divided in another way: what an ablation needs of a run, kept beside the run's own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ddm_framework import offline
from ddm_framework.pipeline import stage_inputs
from ddm_framework.recipes import Choice
from ddm_framework.run_folder import RunFolder
from ddm_framework.workspace import Workspace

NO_SETTINGS: Mapping[str, Any] = {}


def variant(
    workspace: Workspace,
    name: str,
    *,
    clusterer: Choice | None = None,
    matching: Mapping[str, Any] = NO_SETTINGS,
    online: Mapping[str, Any] = NO_SETTINGS,
) -> Workspace:
    """A workspace on the same target with a partition or a synset of its own; made once and then reused.

    Its partition and synset lie in `variants/<name>` of the run folder. What they cost when they were made counts as
    offline work of the workspace that asks.

    Args:
        workspace: a run whose target is trained and whose data are divided.
        name: of the variant, a folder's name.
        clusterer: in the place of the recipe's.
        matching, online: settings in the place of the recipe's.
    """
    begun = time.monotonic()
    recipe = replace(
        workspace.recipe,
        clusterer=clusterer or workspace.recipe.clusterer,
        matching=_changed(workspace.recipe.matching, matching),
        online=_changed(workspace.recipe.online, online),
    )
    inputs = stage_inputs(recipe, workspace.registry, workspace.root.input("training", "data"))
    stages = ["partition", "matching"] if clusterer else ["matching"]
    folder = RunFolder.open(workspace.root.file("variants", name))
    folder.claim({stage: inputs[stage] for stage in stages}, fresh=True)
    other = replace(workspace, recipe=recipe, folder=folder, loaded_data=workspace.data, parent=workspace)
    if "partition" in stages and not folder.is_done("partition"):
        with folder.stage("partition", inputs["partition"]):
            offline.divide(other)
    if not folder.is_done("matching"):
        with folder.stage("matching", inputs["matching"]) as clock:
            offline.distil(other, clock)
    workspace.ledger.enter(time.monotonic() - begun, sum(folder.seconds().values()))
    return other


def _changed(settings: Any, update: Mapping[str, Any]) -> Any:
    return type(settings).model_validate({**settings.model_dump(), **update})

"""What each stage's result depends on: settings, data, code, and the files that they name."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.registry import LOCAL_PREFIX, Registry
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.runs.run_folder import StageInputs


def stage_inputs(recipe: Recipe, registry: Registry, data_fingerprint: str) -> dict[str, StageInputs]:
    """What each stage's result depends on; each names the digest of the stage before."""
    whole = recipe.as_dict()
    training = StageInputs(
        {
            "data": data_fingerprint,
            "backbone": _inputs(recipe.backbone),
            **_target_inputs(recipe),
            "seed": whole["seed"],
            "device": whole["device"],
            "threads": whole["threads"],
        },
        {"dataset": whole["dataset"], "corruption": whole["corruption"]},
    )
    partition = StageInputs(
        {
            "after": training.digest,
            "clusterer": {**whole["clusterer"], **_inputs(recipe.clusterer)},
            "contents": dict(_files(recipe.clustering.model_dump())),
        }
    )
    matching = StageInputs(
        {
            "after": partition.digest,
            "distance": _inputs(recipe.distance),
            "matching": whole["matching"],
            "memory_mb": whole["memory_mb"],
        }
    )
    online = StageInputs(
        {
            "after": matching.digest,
            "online": whole["online"],
            "objectives": [_inputs(choice) for choice in recipe.objectives],
            "study": _inputs(recipe.study),
            "certificate": whole["certificate"],
            "attributors": _local_attributors(registry),
        }
    )
    return {"training": training, "partition": partition, "matching": matching, "online": online}


def _target_inputs(recipe: Recipe) -> dict[str, Any]:
    """How the target is trained, or the contents of the files that it was brought in."""
    brought = recipe.target
    if brought.checkpoint is None:
        return {"training": recipe.as_dict()["training"]}
    return {"target": [_digest(path) for path in (*brought.trajectory, brought.checkpoint)]}


def _inputs(choice: Choice) -> dict[str, Any]:
    """A component, its options, its code where it is a local file, and what lies in the files that it reads."""
    return {**choice.as_dict(), **choice.code(), "contents": dict(_files(choice.options))}


def _files(options: Any) -> Iterator[tuple[str, str]]:
    """Digests of the files among some options: another file under the old name is another input."""
    if isinstance(options, Mapping | list | tuple):
        for each in options.values() if isinstance(options, Mapping) else options:
            yield from _files(each)
    elif isinstance(options, Path) and options.is_file():
        yield str(options), _digest(options)


def _local_attributors(registry: Registry) -> dict[str, str]:
    """Code of the attributors in local files: studies take them by name, and theirs is a result of the study."""
    found = {}
    for registered in registry.components("attributor"):
        module = sys.modules.get(registered.component.target.partition(":")[0])
        if module is not None and module.__name__.startswith(LOCAL_PREFIX):
            found[registered.component.name] = _digest(Path(str(module.__file__)))
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]

"""What each stage's result depends on: settings, data, code, and the contents of the files that they name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ddm_framework.errors import DDMError
from ddm_framework.files import is_file
from ddm_framework.plugin import Choice, Registry, read_signature
from ddm_framework.plugin.choice import plain, within
from ddm_framework.plugin.source_code import code_digest, file_digest
from ddm_framework.recipe import Recipe, Settings
from ddm_framework.recipe.settings import MOST_MB
from ddm_framework.runs import StageInputs

NONE: Mapping[str, Any] = {}


def stage_inputs(
    recipe: Recipe, registry: Registry, data_fingerprint: str, own_training: str = ""
) -> dict[str, StageInputs]:
    """What each stage's result depends on; each names the digest of the stage before.

    Args:
        recipe: checked.
        registry: components.
        data_fingerprint: of the images and labels.
        own_training: digest of the training function that came with the target; empty if none did.
    """
    general, whole = recipe.general, recipe.as_dict()
    training = _stage(
        {
            "data": data_fingerprint,  # of the images themselves, so that the code that loads them need not be seen
            "backbone": recipe.backbone,
            **_target_inputs(recipe),
            "seed": general.seed,
            "device": general.device,
            "threads": general.threads,
            **({} if general.matmul_precision == "highest" else {"matmul_precision": general.matmul_precision}),
        },
        shown={"dataset": whole["dataset"], "corruption": whole["corruption"]},
    )
    partition = _stage(
        {
            "after": training.digest,
            "clusterer": {**whole["clusterer"], **_inputs(recipe.clusterer)},
            "contents": _files(recipe.clustering.model_dump()),
        },
        defaults={"clusterer": {**_defaults(recipe.clusterer), **_defaults(recipe.clustering)}},
    )
    matching = _stage(
        {
            "after": partition.digest,
            "distance": recipe.distance,
            "matching": recipe.matching,
            "memory_mb": general.chunk_mb,
        },
        defaults={"memory_mb": MOST_MB},  # what runs had that did not write it down
    )
    online = _stage(
        {
            "after": matching.digest,
            "online": recipe.online,
            "objectives": recipe.objectives,
            "study": recipe.study,
            "certificate": recipe.certificate,
            **({"train_function": own_training} if own_training else {}),
        },
        code_of=partial(_code_of, registry),
    )
    return {"training": training, "partition": partition, "matching": matching, "online": online}


def _stage(parts: Mapping[str, Any], defaults: Mapping[str, Any] = NONE, **others: Any) -> StageInputs:
    """Inputs of a stage from components, sections of settings and plain values, some with `defaults`."""
    own = {name: _defaults(part) for name, part in parts.items() if isinstance(part, Choice | Settings | tuple)}
    return StageInputs({name: _inputs(part) for name, part in parts.items()}, defaults={**own, **defaults}, **others)


def _target_inputs(recipe: Recipe) -> dict[str, Any]:
    """How the target is trained, or the contents of the files that it was brought in."""
    brought = recipe.target
    if brought.checkpoint is None:
        return {"training": recipe.training}
    trained, smoothing = recipe.training.parameters, recipe.training.label_smoothing
    chosen: dict[str, Any] = {} if trained is None else {"parameters": trained}
    chosen |= {} if brought.epochs is None else {"epochs": brought.epochs}
    chosen |= {"label_smoothing": smoothing} if smoothing else {}
    return {"target": [file_digest(path) for path in (*brought.trajectory, brought.checkpoint)], **chosen}


def _inputs(part: Any) -> Any:
    """A component with its options, its code and that of the components among them, and what lies in their files."""
    if isinstance(part, tuple):
        return [_inputs(each) for each in part]
    if not isinstance(part, Choice):
        return plain(part)
    inner = {f"{each.kind} {each.name}": each.code() for each in part.inner() if each is not part}
    return {
        **part.as_dict(),
        "code": part.code(),
        **({"inner": inner} if inner else {}),
        "contents": _files(part.options),
    }


def _defaults(part: Any) -> Any:
    """The default of each option or setting, as `_inputs` tells its value."""
    if isinstance(part, tuple):
        return [_defaults(each) for each in part]
    if not isinstance(part, Choice):
        return plain(type(part)())
    return plain(read_signature(part.target, part.kind, f"{part.kind} {part.name!r}").defaults())


def _code_of(registry: Registry, used: str) -> str:
    """The code of a component that a study asked for by name; empty if it is gone or broken."""
    kind, _, name = used.partition(" ")
    try:
        registered = registry.get(kind, name)
        return code_digest(registered.load(), registered.home)
    except DDMError:
        return ""


def _files(options: Any) -> dict[str, str]:
    """Digests of the files among some options: another file under the old name is another input."""
    return {str(each): file_digest(each) for each in within(options) if isinstance(each, Path) and is_file(each)}

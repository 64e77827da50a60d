"""What each stage's result depends on: settings, data, code, and the contents of the files that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ddm_framework.errors import DDMError
from ddm_framework.plugin.choice import Choice, Grid, plain
from ddm_framework.plugin.registry import Registry
from ddm_framework.plugin.signatures import read_signature
from ddm_framework.plugin.source_code import code_digest, file_digest
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.runs.provenance import StageInputs


def stage_inputs(recipe: Recipe, registry: Registry, data_fingerprint: str) -> dict[str, StageInputs]:
    """What each stage's result depends on; each names the digest of the stage before."""
    whole = recipe.as_dict()
    training = StageInputs(
        {
            "data": data_fingerprint,  # of the images themselves, so that the code that loads them need not be seen
            "backbone": _inputs(recipe.backbone),
            **_target_inputs(recipe),
            "seed": whole["seed"],
            "device": whole["device"],
            "threads": whole["threads"],
        },
        {"dataset": whole["dataset"], "corruption": whole["corruption"]},
        {"backbone": _defaults(recipe.backbone), "training": _at_defaults(recipe.training)},
    )
    partition = StageInputs(
        {
            "after": training.digest,
            "clusterer": {**whole["clusterer"], **_inputs(recipe.clusterer)},
            "contents": dict(_files(recipe.clustering.model_dump())),
        },
        defaults={"clusterer": {**_defaults(recipe.clusterer), **_at_defaults(recipe.clustering)}},
    )
    matching = StageInputs(
        {
            "after": partition.digest,
            "distance": _inputs(recipe.distance),
            "matching": whole["matching"],
            "memory_mb": whole["memory_mb"],
        },
        defaults={
            "distance": _defaults(recipe.distance),
            "matching": _at_defaults(recipe.matching),
            "memory_mb": _at_defaults(recipe.general)["memory_mb"],
        },
    )
    online = StageInputs(
        {
            "after": matching.digest,
            "online": whole["online"],
            "objectives": [_inputs(choice) for choice in recipe.objectives],
            "study": _inputs(recipe.study),
            "certificate": whole["certificate"],
        },
        defaults={
            "online": _at_defaults(recipe.online),
            "objectives": [_defaults(choice) for choice in recipe.objectives],
            "study": _defaults(recipe.study),
            "certificate": _at_defaults(recipe.certificate),
        },
        code_of=partial(_code_of, registry),
    )
    return {"training": training, "partition": partition, "matching": matching, "online": online}


def _target_inputs(recipe: Recipe) -> dict[str, Any]:
    """How the target is trained, or the contents of the files that it was brought in."""
    brought = recipe.target
    if brought.checkpoint is None:
        return {"training": recipe.as_dict()["training"]}
    return {"target": [file_digest(path) for path in (*brought.trajectory, brought.checkpoint)]}


def _inputs(choice: Choice) -> dict[str, Any]:
    """A component with its options, its code and that of the components among them, and what lies in their files."""
    inner = {f"{each.kind} {each.name}": each.code() for each in choice.inner() if each is not choice}
    return {
        **choice.as_dict(),
        "code": choice.code(),
        **({"inner": inner} if inner else {}),
        "contents": dict(_files(choice.options)),
    }


def _defaults(choice: Choice) -> dict[str, Any]:
    """The default of each option, as `_inputs` tells its value."""
    signature = read_signature(choice.target, choice.kind, f"{choice.kind} {choice.name!r}")
    return {name: plain(value) for name, value in signature.defaults().items()}


def _at_defaults(settings: Any) -> dict[str, Any]:
    """A section of the core's settings with nothing set."""
    defaults: dict[str, Any] = plain(type(settings)())
    return defaults


def _code_of(registry: Registry, used: str) -> str:
    """The code of a component that a study asked for by name; empty if it is gone or broken."""
    kind, _, name = used.partition(" ")
    try:
        registered = registry.get(kind, name)
        return code_digest(registered.load(), registered.home)
    except DDMError:
        return ""


def _files(options: Any) -> Iterator[tuple[str, str]]:
    """Digests of the files among some options: another file under the old name is another input."""
    if isinstance(options, Choice):
        yield from _files(options.options)
    elif isinstance(options, Grid):
        yield from _files(options.choices)
    elif isinstance(options, Mapping | list | tuple):
        for each in options.values() if isinstance(options, Mapping) else options:
            yield from _files(each)
    elif isinstance(options, Path) and options.is_file():
        yield str(options), file_digest(options)

"""Check every key of a recipe, and report all problems together, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from ddm_framework.errors import Place, Problem, RecipeError, shown, suggestion
from ddm_framework.files import is_file
from ddm_framework.plugin import Choice, Registry
from ddm_framework.plugin.choosing import Fitting, is_component
from ddm_framework.plugin.signatures import validated
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import (
    COMPONENT_SECTIONS,
    SECTIONS,
    SHARED_SECTIONS,
    Certificate,
    General,
    Settings,
)
from ddm_framework.recipe.yaml_source import Source

_GENERAL_KEYS = ("schema", "seed", "device", "threads", "memory_mb", "matmul_precision", "engine", "ray_address")
_KEYS = (*_GENERAL_KEYS, *COMPONENT_SECTIONS, *SECTIONS, "objectives", "extends")


def check_source(source: Source, name: str, registry: Registry) -> Recipe:
    """Turn a tree of values into a recipe.

    Raises:
        RecipeError: with every problem found.
    """
    checker = _Checker(source, registry)
    recipe = checker.recipe(name)
    if recipe is None:
        problems = [Problem(message, source.mark(place)) for place, message in checker.misfits]
        raise RecipeError(sorted(problems, key=_order))
    return recipe


def _order(problem: Problem) -> tuple[str, int]:
    return (problem.mark.file, problem.mark.line or 0) if problem.mark else ("", 0)


class _Checker(Fitting):
    """Walks over a recipe once and collects all problems."""

    def __init__(self, source: Source, registry: Registry) -> None:
        super().__init__(registry, source.folder)
        self.source = source

    def recipe(self, name: str) -> Recipe | None:
        """The recipe, or None if problems keep it from being built."""
        tree = self.source.value
        for key in tree:
            if key not in _KEYS:
                self.add((key,), f"unknown key {key!r}{suggestion(key, _KEYS)} (keys: {', '.join(_KEYS)})")
        general = self.settings(General, (), {key: tree[key] for key in _GENERAL_KEYS if key in tree})
        sections = {key: self.section(key, model) for key, model in SECTIONS.items()}
        shared: dict[str, Settings | None] = {}
        choices: dict[str, Choice | None] = {}
        for key in COMPONENT_SECTIONS:
            choices[key], shared[key] = self.component_section(key)
        objectives = self.objectives()
        if all(sections.values()):
            if self.inherits_certificate(sections):
                sections["certificate"] = Certificate()
            for place, message in _clashes(sections):
                self.add(place, message)
        if self.misfits or general is None:
            return None
        beside = {"selection": shared["dataset"], "clustering": shared["clusterer"]}
        built = Recipe(name, general, objectives=objectives, **choices, **sections, **beside)  # type: ignore[arg-type]
        return built.with_target(built.target)

    def inherits_certificate(self, sections: Mapping[str, Any]) -> bool:
        """Whether the certificate belongs to a recipe that is extended by one about a network trained elsewhere."""
        if sections["target"].checkpoint is None or not sections["certificate"].retrainings:
            return False
        asked, brought = (
            self.source.mark(place) for place in (("certificate", "retrainings"), ("target", "checkpoint"))
        )
        return asked is not None and brought is not None and asked.line is not None and asked.file != brought.file

    def section(self, key: str, model: type[Settings]) -> Settings | None:
        """One of the core's own sections."""
        values = self.source.value.get(key, {})
        if not isinstance(values, dict):
            self.add((key,), f"`{key}` is a section of settings, found {shown(values)}")
            return None
        return self.settings(model, (key,), values)

    def settings(self, model: type[Settings], place: Place, values: dict[str, Any]) -> Settings | None:
        """Validate values against a model of settings."""
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        before = len(self.misfits)
        fitted = dict(values)
        for key, value in values.items():
            if key in fields:
                inner = _inner_settings(fields[key])
                if inner and isinstance(value, dict):
                    fitted[key] = self.settings(inner, (*place, key), value) or fields[key].default
                else:
                    fitted[key] = self.value(fields[key].annotation, value, (*place, key))
                    self.check_files(key, (*place, key), fitted[key])
        names = list(fields)
        built, problems = validated(
            model,
            fitted,
            lambda key: f"`{place[-1]}` has no setting {key!r}{suggestion(key, names)} (settings: {', '.join(names)})",
        )
        for within, message in problems:
            self.add((*place, *within), message)
        return built if len(self.misfits) == before else None

    def check_files(self, key: str, place: Place, value: Any) -> None:
        """Report files that a setting of the core names and that are not there."""
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and not is_file(path):
                self.add(place, f"{key}: there is no file {path}")

    def objectives(self) -> tuple[Choice, ...]:
        """The list of objectives; at least one."""
        listed = self.source.value.get("objectives")
        if not isinstance(listed, list) or not listed:
            found = "" if listed is None else f", found {shown(listed)}"
            self.add(("objectives",), f"`objectives` lists at least one, as in [{{use: output_shift}}]{found}")
            return ()
        chosen = [
            self.component("objective", self.choice, each, ("objectives", place)) for place, each in enumerate(listed)
        ]
        return tuple(choice for choice in chosen if choice)

    def component_section(self, kind: str) -> tuple[Choice | None, Settings | None]:
        """A component with its options, and the core's own settings in its section."""
        if kind not in self.source.value:
            self.add((), f"`{kind}` is missing; write `{kind}: {{use: ...}}`; `ddm ls {kind}` lists what there is")
            return None, None
        values, core = self.source.value[kind], SHARED_SECTIONS.get(kind)
        if core is None or not is_component(values):
            return self.component(kind, self.choice, values, (kind,)), None
        names = list(core.model_fields)
        settings = self.settings(core, (kind,), {key: values[key] for key in values if key in names})
        written = {key: values[key] for key in values if key not in names}
        return self.component(kind, partial(self.choice, core_names=names), written, (kind,)), settings


def _clashes(sections: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Settings that are valid alone but not together, each with its place and what is wrong."""
    target, matching, training = sections["target"], sections["matching"], sections["training"]
    length, every, kept = matching.step_length, training.checkpoint_every, len(target.trajectory)
    place = ("matching", "step_length")
    if target.checkpoint is None:
        for key in ("trajectory", "mean", "std", "epochs"):
            if getattr(target, key):
                yield ("target", key), f"`{key}` belongs to a network trained elsewhere; name its `checkpoint` too"
        if matching.pairing == "offset" and length > training.epochs:
            yield place, f"step_length ({length}) is larger than training.epochs ({training.epochs}); no pair fits"
        elif matching.pairing == "offset" and length % every:
            told = f"step_length ({length}) must be a multiple of training.checkpoint_every ({every}), "
            yield place, f"{told}because both ends of a pair must be saved checkpoints"
        replay, epochs = sections["online"].replay, training.epochs
        possible = [epochs - start for start in range(0, epochs, every)]
        if replay not in (0, "auto", *possible):
            nearest = min(possible, key=lambda each: abs(each - replay))
            told = f"replay ({replay}) must start at a saved checkpoint, and training.checkpoint_every is {every}"
            yield ("online", "replay"), f"{told} of {epochs} epochs; the nearest is {nearest}"
        return
    if (target.mean is None) != (target.std is None):
        yield ("target",), "`mean` and `std` go together: give both or neither"
    if kept and matching.pairing == "offset" and length > kept:
        told = f"step_length ({length}) is counted in checkpoints, and target.trajectory holds {kept}"
        yield place, f"{told} before the last one; no pair fits"
    if sections["corruption"].share or sections["corruption"].labels:
        yield ("corruption",), "a network trained elsewhere never saw data that are corrupted here; leave it out"
    if sections["certificate"].retrainings:
        yield ("certificate",), "a network trained elsewhere cannot be retrained exactly; leave `certificate` out"
    if sections["online"].replay not in (0, "auto"):
        yield ("online", "replay"), "how the network was trained is not known, so its end cannot be repeated; set 0"
    if sections["online"].start == "initial" and not kept:
        told = "`start: initial` needs the initial weights; list them first in target.trajectory"
        yield ("online", "start"), told


def _inner_settings(info: FieldInfo) -> type[Settings] | None:
    """The model that validates a mapping, if the setting may be a mapping."""
    members = (each for each in get_args(info.annotation) if isinstance(each, type) and issubclass(each, Settings))
    return next(members, None)

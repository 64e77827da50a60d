"""Check every key of a recipe, and report all problems together, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from ddm_framework.errors import Place, Problem, RecipeError, shown, suggestion
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.choosing import fitted_options
from ddm_framework.plugin.registry import Registry
from ddm_framework.plugin.signatures import validated
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import (
    COMPONENT_SECTIONS,
    SECTIONS,
    SHARED_SECTIONS,
    General,
    Matching,
    Settings,
    Target,
    Training,
)
from ddm_framework.recipe.yaml_source import Source, is_file

_GENERAL_KEYS = ("schema", "seed", "device", "threads", "memory_mb")


_KEYS = (*_GENERAL_KEYS, *COMPONENT_SECTIONS, *SECTIONS, "objectives", "extends")


def check_source(source: Source, name: str, registry: Registry) -> Recipe:
    """Turn a tree of values into a recipe.

    Raises:
        RecipeError: with every problem found.
    """
    checker = _Checker(source, registry)
    recipe = checker.recipe(name)
    if checker.problems or recipe is None:
        raise RecipeError(sorted(checker.problems, key=_order))
    return recipe


def _order(problem: Problem) -> tuple[str, int]:
    return (problem.mark.file, problem.mark.line or 0) if problem.mark else ("", 0)


class _Checker:
    """Walks over a recipe once and collects all problems."""

    def __init__(self, source: Source, registry: Registry) -> None:
        self.source = source
        self.registry = registry
        self.problems: list[Problem] = []

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
            choices[key], shared[key] = self.component(key, (key,))
        objectives = self.objectives()
        self.cross_checks(sections)
        if self.problems or general is None:
            return None
        built = Recipe(name, general, clustering=shared["clusterer"], objectives=objectives, **choices, **sections)  # type: ignore[arg-type]
        return built.with_target(built.target)

    def add(self, place: Place, message: str) -> None:
        """Note a problem at a place of the recipe."""
        self.problems.append(Problem(message, self.source.mark(place)))

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
        before = len(self.problems)
        known = {}
        for key, value in values.items():
            if key not in fields:
                names = ", ".join(fields)
                self.add(
                    (*place, key),
                    f"`{place[-1]}` has no setting {key!r}{suggestion(key, list(fields))} (settings: {names})",
                )
            elif (inner := _inner_settings(fields[key])) and isinstance(value, dict):
                known[key] = self.settings(inner, (*place, key), value) or fields[key].default
            else:
                known[key] = self.existing(key, (*place, key), value) if _names_files(fields[key]) else value
        built, problems = validated(model, known)
        for within, message in problems:
            self.add((*place, *within), message)
        return built if len(self.problems) == before else None

    def existing(self, key: str, place: Place, value: Any) -> Any:
        """The file or files that a setting of the core names; missing ones are reported."""
        found = self.paths(place, value)
        for path in found if isinstance(found, list) else [found]:
            if isinstance(path, Path) and not is_file(path):
                self.add(place, f"{key}: there is no file {path}")
        return found

    def paths(self, place: Place, value: Any) -> Any:
        """Absolute paths; a relative one starts from the file that contains it, or from the current folder (--set)."""
        if isinstance(value, list):
            return [self.paths((*place, index), each) for index, each in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            return (self.source.folder(place) / Path(value).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            self.add(place, f"{shown(value)} is not a valid path: {error}")
            return Path(value)

    def objectives(self) -> tuple[Choice, ...]:
        """The list of objectives; at least one."""
        listed = self.source.value.get("objectives")
        if not isinstance(listed, list) or not listed:
            found = "" if listed is None else f", found {shown(listed)}"
            self.add(("objectives",), f"`objectives` lists at least one, as in [{{use: output_shift}}]{found}")
            return ()
        found_choices = [self.component("objective", ("objectives", index))[0] for index in range(len(listed))]
        return tuple(choice for choice in found_choices if choice)

    def component(self, kind: str, place: Place) -> tuple[Choice | None, Settings | None]:
        """A component with its options, and the core's own settings in its section."""
        try:
            values = self.source.at(place)
        except KeyError:
            self.add((), f"`{kind}` is missing; write `{kind}: {{use: ...}}`; `ddm ls {kind}` lists what there is")
            return None, None
        if not isinstance(values, dict) or not isinstance(values.get("use"), str):
            self.add(place, f"{kind}: write {{use: name, option: value}}, found {shown(values)}")
            return None, None
        core = SHARED_SECTIONS.get(kind)
        core_names = list(core.model_fields) if core else []
        settings = self.settings(core, place, {k: v for k, v in values.items() if k in core_names}) if core else None
        written = {key: value for key, value in values.items() if key not in core_names}
        choice, misfits = fitted_options(
            self.registry, kind, written, lambda within: self.source.folder((*place, *within)), core_names
        )
        for misfit in misfits:
            self.add((*place, *misfit.place), misfit.message)
        return choice, settings

    def cross_checks(self, sections: Mapping[str, Any]) -> None:
        """Report settings that are valid alone but not together."""
        if any(settings is None for settings in sections.values()):
            return
        if sections["target"].checkpoint is None:
            self.check_training(sections["training"], sections["matching"], sections["target"])
        else:
            self.check_target(sections)

    def check_training(self, training: Training, matching: Matching, target: Target) -> None:
        """Check the settings of a target that the recipe trains."""
        for key in ("trajectory", "mean", "std"):
            if getattr(target, key):
                self.add(("target", key), f"`{key}` belongs to a network trained elsewhere; name its `checkpoint` too")
        length, every = matching.step_length, training.checkpoint_every
        place = ("matching", "step_length")
        if matching.pairing != "offset":
            return
        if length > training.epochs:
            self.add(place, f"step_length ({length}) is larger than training.epochs ({training.epochs}); no pair fits")
        elif length % every:
            self.add(
                place,
                f"step_length ({length}) must be a multiple of training.checkpoint_every ({every}), "
                "because both ends of a pair must be saved checkpoints",
            )

    def check_target(self, sections: Mapping[str, Any]) -> None:
        """Check the settings of a target that was trained elsewhere."""
        target, matching, kept = sections["target"], sections["matching"], len(sections["target"].trajectory)
        if (target.mean is None) != (target.std is None):
            self.add(("target",), "`mean` and `std` go together: give both or neither")
        if kept and matching.pairing == "offset" and matching.step_length > kept:
            self.add(
                ("matching", "step_length"),
                f"step_length ({matching.step_length}) is counted in checkpoints, and target.trajectory holds {kept}"
                " before the last one; no pair fits",
            )
        if sections["corruption"].share or sections["corruption"].labels:
            self.add(
                ("corruption",), "a network trained elsewhere never saw data that are corrupted here; leave it out"
            )
        if sections["certificate"].retrainings:
            self.add(
                ("certificate",), "a network trained elsewhere cannot be retrained exactly; leave `certificate` out"
            )
        if sections["online"].start == "initial" and not kept:
            self.add(
                ("online", "start"), "`start: initial` needs the initial weights; list them first in target.trajectory"
            )


def _names_files(info: FieldInfo) -> bool:
    """Whether a setting is a path or a list of paths."""
    return info.annotation in (Path, Path | None, list[Path])


def _inner_settings(info: FieldInfo) -> type[Settings] | None:
    """The model that validates a mapping, if the setting may be a mapping."""
    members = (each for each in get_args(info.annotation) if isinstance(each, type) and issubclass(each, Settings))
    return next(members, None)

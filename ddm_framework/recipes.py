"""A recipe: which components, with which options. Read, merged, checked as a whole, and resolved."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ddm_framework.errors import DDMError, Mark, Problem, RecipeError, shown, suggestion
from ddm_framework.registry import LOCAL_PREFIX, Registry
from ddm_framework.settings import (
    COMPONENT_SECTIONS,
    SECTIONS,
    SHARED_SECTIONS,
    Certificate,
    Clustering,
    Corruption,
    General,
    Matching,
    Online,
    Settings,
    Target,
    Training,
)
from ddm_framework.signatures import Signature, read_signature, value_problems
from ddm_framework.yaml_source import Place, Source, parse, read_source, write

GIVEN = "given_from_python"
"""What a run from Python says of a data set and a backbone that nobody but the caller can make again."""

_LASTING = {section: tuple(model.model_fields) for section, model in SHARED_SECTIONS.items()}
"""Keys of a component's section that are the core's, and so outlast the component."""
_GENERAL_KEYS = ("schema", "seed", "device", "threads", "memory_mb")
_KEYS = (*_GENERAL_KEYS, *COMPONENT_SECTIONS, *SECTIONS, "objectives", "extends")


@dataclass(frozen=True, slots=True)
class Choice:
    """A component that a recipe picked, with every option spelled out."""

    kind: str
    name: str
    options: dict[str, Any]
    target: Callable[..., Any] = field(repr=False, compare=False)

    def __call__(self, *core: Any) -> Any:
        """Call the component with the core's arguments and the recipe's options."""
        return self.target(*core, **self.options)

    def code(self) -> dict[str, str]:
        """A digest of the file of a local plugin (`--plugin`), so that an edited one is not taken for the old one."""
        module = sys.modules.get(self.target.__module__)
        if module is None or not module.__name__.startswith(LOCAL_PREFIX):
            return {}
        return {"code": hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:16]}

    def as_dict(self) -> dict[str, Any]:
        """As written in a recipe."""
        return {"use": self.name, **{name: _plain(value) for name, value in self.options.items()}}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe."""

    name: str
    general: General
    dataset: Choice
    backbone: Choice
    clusterer: Choice
    clustering: Clustering
    distance: Choice
    training: Training
    matching: Matching
    online: Online
    objectives: tuple[Choice, ...]
    study: Choice
    certificate: Certificate = field(default_factory=Certificate)
    target: Target = field(default_factory=Target)
    corruption: Corruption = field(default_factory=Corruption)

    def with_general(self, general: General) -> Recipe:
        """The same recipe with other general settings."""
        return replace(self, general=general)

    def with_target(self, target: Target) -> Recipe:
        """The same recipe with another target; one whose trajectory is unknown can only be paired with itself."""
        lone = target.checkpoint is not None and not target.trajectory
        matching = self.matching.model_copy(update={"pairing": "final"}) if lone else self.matching
        return replace(self, target=target, matching=matching)

    def as_dict(self) -> dict[str, Any]:
        """The recipe with every default spelled out, as plain values."""
        return {
            **_plain(self.general),
            "dataset": self.dataset.as_dict(),
            "corruption": _plain(self.corruption),
            "backbone": self.backbone.as_dict(),
            "clusterer": {**self.clusterer.as_dict(), **_plain(self.clustering)},
            "distance": self.distance.as_dict(),
            "training": _plain(self.training),
            "target": _plain(self.target),
            "matching": _plain(self.matching),
            "online": _plain(self.online),
            "objectives": [objective.as_dict() for objective in self.objectives],
            "study": self.study.as_dict(),
            "certificate": _plain(self.certificate),
        }

    def in_words(self) -> str:
        """One line for `ddm validate`."""
        return (
            f"{self.dataset.name}, {self.backbone.name}, {self.clusterer.name} with "
            f"{self.clustering.clusters_per_class} clusters a class, {self.distance.name} matching, "
            f"{', '.join(objective.name for objective in self.objectives)}, study {self.study.name}"
        )

    def as_yaml(self) -> str:
        """The resolved recipe as YAML text."""
        return write(self.as_dict())


def load_recipe(name: str, registry: Registry, settings: Sequence[str] = ()) -> Recipe:
    """Find, read, merge and check a recipe.

    Args:
        name: a path, or the name of a recipe that comes with ddm.
        registry: where components are looked up.
        settings: overrides, each `dotted.key=value`.
    Raises:
        RecipeError: with everything that is wrong.
    """
    path = find_recipe(name)
    source = _read_with_bases(path, ())
    for setting in settings:
        _apply_setting(source, setting)
    return check_source(source, path.stem, registry)


def find_recipe(name: str) -> Path:
    """The path itself if it exists, else the recipe of that name that comes with ddm.

    Raises:
        RecipeError: if there is none, with the nearest names.
    """
    if _is_file(Path(name)):
        return Path(name)
    package = Path(__file__).resolve().parent
    known: dict[str, Path] = {}
    for folder in (package / "recipes", package.parent / "recipes"):
        for path in sorted(folder.rglob("*.yaml")):
            known.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    wanted = name.removesuffix(".yaml").removeprefix("recipes/")
    if wanted in known:
        return known[wanted]
    raise RecipeError(
        [
            Problem(
                f"there is no file {name!r}, and no recipe of that name comes with ddm{suggestion(wanted, list(known))}"
            )
        ]
    )


def _is_file(path: Path) -> bool:
    """Whether there is such a file; no, if the system refuses even to look (the name is too long, a folder closed)."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read_with_bases(path: Path, chain: tuple[Path, ...]) -> Source:
    """The file laid over the recipes that it extends."""
    source = read_source(path)
    if not isinstance(source.value, dict):
        raise RecipeError([Problem("a recipe is a mapping of keys such as `dataset:`", source.mark(()))])
    if "extends" not in source.value:
        return source
    base = source.value.pop("extends")
    mark = source.mark(("extends",))
    if not isinstance(base, str):
        raise RecipeError([Problem(f"`extends` names one file, found {shown(base)}", mark)])
    base_path = source.folder(("extends",)) / base
    if not _is_file(base_path):
        raise RecipeError([Problem(f"`extends` names {base!r}, but there is no file {base_path}", mark)])
    chain = (*chain, path.resolve())
    if base_path.resolve() in chain:
        raise RecipeError([Problem(f"`extends` runs in a circle through {base_path.name}", mark)])
    merged = _read_with_bases(base_path, chain)
    merged.overlay(source, lasting=_LASTING)
    return merged


def _apply_setting(source: Source, setting: str) -> None:
    """Lay `dotted.key=value` over the recipe; a number in the key is a position in a list."""
    key, equals, text = setting.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise RecipeError([Problem(f"--set takes key=value as in --set matching.steps=50, found {setting!r}")])
    mark = Mark(f"--set {key}")
    if parts[0] == "extends":
        raise RecipeError([Problem("`extends` can only stand in a file", mark)])
    value = parse(text, mark.file, Path.cwd(), has_lines=False).value if text else None
    place: Place = ()
    around = source.value
    for part in parts:
        if isinstance(around, list) and part.isdecimal() and int(part) < len(around):
            place = (*place, int(part))
        elif isinstance(around, dict):
            place = (*place, part)
            if len(place) < len(parts) and part not in around:
                source.put(place, {}, mark, Path.cwd())
        else:
            within = f"`{'.'.join(map(str, place))}`"
            isnt = f"a list of {len(around)}, counted from 0" if isinstance(around, list) else "no section"
            raise RecipeError([Problem(f"{within} is {isnt}; it has no {part!r}", mark)])
        around = around[place[-1]] if len(place) < len(parts) else None
    if len(parts) > 1 and parts[-1] == "use":
        source.choose(place[:-1], value, _LASTING)
    source.put(place, value, mark, Path.cwd())


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
        for key, message in value_problems(model, known):
            self.add((*place, key), message)
        return model.model_validate(known) if len(self.problems) == before else None

    def existing(self, key: str, place: Place, value: Any) -> Any:
        """The file, or the files, that a setting of the core names."""
        found = self.paths(place, value)
        for path in found if isinstance(found, list) else [found]:
            if isinstance(path, Path) and not _is_file(path):
                self.add(place, f"{key}: there is no file {path}")
        return found

    def paths(self, place: Place, value: Any) -> Any:
        """Paths relative to the file that they stand in, or to the current folder where they come from --set."""
        if isinstance(value, list):
            return [self.paths((*place, index), each) for index, each in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            return (self.source.folder(place) / Path(value).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            self.add(place, f"{shown(value)} is no path: {error}")
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
        options = {key: value for key, value in values.items() if key != "use" and key not in core_names}
        try:
            registered = self.registry.get(kind, values["use"])
            target = registered.load()
            signature = read_signature(target, kind, f"{kind} {values['use']!r} of plugin {registered.plugin}")
        except DDMError as error:
            self.add((*place, "use"), str(error))
            return None, settings
        return self.choice(kind, values["use"], target, signature, options, place, core_names), settings

    def choice(
        self,
        kind: str,
        name: str,
        target: Callable[..., Any],
        signature: Signature,
        options: dict[str, Any],
        place: Place,
        core_names: list[str],
    ) -> Choice | None:
        """A component with its options checked and its paths resolved."""
        before = len(self.problems)
        for option in signature.options:
            if option.is_path and option.name in options:
                options[option.name] = self.paths((*place, option.name), options[option.name])
            if option.choices_of is not None and isinstance(options.get(option.name), list):
                self.choices(option.choices_of, (*place, option.name), options[option.name])
        for key, message in signature.problems(options, f"{kind} {name!r}", core_names):
            self.add((*place, key), f"{message}; `ddm show {kind} {name}` explains them")
        if len(self.problems) > before:
            return None
        values = signature.model.model_validate(options)
        return Choice(kind, name, {each: _resolved(getattr(values, each)) for each in signature.names}, target)

    def choices(self, kind: str, place: Place, listed: list[Any]) -> None:
        """Components that an option lists; an option of theirs may be a list of values to choose from."""
        for index, entry in enumerate(listed):
            if not isinstance(entry, dict) or not isinstance(entry.get("use"), str):
                self.add((*place, index), f"{kind}: write {{use: name, option: value}}, found {shown(entry)}")
                continue
            try:
                registered = self.registry.get(kind, entry["use"])
                signature = read_signature(registered.load(), kind, f"{kind} {entry['use']!r}")
            except DDMError as error:
                self.add((*place, index, "use"), str(error))
                continue
            for name, value in entry.items():
                for message in _choice_problems(signature, name, value, f"{kind} {entry['use']!r}"):
                    self.add((*place, index, name), f"{message}; `ddm show {kind} {entry['use']}` explains them")

    def cross_checks(self, sections: Mapping[str, Any]) -> None:
        """Settings that fit alone but not together."""
        if any(settings is None for settings in sections.values()):
            return
        if sections["target"].checkpoint is None:
            self.check_training(sections["training"], sections["matching"], sections["target"])
        else:
            self.check_target(sections)

    def check_training(self, training: Training, matching: Matching, target: Target) -> None:
        """What a target that is trained by the recipe asks for."""
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
        """What a target that was trained elsewhere cannot do."""
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
            self.add(("corruption",), "a network trained elsewhere never saw data that are spoilt here; leave it out")
        if sections["certificate"].retrainings:
            self.add(
                ("certificate",), "a network trained elsewhere cannot be retrained exactly; leave `certificate` out"
            )
        if sections["online"].start == "initial" and not kept:
            self.add(
                ("online", "start"), "`start: initial` needs the initial weights; list them first in target.trajectory"
            )


def _choice_problems(signature: Signature, name: str, value: Any, what: str) -> list[str]:
    """What is wrong with an option of a listed component: with its value, or with those in a list to choose from."""
    if name == "use" or not (as_it_is := signature.problems({name: value}, what)):
        return []
    if not isinstance(value, list):
        return [message for _, message in as_it_is]
    each = [problem for member in value for problem in signature.problems({name: member}, what)]
    return list(dict.fromkeys(message for _, message in each))


def _names_files(info: FieldInfo) -> bool:
    """Whether a setting is a path or a list of paths."""
    return info.annotation in (Path, Path | None, list[Path])


def _inner_settings(info: FieldInfo) -> type[Settings] | None:
    """The settings that a mapping stands for, where a setting may be one."""
    members = (each for each in get_args(info.annotation) if isinstance(each, type) and issubclass(each, Settings))
    return next(members, None)


def _resolved(value: Any) -> Any:
    """A default path is relative to the current folder, and so spelled out, as the resolved recipe lies elsewhere."""
    return value.resolve() if isinstance(value, Path) else value


def _plain(value: Any) -> Any:
    """Values as YAML and JSON can hold them."""
    if isinstance(value, BaseModel):
        return {key: _plain(each) for key, each in value.model_dump(by_alias=True).items()}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted places at which two trees of plain values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif old != new:
        yield place, old, new

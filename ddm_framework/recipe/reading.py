"""Find a recipe, read it, merge it over those that it extends, apply `--set`, and check the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddm_framework.errors import Mark, Place, Problem, RecipeError, shown, suggestion
from ddm_framework.files import is_file
from ddm_framework.plugin import Registry
from ddm_framework.recipe.checking import check_source
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import SHARED_SECTIONS
from ddm_framework.recipe.yaml_source import Source, parse, read_source

_LASTING = {section: tuple(model.model_fields) for section, model in SHARED_SECTIONS.items()}
"""Keys of a component's section that belong to the core, so they are kept if the component is replaced."""


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
    source = read_merged(path)
    for setting in settings:
        _apply_setting(source, setting)
    return check_source(source, path.stem, registry)


def find_recipe(name: str) -> Path:
    """The path itself if it exists, else the recipe of that name that comes with ddm.

    Raises:
        RecipeError: if there is none, with the nearest names.
    """
    if is_file(Path(name)):
        return Path(name)
    known = known_recipes()
    wanted = name.removesuffix(".yaml").removeprefix("recipes/")
    if wanted in known:
        return known[wanted]
    near = suggestion(wanted, list(known))
    raise RecipeError([Problem(f"there is no file {name!r}, and no recipe of that name comes with ddm{near}")])


def known_recipes() -> dict[str, Path]:
    """The recipes that come with ddm, by name."""
    package = Path(__file__).resolve().parents[1]
    known: dict[str, Path] = {}
    for folder in (package / "recipes", package.parent / "recipes"):
        for path in sorted(folder.rglob("*.yaml")):
            known.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return known


def read_merged(path: Path, chain: tuple[Path, ...] = ()) -> Source:
    """The file merged over the recipes that it extends.

    Args:
        path: of a recipe.
        chain: the files that extend it, to refuse a circle.
    Raises:
        RecipeError: for a file that is missing, no recipe, or extended in a circle.
    """
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
    if not is_file(base_path):
        raise RecipeError([Problem(f"`extends` names {base!r}, but there is no file {base_path}", mark)])
    chain = (*chain, path.resolve())
    if base_path.resolve() in chain:
        raise RecipeError([Problem(f"`extends` runs in a circle through {base_path.name}", mark)])
    merged = read_merged(base_path, chain)
    merged.overlay(source, lasting=_LASTING)
    return merged


def _apply_setting(source: Source, setting: str) -> None:
    """Apply `dotted.key=value` to the recipe; a number in the key is a position in a list."""
    key, equals, text = setting.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise RecipeError([Problem(f"--set takes key=value as in --set matching.steps=50, found {setting!r}")])
    mark = Mark(f"--set {key}")
    if parts[0] == "extends":
        raise RecipeError([Problem("`extends` is allowed only in a file", mark)])
    value = parse(text, mark.file, Path.cwd(), has_lines=False).value if text else None
    place: Place = ()
    around = source.value
    for part in parts:
        if isinstance(around, list) and part.isdecimal() and len(part) < 10 and int(part) < len(around):
            place = (*place, int(part))
        elif isinstance(around, dict):
            place = (*place, part)
            if len(place) < len(parts) and part not in around:
                source.put(place, {}, mark, Path.cwd())
        else:
            within = f"`{'.'.join(map(str, place))}`"
            isnt = f"a list of {len(around)}, counted from 0" if isinstance(around, list) else "not a section"
            raise RecipeError([Problem(f"{within} is {isnt}; it has no {part!r}", mark)])
        around = around[place[-1]] if len(place) < len(parts) else None
    if len(parts) > 1 and parts[-1] == "use":
        source.choose(place[:-1], value, _LASTING)
    source.put(place, value, mark, Path.cwd())

"""What the shell offers after a Tab: recipes, run folders, kinds and names of components."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer


def recipes(incomplete: str) -> list[str]:
    """Recipes that come with ddm, and recipe files."""
    from ddm_framework.recipe.reading import known_recipes

    return [*_beginning(known_recipes(), incomplete), *_paths(incomplete, ".yaml")]


def runs(incomplete: str) -> list[str]:
    """Folders; a run is one."""
    return _paths(incomplete, None)


def kinds(incomplete: str) -> list[str]:
    """Kinds of components."""
    from ddm_framework.plugin import KINDS

    return _beginning(KINDS, incomplete)


def components(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the components of the kind that was written before."""
    from ddm_framework.plugin import KINDS, load_plugins

    kind = context.params.get("kind")
    return _beginning(load_plugins().names(kind), incomplete) if kind in KINDS else []


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(each for each in names if each.startswith(incomplete))


def _paths(incomplete: str, suffix: str | None) -> list[str]:
    """Folders, and files of a suffix, whose path begins as it was written."""
    folder, _, begun = incomplete.rpartition("/")
    place = Path(f"{folder}/") if incomplete.startswith("/") or folder else Path()
    found = []
    try:
        for each in sorted(place.iterdir()):
            shown = f"{folder}/{each.name}" if "/" in incomplete else each.name
            if each.name.startswith(begun) and (begun or each.name[0] != "."):
                if each.is_dir():
                    found.append(f"{shown}/")
                elif suffix and each.suffix == suffix:
                    found.append(shown)
    except OSError:
        return []
    return found

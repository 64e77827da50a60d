"""Every table and figure of the paper has a recipe at its settings, and one that a laptop finishes in minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe

PAPER = Path(__file__).resolve().parents[3] / "recipes" / "paper"
RECIPES = sorted(path.stem for path in PAPER.glob("*.yaml"))
LARGE = [name for name in RECIPES if not name.endswith("_small")]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name: str) -> None:
    assert load_recipe(str(PAPER / f"{name}.yaml"), load_plugins()).study.name


@pytest.mark.parametrize("name", LARGE)
def test_every_recipe_has_a_small_one_of_the_same_study(name: str) -> None:
    large, small = (load_recipe(str(PAPER / f"{each}.yaml"), load_plugins()) for each in (name, f"{name}_small"))
    assert small.study.name == large.study.name
    assert small.dataset.name == large.dataset.name
    assert small.general.threads == 1

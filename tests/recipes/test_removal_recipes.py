"""Recipes of Tables 3, 6 and 7 have Table 5's settings, the paper's percentages, and small ones of the same kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.recipe import Recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "paper"
SHOWN = {
    "table3_mnist": [0, 1, 10, 20, 50],
    "table6_mnist": [0, 10, 20, 30, 40],
    "table7_cifar10": [0, 10, 20, 30, 40],
}


def recipe(name: str) -> Recipe:
    return load_recipe(str(RECIPES / f"{name}.yaml"), load_plugins())


@pytest.mark.parametrize("name", SHOWN)
def test_the_large_ones_have_the_settings_of_table_5_and_the_papers_percentages(name: str) -> None:
    found = recipe(name)
    assert found.training.lr == (0.01 if "cifar10" in name else 0.001)
    assert (found.training.epochs, found.matching.steps, found.matching.step_length) == (30, 50, 4)
    assert found.backbone.name == ("resnet" if "cifar10" in name else "convnet")
    assert found.study.options["percentages"] == SHOWN[name]
    assert found.study.options["replicates"] == 5


@pytest.mark.parametrize("name", [*SHOWN, "table6_labels_mnist"])
def test_the_small_ones_ask_the_same_with_three_replicates(name: str) -> None:
    found = recipe(f"{name}_small")
    assert found.general.threads == 1
    assert found.study.options["replicates"] == 3
    assert found.study.options["percentages"] == SHOWN.get(name, SHOWN["table6_mnist"])


def test_table_6_spoils_a_fifth_of_the_images_or_of_the_labels() -> None:
    noise, labels = recipe("table6_mnist").corruption, recipe("table6_labels_mnist_small").corruption
    assert (noise.share, noise.noise, noise.labels) == (0.2, 0.1, 0.0)
    assert (labels.share, labels.labels) == (0.0, 0.2)
    assert recipe("table3_mnist").corruption.share == 0
    assert [recipe(f"table{table}_mnist").study.options["table"] for table in (3, 6)] == [3, 6]

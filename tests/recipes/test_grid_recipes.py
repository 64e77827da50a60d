"""The paper's grid has the settings of Table 5 and runs on slices of the real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ddm_framework
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.recipe import Recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
DATA_SETS = ("mnist", "cifar10", "cifar100", "tinyimagenet")
BACKBONES = ("convnet", "alexnet", "resnet", "vit")
GRID = [f"{data_set}_{backbone}" for data_set in DATA_SETS for backbone in BACKBONES]
SMALL = {
    "convnet": ["backbone.width=4"],
    "alexnet": ["backbone.width=4"],
    "resnet": ["backbone.width=4", "backbone.blocks=[1,1]"],
    "vit": ["backbone.width=16", "backbone.depth=1", "backbone.heads=2"],
}
SLICE = [
    *("threads=1", "clusterer.clusters_per_class=2", "clusterer.restarts=1", "training.epochs=5"),
    *("training.batch_size=32", "training.checkpoint_every=1", "matching.steps=2", "study.queries=10", "study.show=1"),
]


def files_of(data_set: str, folder: Path) -> list[str]:
    """Settings that point a recipe at a slice of the real files."""
    sizes = {"cifar100": (100, 40), "tinyimagenet": (100, 40)}.get(data_set, (60, 20))
    train, test = (f"dataset.{name}_size={size}" for name, size in zip(("train", "test"), sizes, strict=True))
    if data_set in ("mnist", "tinyimagenet"):
        cache = ["dataset.cache=null", "dataset.size=32"] if data_set == "tinyimagenet" else []
        return [f"dataset.root={folder}", *cache, train, test]
    name = {"cifar10": "cifar10_6k.npz", "cifar100": "cifar100_20c.npz"}[data_set]
    return ["dataset.use=npz", f"dataset.path={folder / name}", train, test]


@pytest.fixture
def real_files() -> Path:
    named = os.environ.get("DDM_TEST_DATA", "")
    if not named or not Path(named).is_dir():
        pytest.skip("the real files are not here; point DDM_TEST_DATA to a folder with MNIST, CIFAR and TinyImageNet")
    return Path(named)


def recipe(name: str) -> Recipe:
    return load_recipe(str(RECIPES / f"{name}.yaml"), load_plugins())


@pytest.mark.parametrize("name", GRID)
def test_the_grid_has_the_settings_of_table_5(name: str) -> None:
    data_set, backbone = name.split("_")
    found = recipe(name)
    assert (found.dataset.name, found.backbone.name) == (data_set, backbone)
    assert found.distance.name == ("mse" if backbone == "vit" else "cosine")
    assert found.matching.lr == (0.005 if backbone == "vit" else 0.1)
    assert found.training.lr == (0.001 if data_set == "mnist" else 0.01)
    assert (found.training.epochs, found.matching.steps, found.matching.step_length) == (30, 50, 4)
    assert (found.clustering.clusters_per_class, found.matching.images_per_cluster) == (10, 1)
    assert found.matching.init == "real"
    assert found.training.augmentation == ([] if data_set == "mnist" else ["crop", "flip"])


@pytest.mark.parametrize("name", GRID)
def test_the_grid_runs_on_a_slice_of_the_real_files(name: str, real_files: Path, tmp_path: Path) -> None:
    data_set, backbone = name.split("_")
    settings = [*files_of(data_set, real_files), *SMALL[backbone], *SLICE]
    done = ddm_framework.run(RECIPES / f"{name}.yaml", settings, out=tmp_path / "run")
    classes = 10 if data_set in ("mnist", "cifar10") else 20
    assert len(done.metrics["matching"]["cosine"]) == 2 * classes
    assert done.report.stat().st_size > 10_000

"""What docs/own_images.md and docs/own_network.md tell people to write works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import ddm_framework
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["training.epochs=5", "matching.steps=2", "study.queries=3", "study.show=1", "clusterer.clusters_per_class=2"]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cats are bright above, dogs below; 40 pixels wide."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for label, rows in (("cat", slice(0, 20)), ("dog", slice(20, 40))):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 90, (40, 40, 3), dtype=np.uint8)
                pixels[rows] += 120
                Image.fromarray(pixels).save(folder / f"{number:04}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe_of(page: str, folder: Path) -> Path:
    (text,) = blocks(page, "yaml")
    tree: dict[str, Any] = yaml.safe_load(text)
    path = folder / "page.yaml"
    path.write_text(text.replace("digits_convnet.yaml", str(ROOT / "recipes" / tree["extends"])), encoding="utf-8")
    return path


def test_the_command_for_a_folder_of_images_runs(photos: Path) -> None:
    command = blocks("own_images.md", "sh")[0]
    settings = re.findall(r"--set (\S+)", command)
    assert settings == ["dataset.use=imagefolder", "dataset.root=photos"]
    done = ddm_framework.run("digits_convnet", [*settings, *SMALL, "backbone.width=4"], out=photos / "runs" / "photos")
    assert done.workspace.info.class_names == ("cat", "dog")


def test_the_recipe_for_images_runs(photos: Path) -> None:
    small = [*SMALL, "backbone.width=4", "training.epochs=5"]
    done = ddm_framework.run(recipe_of("own_images.md", photos), small, out=photos / "run")
    assert done.workspace.info.shape == (3, 64, 64) and list((photos / "photos" / ".pixels").iterdir())


def test_the_recipe_for_a_network_from_elsewhere_is_valid_and_runs(photos: Path) -> None:
    path = recipe_of("own_network.md", photos)
    arguments = "{img_size: 64, patch_size: 32, embed_dim: 24, depth: 1, num_heads: 2}"
    small = [f"backbone.arguments={arguments}"]
    for name in ("net.safetensors", "epoch_0.pt", "epoch_5.pt", "epoch_10.pt"):
        (photos / name).touch()
    recipe = load_recipe(str(path), load_plugins(), small)
    module = recipe.backbone(recipe.dataset().info)
    for name in ("epoch_0.pt", "epoch_5.pt", "epoch_10.pt"):
        torch.save(module.state_dict(), photos / name)
    from safetensors.torch import save_file

    save_file(module.state_dict(), photos / "net.safetensors")
    done = ddm_framework.run(path, [*small, *SMALL], out=photos / "run")
    assert sorted(done.workspace.trajectory) == [0, 1, 2, 3]


def test_the_python_of_the_page_runs(photos: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    state = {name: each.clone() for name, each in module.state_dict().items()}
    pixels, labels = torch.rand(30, 1, 6, 6), torch.arange(30) % 3
    names = {
        **{"module": module, "epoch_0": state, "epoch_5": state, "epoch_10": state, "some_pixels": pixels[:2]},
        **{"train_pixels": pixels, "train_labels": labels, "test_pixels": pixels[:6], "test_labels": labels[:6]},
    }
    (code,) = blocks("own_network.md", "python")
    assert "clusters_per_class=2" in code
    exec(code, names)
    assert names["answer"].effect.shape == (2, 6, 1)  # type: ignore[attr-defined]
    assert (photos / "runs" / "Sequential" / "report.html").is_file()

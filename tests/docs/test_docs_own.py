"""What docs/own_images.md and docs/own_network.md tell people to write works as it stands there."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

import ddm_framework
from ddm_framework.cli.commands import app
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["training.epochs=5", "matching.steps=2", "study.queries=3", "study.show=1", "clusterer.clusters_per_class=2"]
SMALL += ["certificate.retrainings=3", "certificate.singles=3"]


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


def test_the_commands_that_act_on_an_answer_run(photos: Path) -> None:
    """In the order of the page; a run is small, and its first command is the one that made it."""
    lines = [line for block in blocks("own_images.md", "sh") for line in block.splitlines()]
    Image.new("RGB", (40, 40)).save(photos / "misread.jpg")
    small = [word for each in [*SMALL, "backbone.width=4"] for word in ("--set", each)]
    commands = ["run", "attribute", "members", "members", "members", "audit", "run", "audit"]
    assert [line.split()[1] for line in lines] == commands
    for line in lines:
        command, _, target = line.partition(" > ")
        words = shlex.split(command)[1:]
        if words[0] == "audit" and "--drop" in words:
            words += ["--top", "3"]  # so small a network believes anything
        told = CliRunner().invoke(app, [*words, *(small if words[0] == "run" else [])], catch_exceptions=False)
        assert told.exit_code == 0, (line, told.output)
        if target:
            (photos / target).write_text(told.stdout)
    listed = list(csv.DictReader((photos / "members.csv").open()))
    assert all(Path(row["file"]).is_file() and row["cluster"] == "1" for row in listed)
    after = ddm_framework.open_run(photos / "runs" / "without")
    assert (
        len(after.workspace.data.train)
        == len(ddm_framework.open_run(photos / "runs" / "photos").workspace.data.train) - 3
    )
    assert after.members(1) and after.audit().samples
    _assert_files_are_handed_on(photos)


def _assert_files_are_handed_on(photos: Path) -> None:
    """The page's example for FiftyOne, which stands in as a module that keeps what it is given."""
    (code,) = blocks("own_images.md", "python")
    assert len(code.strip().splitlines()) <= 12
    kept, shown = [], []

    class Sample(dict[str, Any]):
        def __init__(self, filepath: str, tags: list[str]) -> None:
            super().__init__(filepath=filepath, tags=tags)

    class Dataset:
        def __init__(self, name: str) -> None:
            self.add_sample = kept.append

        def sort_by(self, field: str, reverse: bool) -> list[Any]:
            return sorted(kept, key=lambda each: each[field], reverse=reverse)

    fiftyone: Any = types.ModuleType("fiftyone")
    fiftyone.Sample, fiftyone.Dataset, fiftyone.launch_app = Sample, Dataset, shown.append
    fiftyone.Classification = dict
    with mock.patch.dict(sys.modules, {"fiftyone": fiftyone}):
        exec(code, {})
    run = ddm_framework.open_run(photos / "runs" / "photos")
    assert [each["filepath"] for each in kept] == [each.file for each in run.audit().samples]
    assert all(Path(each["filepath"]).is_file() for each in kept)
    assert shown[0][0]["suspicion"] == 1.0


def test_the_figures_of_the_audit_are_those_of_the_committed_result() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "audit.json").read_text())
    found = [seed["auc"] for case in ("digits", "mnist") for seed in stored[case]["seeds"].values()]
    assert len(found) == 6
    cleanlab = [max(value for name, value in each.items() if name.startswith("cleanlab")) for each in found]
    margin, effect = ([each[name] for each in found] for name in ("margin", "loss_without"))
    assert all(ours >= theirs for ours, theirs in zip(margin, cleanlab, strict=True))
    text = " ".join((ROOT / "docs" / "own_images.md").read_text(encoding="utf-8").split())
    for start, values in (("an AUC of ", margin), ("reaches ", cleanlab), ("wrong label, ", effect)):
        assert f"{start}{min(values):.4f} to {max(values):.4f}" in text


def test_the_table_of_images_is_one_that_is_read(photos: Path) -> None:
    (text,) = blocks("own_images.md", "csv")
    header, *rows = text.strip().splitlines()
    lines = [header]
    for number in range(6):  # as many images of each line as a run needs
        for row in rows:
            path, *rest = row.split(",")
            own = path.replace(".png", f"_{number}.png")
            (photos / own).parent.mkdir(exist_ok=True)
            Image.new("L", (8, 8), 20 * number).save(photos / own)
            lines.append(",".join([own, *rest]))
            lines.append(",".join([own, rest[0], "test" if "train" in rest else "train", f"other {number}"]))
    (photos / "scans.csv").write_text("\n".join(lines))
    settings = yaml.safe_load(
        re.findall(r"`(\{use: manifest, .*?\})`", (ROOT / "docs" / "own_images.md").read_text())[0]
    )
    chosen = [f"dataset.{key}={value}" for key, value in settings.items()]
    done = ddm_framework.run(
        "digits_convnet", [*chosen, *SMALL, "backbone.width=4", "dataset.size=8"], out=photos / "run"
    )
    assert done.workspace.info.class_names == ("benign", "malignant")


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
    done = ddm_framework.run(path, [*small, *SMALL[:-2]], out=photos / "run")
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
    code, _ = blocks("own_network.md", "python")
    assert "clusters_per_class=2" in code
    exec(code, names)
    assert names["answer"].effect.shape == (2, 6, 1)  # type: ignore[attr-defined]
    assert (photos / "runs" / "Sequential" / "report.html").is_file()


def test_the_training_of_the_page_certifies(photos: Path) -> None:
    def build() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))

    images, labels = torch.rand(36, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(36) % 3
    images[:, 0] += 0.5 * torch.eye(3).repeat(2, 2)[labels % 3].unsqueeze(1)
    images /= images.max()
    _, code = blocks("own_network.md", "python")
    training, _, bringing = code.partition("run = ")
    names: dict[str, Any] = {"torch": torch, "ddm_framework": ddm_framework, "build": build}
    names |= {"images": images, "labels": labels, "test_images": images[:9], "test_labels": labels[:9]}
    exec(training, names)
    kept = [names["train"](torch.ones(36), build(), 3 - epochs).state_dict() for epochs in range(3)]
    names |= {f"epoch_{epoch}": each for epoch, each in enumerate(kept)}
    names["module"] = names["train"](torch.ones(36))
    exec(f"run = {bringing}", names)
    run = names["run"]
    assert run.certificate["num_retrainings"] == 3
    assert run.metrics["train_function"]["shift"] < 1e-5
    for name in ("removal", "privacy"):
        assert f"`{name}`" in (ROOT / "docs" / "own_network.md").read_text()

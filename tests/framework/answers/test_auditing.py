"""Suspicious samples come first, what is said of each is right, and what was dropped is gone in the next run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from html_page import Page
from PIL import Image
from run_fixtures import DIGITS, copied, ddm, refused, save_data, tiny
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import ddm_framework
from ddm_framework.answers.auditing import LIST_COLUMNS, audit, comparison
from ddm_framework.answers.sample_influence import influences
from ddm_framework.errors import DDMError


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, 15 % of whose training labels are wrong."""
    folder = tmp_path_factory.mktemp("noisy")
    text = DIGITS.replace("epochs: 8", "epochs: 12").replace("steps: 30", "steps: 5")
    (folder / "digits.yaml").write_text(text + "corruption: {labels: 0.15, seed: 5}\n")
    return ddm_framework.run(folder / "digits.yaml", out=folder / "run").path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_wrong(row: dict[str, str]) -> bool:
    """Judged by scikit-learn's own labels, by the index in its order."""
    return int(row["class"]) != load_digits().target[int(row["sample"])]


def test_wrong_labels_come_first(noisy: Path) -> None:
    trained = [row for row in read(noisy / "samples.csv") if row["split"] == "train"]
    wrong = [is_wrong(row) for row in trained]
    assert sum(wrong) == round(0.15 * len(trained))
    area = roc_auc_score(wrong, [float(row["suspicion"]) for row in trained])
    assert area >= 0.95
    found = ddm_framework.open_run(noisy).audit()
    assert found.detection == pytest.approx(area, abs=1e-6)
    first = [wrong[place] for place in found.first(100)]
    assert sum(first) >= 95


def test_clusters_that_the_network_disbelieves_are_named_first(noisy: Path) -> None:
    told = json.loads(ddm("audit", noisy, "--json")[1])
    rows = read(noisy / "samples.csv")
    shares = []
    for each in told["clusters"]:
        members = [row for row in rows if row["cluster"] == str(each["cluster"])]
        share = np.mean([float(row["margin"]) < 0 for row in members])
        assert (each["images"], each["disbelieved"]) == (len(members), pytest.approx(share))
        assert {row["class"] for row in members} == {each["class"]}
        shares.append(share)
    assert shares == sorted(shares, reverse=True)


def test_what_is_dropped_is_gone_and_the_network_is_compared(noisy: Path, tmp_path: Path) -> None:
    run = copied(noisy, tmp_path)
    status, out, err = ddm("audit", run, "--drop", tmp_path / "mask.csv", "--top", 150)
    assert (status, err) == (0, "")
    assert "to drop:" in out
    listed = read(tmp_path / "mask.csv")
    assert len(listed) == 150
    settings = [f"dataset.drop={tmp_path / 'mask.csv'}"]
    after = ddm_framework.run(run.parent / "digits.yaml", settings, out=tmp_path / "after")
    assert f"{150} of 1260 training images are left out, as mask.csv says" in after.metrics["notes"]
    rest = {row["sample"] for row in read(after.path / "samples.csv") if row["split"] == "train"}
    before = {row["sample"] for row in read(run / "samples.csv") if row["split"] == "train"}
    assert rest == before - {row["sample"] for row in listed}
    told = json.loads(ddm("audit", after.path, "--before", run, "--json")[1])
    compared = told["compared"]
    assert compared["num_training"] == {"before": 1260, "after": 1110}
    assert compared["test"]["after"]["accuracy"] == pytest.approx(after.metrics["target"]["test_accuracy"])
    assert compared["validation"]["after"]["loss"] < compared["validation"]["before"]["loss"]
    assert "Before and after" in Page((after.path / "audit" / "audit.html").read_text()).text
    assert "training samples" in ddm("audit", after.path, "--before", run)[1]
    assert ddm_framework.open_run(after.path).audit().samples  # the run opens again with its mask


def test_the_annotators_own_list_is_a_mask_too(noisy: Path, tmp_path: Path) -> None:
    run = copied(noisy, tmp_path)
    ddm("audit", run)
    rows = read(run / "audit" / "audit.csv")
    assert tuple(rows[0]) == LIST_COLUMNS
    assert len(rows) == 1260
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins)
    for row in rows[:7]:
        row["drop"] = "x"
    with (tmp_path / "checked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, LIST_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    from ddm_framework.data.dropping import read_entries

    assert [entry.sample for entry in read_entries(tmp_path / "checked.csv")] == [
        int(row["sample"]) for row in rows[:7]
    ]


def test_other_test_images_cannot_be_compared(run: ddm_framework.Run, tmp_path: Path) -> None:
    save_data(tmp_path / "data.npz", seed=1)
    other = ddm_framework.run(tiny(tmp_path), out=tmp_path / "run")
    with pytest.raises(DDMError, match="was tested on other images than"):
        comparison(run.workspace, other.workspace)
    assert {"test", "validation"} < comparison(run.workspace, run.workspace).keys()


def test_influences_are_those_of_a_loop(run: ddm_framework.Run) -> None:
    workspace = run.workspace
    found, data, held = influences(workspace), workspace.data.train, workspace.data.validation
    training = workspace.recipe.training
    own, other = torch.zeros(len(data), dtype=torch.float64), torch.zeros(len(data), dtype=torch.float64)
    for epoch in (2, 4):  # each stands for two epochs of a constant rate
        rate = 2 * training.lr / (training.batch_size * (1 - training.momentum))
        module = workspace.module(workspace.trajectory[epoch]).double().requires_grad_()

        def gradient(images: torch.Tensor, labels: torch.Tensor, module: torch.nn.Module = module) -> torch.Tensor:
            loss = F.cross_entropy(module(images.double()), labels)
            return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(module.parameters()))])

        whole = gradient(held.images[:], held.labels)
        for index in range(len(data)):
            each = gradient(data.images[index][None], data.labels[index][None])
            own[index] += rate * each @ each
            other[index] += rate * each @ whole
    assert torch.allclose(found.on_itself, own, rtol=1e-3)
    assert found.loss_without is not None
    assert torch.allclose(found.loss_without, other, rtol=1e-3, atol=1e-6)


def test_without_a_validation_split_there_is_no_effect_on_it(tmp_path: Path) -> None:
    made = ddm_framework.run(tiny(tmp_path, dataset="{use: npz, path: data.npz, validation: 0}"), out=tmp_path / "run")
    assert made.audit().influence.loss_without is None
    assert ddm("audit", made.path)[0] == 0
    assert {row["loss_without"] for row in read(made.path / "audit" / "audit.csv")} == {""}


def test_nothing_is_detected_where_nothing_was_spoilt(run: ddm_framework.Run) -> None:
    assert audit(run.workspace).detection is None


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("<script>alert(1)", "b & 'c'", "d"):
        for number in range(8):
            path = tmp_path / "photos" / name / f"<img src=x onerror=alert({number})>\x1b[2J.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    dataset = "{use: imagefolder, root: photos, size: 6, grayscale: true, validation: 0.25}"
    made = ddm_framework.run(tiny(tmp_path, dataset=dataset), out=tmp_path / "run")
    status, out, _ = ddm("audit", made.path, "--top", 5)
    assert status == 0
    assert "\x1b" not in out
    html = (made.path / "audit" / "audit.html").read_text()
    assert "<img src=x" not in html
    assert "<script>alert" not in html
    assert "onerror=alert(" in Page(html).text
    mask = tmp_path / "mask.csv"
    ddm("audit", made.path, "--top", 2, "--drop", mask)
    dropped = {row["file"] for row in read(mask)}
    again = ddm_framework.run(tiny(tmp_path, dataset=dataset), [f"dataset.drop={mask}"], out=tmp_path / "again")
    assert dropped.isdisjoint({row["file"] for row in read(again.path / "samples.csv") if row["split"] == "train"})
    assert len(read(again.path / "samples.csv")) == 22


def test_files_may_be_written_elsewhere(noisy: Path, tmp_path: Path) -> None:
    told = json.loads(ddm("audit", noisy, "--out", tmp_path / "there", "--json")[1])
    assert {Path(told[name]) for name in ("page", "list")} == set((tmp_path / "there").iterdir())
    assert told["drop"] is None
    (tmp_path / "file").touch()
    assert "cannot write" in refused("audit", noisy, "--out", tmp_path / "file")


def test_a_mask_that_is_not_there_is_named_and_a_network_from_elsewhere_has_none(
    tmp_path: Path, run: ddm_framework.Run
) -> None:
    recipe = tiny(tmp_path)
    assert "drop: there is no file" in refused("run", recipe, "--set", "dataset.drop=gone.csv", "--out", tmp_path / "x")
    (tmp_path / "mask.csv").write_text("sample\n0\n")
    brought = run.path / "offline" / "trajectory" / "epoch_004.safetensors"
    settings = ["--set", f"dataset.drop={tmp_path / 'mask.csv'}", "--set", f"target.checkpoint={brought}"]
    told = refused("run", recipe, *settings, "--out", tmp_path / "y")
    assert told == "a network trained elsewhere was trained on all of its data; leave `dataset.drop` out"


def test_a_changed_mask_is_another_input(tmp_path: Path) -> None:
    recipe = tiny(tmp_path)
    save_data(tmp_path / "data.npz")
    whole = read(ddm_framework.run(recipe, out=tmp_path / "whole").path / "samples.csv")
    trained = [row["sample"] for row in whole if row["split"] == "train"]
    mask = tmp_path / "mask.csv"
    mask.write_text(f"sample\n{trained[0]}\n")
    ddm_framework.run(recipe, [f"dataset.drop={mask}"], out=tmp_path / "run")
    mask.write_text(f"sample\n{trained[1]}\n")
    told = refused("run", recipe, "--set", f"dataset.drop={mask}", "--out", tmp_path / "run")
    assert "holds a run with other settings (stage training)" in told

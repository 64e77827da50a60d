"""Several networks on the same data: each is a run of its own, and their class-wise attributions are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

import ddm_framework
from ddm_framework.artifacts import load_tensors

RECIPE = """\
seed: 0
threads: 1
dataset: {use: digits}
backbone: {use: convnet, width: 4, depth: 2}
clusterer: {use: kmeans, clusters_per_class: 1, restarts: 1}
distance: {use: cosine}
training: {epochs: 5, lr: 0.1}
matching: {steps: 30}
objectives: [{use: output_shift}]
study:
  use: architectures
  queries: 20
  backbones:
    - {use: convnet, width: 4, depth: 2}
    - {use: convnet, width: 6, depth: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ddm_framework.Run:
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "recipe.yaml").write_text(RECIPE)
    return ddm_framework.run(folder / "recipe.yaml", out=folder / "run")


def test_networks_are_named_by_what_tells_them_apart(run: ddm_framework.Run) -> None:
    assert list(run.metrics["architectures"]["networks"]) == ["convnet (width 4)", "convnet (width 6)"]


def test_the_rank_correlation_is_that_of_the_stored_matrices(run: ddm_framework.Run) -> None:
    stored = load_tensors(run.path / "online" / "attribution.safetensors")
    one, other = stored["effect.0"], stored["effect.1"]
    wanted = spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    assert one.shape == (10, 10)
    assert run.metrics["architectures"]["spearman"] == {"convnet (width 4) / convnet (width 6)": pytest.approx(wanted)}


def test_a_sibling_of_the_same_network_has_the_run_s_own_target(run: ddm_framework.Run) -> None:
    own = load_tensors(run.path / "offline" / "trajectory" / "epoch_005.safetensors")
    sibling = load_tensors(run.path / "variants" / "0_convnet" / "offline" / "trajectory" / "epoch_005.safetensors")
    assert all(torch.equal(own[name], sibling[name]) for name in own)


def test_no_figure_is_missing(run: ddm_framework.Run) -> None:
    figures = run.metrics["comparison"]["figures"]
    assert figures and all(each["ours"] is not None for each in figures)
    assert run.metrics["comparison"]["source"] == "Fig. 3"
    assert "Class-wise attribution matrices" in run.report.read_text(encoding="utf-8")


def test_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(ddm_framework.DDMError, match="the data have 10 classes"):
        small = ["study.query_class=10", "training.epochs=4", "matching.steps=1"]
        ddm_framework.run(tmp_path / "recipe.yaml", small, out=tmp_path / "run")

"""The fidelity study finds the truth perfect and random at the floor, and decides grids on a validation bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ddm_studies.comparison.grids import Settled, settle
from ddm_studies.comparison.judging import Judge, Verdict, scoring_masks
from ddm_studies.fidelity import _answer

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.api import Run
from ddm_framework.plugin import choose, choose_grid
from ddm_framework.report.blocks import Table
from ddm_framework.runs.tensor_files import load_tensors

RECIPE = """\
seed: 1
device: cpu
threads: 1
dataset: {use: npz, path: data.npz, validation: 0.25}
backbone: {use: convnet, width: 4, depth: 1}
clusterer: {use: kmeans, clusters_per_class: 2, restarts: 1}
distance: {use: cosine}
training: {epochs: 3, lr: 0.2, batch_size: 16}
matching: {steps: 10, step_length: 1}
objectives: [{use: output_shift}]
study:
  use: fidelity
  masks: 4
  deleted: 0.34
  validation_masks: 3
  resamples: 50
  methods:
    - {use: ddm}
    - {use: ddm_sequential}
    - {use: ddm_match, start: [initial, target], steps: 2}
    - {use: random}
    - {use: datamodel, num_retrainings: 8, deleted: 0.34}
    - {use: exact}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noisy stripes."""
    folder = tmp_path_factory.mktemp("fidelity")
    random = np.random.default_rng(0)
    labels = np.arange(80) % 3
    stripes = np.stack([np.roll(np.tile([1.0, 0.0, 0.0], (6, 2)), shift, 1) for shift in range(3)])
    images = np.clip(stripes[labels] * 0.5 + random.uniform(0, 0.5, (80, 6, 6)), 0, 1).astype(np.float32)
    np.savez(folder / "data.npz", x_train=images[:60], y_train=labels[:60], x_test=images[60:], y_test=labels[60:])
    path = folder / "fidelity.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> Run:
    return ddm_framework.run(recipe, out=recipe.parent / "runs" / "fidelity")


@pytest.fixture(scope="module")
def found(run: Run) -> dict[str, Any]:
    figures: dict[str, Any] = run.metrics["fidelity"]
    return figures


def test_the_truth_is_perfect(found: dict[str, Any]) -> None:
    exact = found["exact"]
    assert exact["recovered_share"] == exact["dist_2_recovered_share"] == 1
    assert exact["spearman"] == pytest.approx(1)
    assert exact["dist_1"] == pytest.approx(found["oracle"]["dist_1"])
    assert exact["dist_3_rank"] == 1
    assert exact["top_5_overlap"] == 1


def test_every_method_lies_between_worst_and_oracle_and_names_its_cost(found: dict[str, Any]) -> None:
    methods = {"ddm", "ddm_match", "datamodel", "exact"}
    for name in methods:
        figures = found[name]
        assert figures["dist_1"] <= found["oracle"]["dist_1"] * (1 + 1e-9)
        assert figures["dist_1_floor"] == found["random"]["dist_1"]
        low, high = figures["dist_1_interval"]
        assert low <= figures["dist_1"] <= high
        assert figures["seconds_offline"] > 0
        assert figures["seconds_online"] >= 0
        assert -1 <= figures["cluster_lds"] <= 1


def test_clusters_of_its_own_are_judged_by_their_own_floor_and_have_no_lds(found: dict[str, Any]) -> None:
    sequential = found["ddm_sequential"]
    assert "cluster_lds" not in sequential
    assert sequential["dist_1_oracle"] != found["oracle"]["dist_1"]
    assert sequential["dist_1_floor"] != found["random"]["dist_1"]


def test_the_networks_themselves_are_compared(found: dict[str, Any]) -> None:
    assert -1 <= found["networks"]["displacement_cosine"] <= 1
    assert found["networks"]["displacement_ratio"] > 0


def test_each_query_contributes_to_the_share_and_the_lds(run: Run, found: dict[str, Any]) -> None:
    tensors = load_tensors(run.path / "online" / "attribution.safetensors")
    gain, room = tensors["ddm.gain"], tensors["ddm.room"]
    assert float(gain.sum() / room.sum()) == pytest.approx(found["ddm"]["recovered_share"])
    assert float(tensors["ddm.lds"].mean()) == pytest.approx(found["ddm"]["cluster_lds"])
    assert "ddm_sequential.lds" not in tensors
    assert int(tensors["misread"].sum()) == found["ddm"]["num_misread"]


def test_misread_and_right_queries_add_up_to_the_share(run: Run, found: dict[str, Any]) -> None:
    tensors = load_tensors(run.path / "online" / "attribution.safetensors")
    for name, rows in (("misread", tensors["misread"] == 1), ("read", tensors["misread"] == 0)):
        share = float(tensors["ddm.gain"][rows].sum() / tensors["ddm.room"][rows].sum())
        if rows.sum() > 1:
            assert found["ddm"][f"{name}_share"] == pytest.approx(share)
            low, high = found["ddm"][f"{name}_share_interval"]
            assert low <= share <= high


def test_the_answer_counts_who_is_clearly_ahead_and_behind() -> None:
    def verdict(name: str, value: float) -> Verdict:
        spread = torch.linspace(-1, 1, 50).double()
        figures = {"recovered_share": 0.5, "recovered_share_interval": [0.4, 0.6], "dist_1_floor": 0.1}
        return Verdict(name, name, "", {**figures, "dist_1_oracle": 9.0}, {"dist_1": value + spread})

    said = _answer(
        [verdict(*each) for each in (("koh", 3.0), ("ddm", 2.0), ("trak", 1.0), ("ekfac", 1.0), ("exact", 9.0))]
    )
    assert "Of 3 other methods without retraining, by Dist_1 koh is clearly ahead of it" in said
    assert said.endswith(" and trak and ekfac are clearly behind.")
    assert "none is clearly ahead of it and none is clearly behind" in _answer(
        [verdict("ddm", 2.0), verdict("koh", 2.0)]
    )


def test_the_table_is_ranked_and_ends_with_floor_and_oracle(run: Run) -> None:
    study = run.workspace.recipe.study(run.workspace)
    table = next(block for block in study.sections[1].blocks if isinstance(block, Table))
    shares = [row[3] for row in table.rows[:-2]]
    assert shares == sorted(shares, reverse=True)
    assert [row[0] for row in table.rows[-2:]] == ["random cluster (floor)", "best cluster (oracle)"]


def test_a_grid_is_decided_by_lds_on_the_bank_that_it_is_given(run: Run) -> None:
    workspace = run.workspace
    masks = scoring_masks(workspace, 3, 0.34, "validation")
    judge = Judge(workspace, workspace.queries_of("validation"), masks, 50)
    (settled,) = settle(
        workspace, judge, [choose_grid(workspace.registry, "attributor", "ddm", {"step_size": [5e-4, 5.0]})]
    )
    assert len(settled.grid) == 2
    best = max(settled.grid, key=lambda tried: tried[1])
    assert settled.choice.given == best[0]
    assert settled.in_words().endswith("(best of 2)")
    assert Settled("ddm", choose(workspace.registry, "attributor", "ddm")).in_words() == "defaults"


def test_masks_of_two_purposes_differ(run: Run) -> None:
    scoring, validation = (scoring_masks(run.workspace, 10, 0.34, purpose) for purpose in ("scoring", "validation"))
    assert not torch.equal(scoring, validation)
    assert scoring.sum(1).tolist() == [4.0] * 10


def test_without_a_grid_no_validation_split_is_needed(recipe: Path) -> None:
    settings = ["dataset.validation=0", "study.methods=[{use: ddm}, {use: exact}]"]
    found = ddm_framework.run(recipe, settings, out=recipe.parent / "runs" / "no_grid").metrics["fidelity"]
    assert found["exact"]["recovered_share"] == 1


def test_a_grid_without_a_validation_split_is_refused(recipe: Path) -> None:
    with pytest.raises(DDMError, match=r"set dataset\.validation"):
        ddm_framework.run(recipe, ["dataset.validation=0"], out=recipe.parent / "runs" / "empty")


def test_clusters_of_a_methods_own_alone_are_judged_too_and_too_few_for_five(recipe: Path) -> None:
    settings = ["study.methods=[{use: ddm_sequential}]", "clusterer.clusters_per_class=1"]
    found = ddm_framework.run(recipe, settings, out=recipe.parent / "runs" / "own").metrics["fidelity"]
    assert found["oracle"]["dist_1"] == found["ddm_sequential"]["dist_1_oracle"]
    assert 0 <= found["ddm_sequential"]["top_5_overlap"] <= 1

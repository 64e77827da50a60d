"""Distances and similarities are those of a plain loop, released training images are found, and noise is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ddm_studies.privacy import attacks
from ddm_studies.privacy import study as privacy
from ddm_studies.privacy import words as privacy_words
from study_runs import says_what_is_stored, stripes_run
from torch import Tensor

from ddm_framework import DDMError, Workspace
from ddm_framework.api import Run
from ddm_framework.data.images import StoredImages
from ddm_framework.data.splits import DataInfo
from ddm_framework.report.blocks import Pictures

STUDY = "{use: privacy, show: 2, images: 20, resamples: 50}"
INFO = DataInfo((1, 2, 3), 2, (0.4,), (0.2,), ("a", "b"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:

    return stripes_run(tmp_path_factory.mktemp("privacy"), STUDY)


@pytest.fixture(scope="module")
def found(run: Run) -> dict[str, Any]:
    figures: dict[str, Any] = run.metrics["privacy"]
    return figures


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 2, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", [2, 1024])
def test_the_nearest_image_is_that_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(attacks, "BLOCK", block)
    queries, images = drawn(4, 1), drawn(7, 2)
    distance, where = attacks.nearest(attacks.pixels(queries, INFO), images, INFO)
    for row, query in enumerate(queries):
        apart = [float((0.2 * (query - each)).square().mean().sqrt()) for each in images]
        assert int(where[row]) == int(np.argmin(apart))
        assert float(distance[row]) == pytest.approx(min(apart), rel=1e-4)


def test_stored_images_give_the_same_pixels_as_loose_ones() -> None:
    stored = torch.randint(256, (5, 1, 2, 3), generator=torch.Generator().manual_seed(0)).byte()
    found = attacks.pixels(StoredImages.of(stored, INFO.mean, INFO.std), INFO)
    torch.testing.assert_close(found, stored.flatten(1).float() / 255)


def test_correlation_is_pearsons_and_knows_no_brightness_or_contrast() -> None:
    one, other = drawn(3, 1).flatten(1), drawn(4, 2).flatten(1)
    wanted = np.corrcoef(one.numpy(), other.numpy())[:3, 3:]
    np.testing.assert_allclose(attacks.correlation(one, other).numpy(), wanted, atol=1e-6)
    assert attacks.correlation(one, 3 * one + 1).diagonal().tolist() == pytest.approx([1, 1, 1])
    assert attacks.correlation(torch.ones(1, 6), one).abs().max() == 0


def test_seeds_are_the_training_images_that_real_starts_show(run: Run) -> None:
    workspace = run.workspace
    seeds = privacy._seeds(workspace)
    shown = workspace.data.train.images[seeds.flatten()].view(6, 1, 1, 6, 6)
    assert torch.equal(shown, privacy._starts(workspace, "real"))
    assert torch.equal(workspace.partition.clusters[seeds[:, 0]], torch.arange(6))


def test_released_training_images_are_found_out_and_noise_is_not(found: dict[str, Any]) -> None:
    real, noise = found["start (real)"], found["start (noise)"]
    assert real["relative_distance"] < 1e-2
    assert real["seed_is_nearest"] == real["own_cluster_nearest"] == 100
    assert real["correlation"] == pytest.approx(1)
    assert real["seed_rank"] == 1
    assert real["seed_is_nearest_p"] < 1e-3 and real["seed_rank_p"] < 1e-3
    assert real["correlation_by_chance"] < real["correlation"]
    assert (real["own_cluster_by_chance"], real["accuracy_by_chance"]) == pytest.approx((100 / 6, 100 / 3))
    assert noise["relative_distance"] > 1
    assert noise["correlation"] < 0.8
    assert "seed_rank" not in noise
    assert "seed_is_nearest" not in noise


def test_both_kinds_of_matching_are_attacked_from_both_starts(found: dict[str, Any]) -> None:
    names = {f"{kind} ({init})" for kind in ("start", "ordinary matching", "DDM") for init in ("real", "noise")}
    assert names | {"natural_distance", "inits"} == set(found)
    for name in names:
        low, high = found[name]["auc_training_interval"]
        assert 0 <= low <= found[name]["auc_training"] <= high <= 1
        assert 0 <= found[name]["accuracy_independent"] <= 100


def test_the_networks_own_view_is_that_of_an_ordinary_module(run: Run, found: dict[str, Any]) -> None:
    workspace = run.workspace
    seen = workspace.module(workspace.target)(workspace.synset.images[:, 0]).argmax(1)
    wanted = 100 * float((seen == workspace.partition.classes).double().mean())
    assert found["DDM (real)"]["accuracy_target"] == pytest.approx(wanted)


def test_pictures_have_a_column_for_each_cluster(run: Run) -> None:
    report = run.workspace.recipe.study(run.workspace)
    shown = [block for block in report.sections[1].blocks if isinstance(block, Pictures)]
    assert len(shown) == 2
    assert all((block.group, len(block.images), len(block.captions)) == (5, 10, 2) for block in shown)
    assert torch.equal(shown[0].images[2], run.workspace.synset.images[0, 0])


def test_the_claim_is_judged_for_each_start(run: Run) -> None:
    said, *limits = run.metrics["comparison"]["sentences"]
    assert len(limits) == 2
    assert "started from training images" in said
    assert "started from noise" in said
    near = {"seed_is_nearest_count": 3, "seed_is_nearest_of": 6, "seed_is_nearest_p": 1e-4}
    leaky = {**near, "seed_rank": 0.6, "seed_rank_p": 0.02, "auc_training": 0.6, "auc_training_p": 0.01}
    verdict = privacy_words._verdict({"real": leaky, "noise": {"auc_training": 0.5, "auc_training_p": 0.5}})
    assert "started from training images this is contradicted: for 3 of 6 images the nearest training image" in verdict
    assert "training images are distinguished from test images with an AUC of 0.60" in verdict
    assert "nearer to its start" not in verdict  # 0.02 is above 0.05 / 4
    assert "from noise no attack and no figure here contradicts it (4 tests of attacks, each at the level" in verdict


@pytest.mark.parametrize(("low", "outcome"), [(9.5, "does not hold"), (2.0, "not told")])
def test_a_figure_above_chance_contradicts_the_claim_without_any_test(low: float, outcome: str) -> None:
    """The verdict follows all figures: what an independent network sees in noise is no attack with a p-value."""
    noise = {
        "auc_training": 0.5,
        "auc_training_p": 0.5,
        "own_cluster_nearest": 20.0,
        "own_cluster_nearest_interval": [low, 37.0],
        "own_cluster_by_chance": 3.3,
        "correlation": 0.5,
        "correlation_interval": [0.4, 0.6],
        "correlation_by_chance": 0.55,
    }
    told = privacy_words.findings({"privacy": {"inits": ["noise"], "DDM (noise)": noise}})
    (claim,) = told.claims
    assert claim.outcome == outcome
    said = "their own cluster for 20 % (9.5 to 37; 3.3 by chance)"
    assert (said in told.sentences[0]) == (said in claim.measured) == (outcome == "does not hold")
    assert "highest correlation" not in told.sentences[0]


@pytest.mark.parametrize("init", ["real", "noise"])
def test_each_figure_above_chance_is_named_for_either_start(init: str) -> None:
    shown = {
        "own_cluster_nearest": 50.0,
        "own_cluster_nearest_interval": [40.0, 60.0],
        "own_cluster_by_chance": 3.3,
        "accuracy_independent": 20.0,
        "accuracy_independent_interval": [15.0, 27.0],
        "accuracy_by_chance": 10.0,
        "correlation": 0.6,
        "correlation_interval": [0.55, 0.65],
        "correlation_by_chance": 0.5,
    }
    told = privacy_words.findings({"privacy": {"inits": [init], f"DDM ({init})": shown | {"auc_training_p": 0.5}}})
    for said in (
        "50 % (40 to 60; 3.3 by chance)",
        "20 % (15 to 27; 10 by chance)",
        "0.6 (0.55 to 0.65; 0.5 by chance)",
    ):
        assert said in told.sentences[0] and said in told.claims[0].measured
    assert told.claims[0].outcome == "does not hold"


def test_what_is_said_follows_from_what_is_stored(run: Run) -> None:
    assert says_what_is_stored(privacy_words.findings, run.metrics)


def test_the_rank_of_a_start_is_that_of_a_plain_loop_and_half_on_average(run: Run) -> None:
    workspace, (count, *_) = run.workspace, run.workspace.synset.images.shape
    images, partition, info = workspace.synset.images, workspace.partition, workspace.info
    found = []
    for cluster in range(count):
        members = partition.members(cluster)
        shown = attacks.pixels(workspace.data.train.images[members], info)
        apart = (attacks.pixels(images[cluster], info) - shown).norm(dim=1)
        found.append([float((apart > each).double().sum()) / (len(members) - 1) for each in apart])
        assert np.mean(found[-1]) == pytest.approx(0.5)
    firsts = torch.stack([partition.members(cluster)[:1] for cluster in range(count)])
    values, variances = attacks.seed_ranks(workspace, images, firsts)
    assert values.tolist() == pytest.approx([each[0] for each in found])
    assert variances.tolist() == pytest.approx([np.var(each) for each in found])


def test_a_start_that_is_nearest_is_weighed_against_the_size_of_its_cluster() -> None:
    own, sizes = torch.ones(8, dtype=torch.bool), torch.full((8,), 4)
    by_chance = attacks.seed_nearest(torch.tensor([True] * 2 + [False] * 6), own, sizes)
    assert (by_chance["seed_is_nearest"], by_chance["seed_is_nearest_by_chance"]) == (25, 25)
    assert by_chance["seed_is_nearest_p"] > 0.5
    assert attacks.seed_nearest(own, own, sizes)["seed_is_nearest_p"] == pytest.approx(0.25**8)
    assert attacks.seed_nearest(~own, ~own, sizes)["seed_is_nearest_p"] == 1


def test_every_figure_has_its_floor_in_the_note(run: Run) -> None:
    rows = run.metrics["comparison"]["figures"]
    assert all(each["note"] or each["column"] == privacy.COLUMNS["relative_distance"][0] for each in rows)


def test_one_start_and_no_other_network_will_do(run: Run) -> None:
    report = privacy.run(run.workspace, inits=["real"], independent=False, images=10, resamples=50)
    assert "accuracy_independent" not in report.metrics["privacy"]["DDM (real)"]
    assert not any("noise" in name for name in report.metrics["privacy"])


def test_a_start_named_twice_is_refused(run: Run) -> None:
    with pytest.raises(DDMError, match=r"study\.inits names one start twice"):
        privacy.run(run.workspace, inits=["real", "real"])


def test_a_set_of_too_few_images_is_not_attacked(run: Run) -> None:
    workspace: Workspace = run.workspace
    one = torch.zeros(1, 36)
    assert attacks.nearness_attack("auc", one, torch.zeros(4, 36), one, workspace.generator("test"), 50) == {}

"""What a run is expected to cost: the arithmetic of the model, and what a dry run tells and leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from run_fixtures import ddm, finished_tiny, refused, tiny

from ddm_framework.stages import costs
from ddm_framework.stages.costs import Costs, Linear, Sizes, Speed, Stage

SIZES = Sizes(
    train=1000,
    queries=100,
    values=64,
    classes=10,
    data_bytes=64e3,
    weights=10_000,
    activations=5_000,
    batch_size=64,
    epochs=30,
    checkpoints=31,
    momentum=False,
    clusters=100,
    images_per_cluster=1,
    steps=300,
    pairs=27,
    real_epochs=27,
    networks=101,
    replayed=2,
    certified=20,
    workers=2,
    trained_at_a_time=8,
    matched_at_a_time=1000,
    asked_at_a_time=8,
)
SPEED = Speed(
    step=Linear(0.001, 0.01), match=Linear(0.002, 0.001), forward=1e-4, gradient=1e-3, cluster=Linear(0.5, 1e-4)
)
"""Seconds of a machine that nobody has."""


def test_a_line_goes_through_both_measurements() -> None:
    line = Linear.through((1, 0.3), (8, 1.0))
    assert line(1) == pytest.approx(0.3)
    assert line(8) == pytest.approx(1.0)
    assert Linear.through((4, 1.0), (4, 2.0)) == Linear(0.0, 0.5)
    assert Linear.through((1, 1.0), (8, 8.5)).fixed == 0.0  # the line would start below zero


def test_training_is_steps_of_one_network() -> None:
    assert costs.training_seconds(SIZES, SPEED) == pytest.approx(30 * 16 * 0.011)


def test_retrainings_share_processes_and_grow_with_images_and_epochs() -> None:
    # 100 networks in stacks of 8 are 13 stacks, 14 for two processes; each has 7 rounds of them.
    one = 30 * 16 * (0.001 + 0.01 * 100 / 14)
    assert costs.retraining_seconds(SIZES, SPEED, 100) == pytest.approx(costs.WORKER_SECONDS + 7 * one)
    alone = replace(SIZES, workers=1)
    base = costs.retraining_seconds(alone, SPEED, 80)
    assert costs.retraining_seconds(alone, SPEED, 160) == pytest.approx(2 * base)
    assert costs.retraining_seconds(replace(alone, epochs=60), SPEED, 80) == pytest.approx(2 * base)
    assert costs.retraining_seconds(replace(alone, train=2048), SPEED, 80) == pytest.approx(2 * base)
    assert costs.retraining_seconds(SIZES, SPEED, 0) == 0


def test_a_replay_is_a_part_of_a_retraining_in_one_process() -> None:
    whole = costs.retraining_seconds(replace(SIZES, workers=1), SPEED, 101)
    assert costs.replay_seconds(SIZES, SPEED, 101) == pytest.approx(whole * 2 / 30)
    assert costs.replay_seconds(replace(SIZES, replayed=0), SPEED, 101) == 0


def test_matching_grows_with_clusters_steps_and_images() -> None:
    found = costs.matching_seconds(SIZES, SPEED, 100)
    assert found == pytest.approx(300 * 0.102 + (27 * 1000 + 27 * 100) * 1e-3)
    chunked = replace(SIZES, matched_at_a_time=50)
    assert costs.matching_seconds(chunked, SPEED, 100) == pytest.approx(found + 300 * 0.002)
    assert costs.matching_seconds(SIZES, SPEED, 100, real=False) == pytest.approx(found - 27)


def test_a_question_grows_with_networks_and_queries() -> None:
    plain = replace(SIZES, replayed=0)
    gradients = 13 * 100 * 1e-3
    assert costs.question_seconds(plain, SPEED) == pytest.approx(gradients + 101 * 100 * 1e-4)
    more = replace(plain, queries=400)
    assert costs.question_seconds(more, SPEED) == pytest.approx(gradients + 101 * 400 * 1e-4)


def test_bytes_follow_from_weights() -> None:
    wide = replace(SIZES, weights=4 * SIZES.weights)
    assert costs.trajectory_bytes(SIZES) == 31 * 4 * 10_000
    assert costs.trajectory_bytes(wide) == 4 * costs.trajectory_bytes(SIZES)
    assert costs.synset_bytes(SIZES) == 4 * 110 * 76
    assert costs.training_bytes(SIZES, 8) == pytest.approx(8 * costs.training_bytes(SIZES, 1))
    few, many = (replace(SIZES, clusters=each, networks=each + 1) for each in (100, 400))
    assert costs.question_bytes(many) - costs.question_bytes(few) == pytest.approx(2 * 4 * 300 * 100 * 10)
    fits = replace(SIZES, matched_at_a_time=50)  # a chunk's memory does not grow with K
    assert costs.matching_bytes(replace(fits, clusters=400), 400) == costs.matching_bytes(fits, 100)


def test_a_whole_run_is_the_sum_of_its_parts() -> None:
    found = costs.costs_of(SIZES, SPEED, held=1e9)
    assert [each.name for each in found.stages] == [
        "load",
        "train",
        "cluster",
        "match",
        "perturb and replay",
        "certificate",
        "study",
    ]
    assert found.seconds == pytest.approx(sum(each.seconds for each in found.stages))
    assert found.memory == max(each.memory for each in found.stages) > 1e9
    assert found.disk >= (31 + 20) * 40_000
    without = costs.costs_of(replace(SIZES, certified=0, replayed=0), SPEED, held=0)
    assert [each.name for each in without.stages][-2:] == ["perturb", "study"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1.23, "1.2 s"), (59.6, "60 s"), (150, "2 min"), (3 * 3600, "3 h"), (5 * 86400, "5 days")],
)
def test_durations_have_two_digits_at_most(seconds: float, told: str) -> None:
    assert costs.duration(seconds) == told


def test_a_sentence_names_the_parts_that_take_long() -> None:
    told = Costs([Stage("train", 60, 1e9, 2e6), Stage("study", 1, 5e8, 1e6)]).sentence()
    assert told == "expected: 61 s (train 60 s), 1 GB of memory at most, 3 MB on disk"


def test_a_dry_run_tells_every_part_and_writes_nothing(tmp_path: Path) -> None:
    recipe = tiny(tmp_path / "made", certificate="{retrainings: 3}", online="{replay: 2}")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = ddm("run", recipe, "--dry-run", "--json", "--out", tmp_path / "run")
    assert status == 0, err
    found = json.loads(out)
    parts = ["load", "train", "cluster", "match", "perturb and replay", "certificate", "study"]
    assert list(found["stages"]) == parts
    assert found["not_counted"] == []
    assert 0 < found["total"]["seconds"] < 60
    assert found["total"]["memory_bytes"] == max(each["memory_bytes"] for each in found["stages"].values())
    assert sorted(tmp_path.rglob("*")) == before
    status, out, err = ddm("run", recipe, "--dry-run", "--out", tmp_path / "run")
    assert status == 0, err
    assert "expected: " in out
    assert sorted(tmp_path.rglob("*")) == before


def test_stages_that_are_done_cost_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = finished_tiny(tmp_path_factory.getbasetemp() / "tiny")
    recipe = run.parent / "tiny.yaml"
    _, out, _ = ddm("run", recipe, "--dry-run", "--json", "--out", run)
    assert list(json.loads(out)["stages"]) == ["load"]
    changed = ("run", recipe, "--dry-run", "--json", "--out", run, "--set", "matching.steps=5")
    assert "matching.steps: 4 there, 5 asked for" in refused(*changed)
    _, out, _ = ddm(*changed, "--fresh")
    assert list(json.loads(out)["stages"]) == ["load", "match", "perturb", "study"]


def test_a_long_run_is_told_and_a_short_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(tmp_path)
    _, _, quick = ddm("run", recipe, "--out", tmp_path / "quick")
    assert "expected" not in quick
    monkeypatch.setattr("ddm_framework.stages.foretelling.TOLD_FROM", 0.0)
    status, _, long = ddm("run", recipe, "--out", tmp_path / "long")
    assert status == 0
    assert long.startswith("expected: ")
    assert long.count("\n") == 1
    assert ddm("run", recipe, "--out", tmp_path / "silent", "--json")[2] == ""

"""Runs of every kind are served: older ones, networks from elsewhere, other settings and objectives."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_fixtures import copied, refused, tiny
from served import BASE, EVERY_EPOCH, TOKEN, opened, waited
from starlette.testclient import TestClient

import ddm_framework
from ddm_framework import Run
from ddm_framework.app import application

OLD = Path(__file__).parents[1] / "runs" / "made_by_0_1_0"


def client_of(run: Run) -> TestClient:
    return opened(TestClient(application(run, token=TOKEN, host="127.0.0.1", port=8080), base_url=BASE))


def run_of(folder: Path, **replaced: str) -> Run:
    """A tiny run with some sections of its own."""
    return ddm_framework.run(tiny(folder, **{"training": EVERY_EPOCH, **replaced}), out=folder / "run")


def upload(client: TestClient) -> str:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 6), 99, dtype=np.uint8)).save(file, "PNG")
    return str(client.post("/api/images", params={"name": "mine.png"}, content=file.getvalue()).json()["key"])


def test_a_run_of_an_older_version(tmp_path: Path) -> None:
    run = ddm_framework.open_run(shutil.copytree(OLD, tmp_path / "old"))
    client = client_of(run)
    assert client.get("/api/run").json()["num_clusters"] == 20
    assert client.get("/api/queries/test:3").status_code == 200
    told = client.post("/api/without", json={"clusters": [3, 4], "query": "test:3"}).json()
    assert told["estimate"]["accuracy"] == run.without([3, 4]).accuracy


def test_a_network_that_was_trained_elsewhere_is_not_retrained(made: Path, tmp_path: Path) -> None:
    original = copied(made, tmp_path / "original")
    kept = sorted((original / "offline" / "trajectory").glob("epoch_*.safetensors"))
    recipe = tiny(tmp_path / "other", training=EVERY_EPOCH)
    shutil.copy(original.parent / "data.npz", tmp_path / "other")
    run = ddm_framework.run(recipe, [f"target.checkpoint={kept[-1]}"], out=tmp_path / "other" / "run")
    client = client_of(run)
    told = client.get("/api/run").json()
    assert not told["can_retrain"] and told["replays"] == [0]
    answered = client.post("/api/without", json={"clusters": [1], "query": "test:0"}).json()
    assert answered["estimate"]["accuracy"] == run.without([1]).accuracy
    job = waited(client, client.post("/api/retrainings", json={"clusters": [1]}).json()["number"])
    assert job["state"] == "failed" and "trained elsewhere" in job["message"]


@pytest.mark.parametrize(
    ("online", "replays"),
    [
        ("{perturbations: leave_one_out}", [0, 1, 2, 3, 4]),
        ("{perturbations: leave_one_out, replay: 3}", [0, 1, 2, 3, 4]),
        ("{perturbations: leave_one_out, replay: 4, step_size: 0}", [1, 2, 3, 4]),
        ("{perturbations: leave_one_out, anchor: 1}", [0]),
        ("{perturbations: leave_one_out, start: initial}", [0]),
        ("{perturbations: leave_one_out, direction: gradient}", [0, 1, 2, 3, 4]),
        ("{perturbations: random, num_perturbations: 12}", [0, 1, 2, 3, 4]),
    ],
)
def test_other_ways_to_estimate(tmp_path: Path, online: str, replays: list[int]) -> None:
    run = run_of(tmp_path, online=online)
    client = client_of(run)
    told = client.get("/api/run").json()
    assert told["replays"] == replays
    for replay in replays[:2]:
        told = client.post("/api/without", json={"clusters": [0], "replay": replay}).json()
        assert told["estimate"]["accuracy"] == run.with_online(replay=replay).without([0]).accuracy
    assert client.get("/api/queries/test:0").json()["sides"]


@pytest.mark.parametrize(
    ("objectives", "labelled", "own"),
    [
        ("[{use: margin}]", "margin", None),
        ("[{use: predictions}, {use: divergence}]", "divergence", "divergence"),
        ("[{use: performance, metric: loss}]", "output_shift", "output_shift"),
        ("[{use: correctness}, {use: stability}]", "correctness", "stability"),
        ("[{use: correctness}]", "correctness", "output_shift"),
    ],
)
def test_a_query_is_answered_by_an_objective_of_one_behaviour(
    tmp_path: Path, objectives: str, labelled: str, own: str | None
) -> None:
    client = client_of(run_of(tmp_path, objectives=objectives))
    assert client.get("/api/queries/test:0").json()["objective"] == labelled
    if own is not None:
        assert client.get(f"/api/queries/{upload(client)}").json()["objective"] == own


def test_a_run_whose_data_are_gone_is_told_before_anything_is_served(made: Path, tmp_path: Path) -> None:
    run = copied(made, tmp_path)
    for file in tmp_path.rglob("data.npz"):
        file.unlink()
    recipe = run / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace(str(made.parent), str(tmp_path)))
    assert "data.npz" in refused("serve", run, "--no-browser")


def test_a_run_in_a_folder_that_cannot_be_written_to_answers(made: Path, tmp_path: Path) -> None:
    run = ddm_framework.open_run(copied(made, tmp_path))
    shutil.rmtree(run.path / "networks")
    (run.path / "networks").write_text("a file is in the way")
    client = client_of(run)
    for _ in range(2):
        told = client.post("/api/without", json={"classes": [2], "query": "test:1"}).json()
        assert told["estimate"]["accuracy"] == run.without(classes=[2]).accuracy
    assert client.get("/api/queries/test:1").status_code == 200

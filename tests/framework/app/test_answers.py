"""The page's numbers are those of the Python API, to the last bit, and its lists are those of a plain loop."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from served import BASE, TOKEN, opened, waited
from starlette.testclient import TestClient

import ddm_framework
from ddm_framework import Run
from ddm_framework.answers import Without
from ddm_framework.answers.member_shares import Shares
from ddm_framework.app import application
from ddm_framework.online import sides

SETS: list[dict[str, list[int]]] = [
    {"clusters": [0]},
    {"clusters": [3, 1]},
    {"classes": [2]},
    {"samples": [0, 5, 9]},
    {"clusters": [1], "classes": [2], "samples": [0]},
]


def assert_figures(told: dict[str, Any], found: Without, query: int) -> None:
    """Equal to the last bit: JSON writes a float so that it is read as the same one."""
    test = found.workspace.queries_of("test")
    assert told["accuracy"] == found.accuracy
    assert told["by_class"] == found.accuracy_by_class.tolist()
    assert told["num_changed"] == len(found.changed)
    assert told["query"] == found.predict(test.images[query : query + 1])[0].tolist()


@pytest.mark.parametrize("left_out", SETS)
@pytest.mark.parametrize("replay", [None, 0, 1, 3, 4])
def test_what_if_is_run_without(
    client: TestClient, run: Run, left_out: dict[str, list[int]], replay: int | None
) -> None:
    told = client.post("/api/without", json={**left_out, "replay": replay, "query": "test:4"}).json()
    same = ddm_framework.open_run(run.path)
    found = (same if replay is None else same.with_online(replay=replay)).without(**left_out)
    assert_figures(told["estimate"], found, 4)
    assert told["num_left_out"] == int(found.left_out.sum())
    assert [each["key"] for each in told["changed"]["items"]] == [f"test:{each}" for each in found.changed.tolist()]
    probabilities = found.predict(same.workspace.data.test.images)
    for each in told["changed"]["items"]:
        row = probabilities[int(each["key"].removeprefix("test:"))]
        assert each["after"] == {"predicted": int(row.argmax()), "confidence": float(row.max())}
    assert told["before"]["accuracy"] == same.workspace.accuracy("test")
    assert told["truth"] is None


def test_the_order_of_ticks_does_not_count(client: TestClient) -> None:
    first, second = (
        client.post("/api/without", json={"clusters": each, "query": "test:0"}).json() for each in ([4, 1, 1], [1, 4])
    )
    assert first == second


def test_one_query_is_run_attribute(client: TestClient, run: Run) -> None:
    told, test = client.get("/api/queries/test:7").json(), run.workspace.data.test
    found = run.attribute(test.images[7:8], test.labels[7:8])
    both = sides(found, 0)
    assert both is not None
    for side, did, ids in zip(told["sides"], ("made", "against"), (both.made, both.against), strict=True):
        assert side["did"] == did and side["total"] == len(ids)
        assert [each["cluster"] for each in side["items"]] == ids
        assert [each["effect"] for each in side["items"]] == [float(found.effect[0, each, 0]) for each in ids]
        assert [each["support"] for each in side["items"]] == [float(found.support[0, each]) for each in ids]
    assert told["probabilities"] == run.without().predict(test.images[7:8])[0].tolist()
    assert told["objective"] == "output_shift"
    matrix = run.workspace.prediction_matrix(run.queries(test.images[7:8]), [0])[0]
    assert told["matrix"]["values"] == matrix[:, told["predicted"]].tolist()
    assert (told["matrix"]["low"], told["matrix"]["high"]) == (float(matrix.min()), float(matrix.max()))


@pytest.mark.parametrize("key", [None, "test:4"])
def test_members_of_a_cluster_are_all_there_with_their_rough_shares(
    client: TestClient, run: Run, key: str | None
) -> None:
    workspace, seen = run.workspace, []
    positions = workspace.partition.members(2)
    logits = workspace.target_logits(workspace.data.train.images[positions])
    loss = F.cross_entropy(logits, workspace.data.train.labels[positions], reduction="none")
    while len(seen) < len(positions):
        asked = {"offset": len(seen), "limit": 3, **({} if key is None else {"query": key})}
        page = client.get("/api/clusters/2", params=asked).json()
        assert page["size"] == len(positions) and page["has_shares"]
        seen += page["items"]
    assert sorted((each["sample"], each["loss"]) for each in seen) == sorted(
        zip(positions.tolist(), loss.tolist(), strict=True)
    )
    found = run.members(2, shares=True, query=None if key is None else 4)
    assert [each["share"] for each in seen] == [each.rough_share for each in found]
    origin = workspace.data.train.origin
    assert origin is not None
    assert [int(origin.positions[each["sample"]]) for each in seen] == [each.sample for each in found]


def test_where_no_shares_are_known_the_hardest_members_come_first(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shares, "share", property(lambda _: None))
    page = client.get("/api/clusters/1").json()
    losses = [each["loss"] for each in page["items"]]
    assert losses == sorted(losses, reverse=True) and not page["has_shares"]
    assert {each["share"] for each in page["items"]} == {None}


def test_a_cluster_or_query_that_is_not_there_is_told(client: TestClient) -> None:
    for path in ("/api/clusters/6", "/api/clusters/1?query=test:99", "/api/clusters/1?query=../x"):
        answered = client.get(path)
        assert answered.status_code == 400 and "there is no" in answered.json()["error"]


def test_amounts_with_their_intervals_are_run_amounts(certified: Run) -> None:
    with TestClient(application(certified, token=TOKEN, host="127.0.0.1", port=8080), base_url=BASE) as client:
        told = opened(client).get("/api/queries/test:7").json()
    test = certified.workspace.data.test
    found = certified.amounts(test.images[7:8], test.labels[7:8])
    assert found is not None
    items = [each for side in told["sides"] for each in side["items"]]
    assert items
    for each in items:
        cluster, amount = each["cluster"], each["amount"]
        assert amount["value"] == float(found.without[0, cluster])
        assert amount["interval"] == [float(found.low[0, cluster]), float(found.high[0, cluster])]
        assert (amount["level"], amount["retrained"]) == (found.level, bool(found.retrained[cluster]))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"order": "position"},
        {"order": "least_sure", "labelled": 1},
        {"order": "most_sure", "predicted": 0},
        {"wrong": True},
        {"text": "ST 1"},
        {"least": 0.5, "most": 0.8, "order": "position"},
        {"limit": 5, "offset": 4, "order": "least_sure"},
        {"text": "nothing has this name"},
        {"offset": 1000},
    ],
)
def test_queries_are_those_of_a_plain_loop(client: TestClient, run: Run, asked: dict[str, Any]) -> None:
    told, test = client.get("/api/queries", params=asked).json(), run.workspace.queries_of("test")
    probabilities = run.without().predict(test.images)
    rows = []
    for position, name in enumerate(test.ids):
        confidence, predicted = float(probabilities[position].max()), int(probabilities[position].argmax())
        label = int(test.labels[position])
        if (
            asked.get("text", "").lower() in name
            and asked.get("least", 0) <= confidence <= asked.get("most", 1)
            and asked.get("labelled", label) == label
            and asked.get("predicted", predicted) == predicted
            and (not asked.get("wrong") or predicted != label)
        ):
            rows.append((position, confidence, predicted, label))
    order = asked.get("order", "wrong_first")
    if order == "wrong_first":
        rows.sort(key=lambda row: row[2] == row[3])
    elif order != "position":
        rows.sort(key=lambda row: row[1], reverse=order == "most_sure")
    offset = asked.get("offset", 0)
    page = rows[offset : offset + asked.get("limit", 48)]
    assert told["total"] == len(rows)
    found = [(int(each["key"][5:]), each["confidence"], each["predicted"], each["label"]) for each in told["items"]]
    assert found == page


@pytest.mark.parametrize(
    "asked", [{"limit": 10_000}, {"limit": 0}, {"least": "x"}, {"order": "by_name"}, {"path": "/etc"}, {"offset": -1}]
)
def test_filters_that_do_not_fit_are_told(client: TestClient, asked: dict[str, Any]) -> None:
    answered = client.get("/api/queries", params=asked)
    assert answered.status_code == 400
    assert next(iter(asked)) in answered.json()["error"]


def test_what_the_page_is_told_of_the_run(client: TestClient, run: Run) -> None:
    told = client.get("/api/run").json()
    assert told["replays"] == [0, 1, 2, 3, 4] and told["replay"] == 1
    assert told["class_sizes"] == run.workspace.data.train.labels.bincount().tolist()
    assert told["num_test"] == 12 and told["can_retrain"]
    assert told["seconds_per_epoch"] > 0


@pytest.mark.parametrize("left_out", SETS[1:])
def test_checking_by_retraining_is_run_retrained_without(
    own_client: TestClient, own_run: Run, left_out: dict[str, list[int]]
) -> None:
    job = waited(own_client, own_client.post("/api/retrainings", json=left_out).json()["number"])
    assert job["state"] == "done", job
    assert job["done"] == job["total"] == 4
    told = own_client.post("/api/without", json={**left_out, "query": "test:4"}).json()
    exact = own_run.retrained_without(**left_out)
    assert_figures(told["truth"], exact, 4)
    estimate = own_run.without(**left_out)
    either = set(exact.changed.tolist()) | set(estimate.changed.tolist())
    same = [each for each in either if exact.test_logits[each].argmax() == estimate.test_logits[each].argmax()]
    assert (told["truth"]["num_either_changed"], told["truth"]["num_same"]) == (len(either), len(same))


@pytest.mark.parametrize("retrained", [False, True])
def test_an_export_holds_the_network_and_makes_it_again(
    own_client: TestClient, own_run: Run, tmp_path: Path, retrained: bool
) -> None:
    left_out = SETS[4]
    asked = {**left_out, "replay": 2, "retrained": retrained}
    if retrained:
        early = own_client.post("/api/exports", json=asked)
        assert early.status_code == 400 and "retraining first" in early.json()["error"]
        waited(own_client, own_client.post("/api/retrainings", json=left_out).json()["number"])
    told = own_client.post("/api/exports", json=asked).json()
    folder = Path(told["folder"])
    assert folder == own_run.path / "exports" / "1"
    assert told["files"] == ["left_out.csv", "network.safetensors", "recipe.yaml", "reproduce.py"]
    found = own_run.retrained_without(**left_out) if retrained else own_run.with_online(replay=2).without(**left_out)
    weights = load_file(folder / "network.safetensors")
    for name, each in found.module.state_dict().items():
        assert torch.equal(weights[name], each)
    rows = list(csv.DictReader((folder / "left_out.csv").open()))
    partition = own_run.workspace.partition
    assert [int(row["sample"]) for row in rows] == found.left_out.nonzero()[:, 0].tolist()
    assert all(int(row["cluster"]) == int(partition.clusters[int(row["sample"])]) for row in rows)
    (folder / "network.safetensors").unlink()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [sys.executable, folder / "reproduce.py"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"test accuracy {found.accuracy:.2%}" in made.stdout
    again = load_file(folder / "network.safetensors")
    assert all(torch.equal(again[name], each) for name, each in weights.items())
    assert own_client.post("/api/exports", json=asked).json()["folder"].endswith("2")
    ddm_framework.open_run(own_run.path)  # a folder with exports in it is a run as before


def test_a_folder_that_cannot_be_written_to_is_told(own_client: TestClient, own_run: Run) -> None:
    (own_run.path / "exports").write_text("a file is in the way")
    answered = own_client.post("/api/exports", json={"clusters": [0]})
    assert answered.status_code == 400
    assert "cannot write to" in answered.json()["error"]


@pytest.mark.parametrize("path", ["/api/exports", "/api/retrainings"])
def test_nothing_left_out_is_told(client: TestClient, path: str) -> None:
    answered = client.post(path, json={})
    assert answered.json()["error"] == "nothing is left out; tick clusters, classes or samples first"

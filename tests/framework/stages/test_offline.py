"""What goes wrong offline is said in one message, loses nothing that was finished, and the advice works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_fixtures import (
    TINY,
    assert_same_run,
    copied,
    ddm,
    finished_tiny,
    manifest,
    plugin,
    refused,
    save_data,
    stamps,
    tensors,
    tiny,
)
from safetensors.torch import save_file

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.engine import ALONE, Processes
from ddm_framework.errors import DivergenceError
from ddm_framework.network import chunks
from ddm_framework.runs import artifacts
from ddm_framework.runs.run_folder import STAGES, RunFolder
from ddm_framework.runs.tensor_files import save_tensors
from ddm_framework.stages import offline


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_tiny(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture
def done(original: Path, tmp_path: Path) -> Path:
    """A finished run that this test may break; its recipe and data lie beside it."""
    return copied(original, tmp_path)


def finished(run: Path) -> list[str]:
    stages = manifest(run)["stages"]
    return [stage for stage in STAGES if stages.get(stage, {}).get("done")]


def test_nan_in_the_data_stops_before_anything_is_written(tmp_path: Path) -> None:
    images = np.full((48, 6, 6), 0.5, dtype=np.float32)
    images[17, 0, 0] = np.nan
    save_data(tmp_path / "data.npz", x_train=images)
    message = refused("run", tiny(tmp_path), "--out", tmp_path / "run")
    assert "NaN" in message
    assert "17" in message
    assert not (tmp_path / "run").exists()


def test_a_class_with_fewer_images_than_clusters_is_named_and_training_stays(tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", tiny(tmp_path)
    message = refused("run", recipe, "--out", run, "--set", "clusterer.clusters_per_class=13")
    assert message.startswith("class 0 has 12 training images, fewer than clusters_per_class (13)")
    assert finished(run) == ["training"]
    trained = stamps(run, "offline/trajectory")
    assert "clusterer.clusters_per_class: 13 there, 2 asked for" in refused("run", recipe, "--out", run)
    assert ddm("run", recipe, "--out", run, "--fresh")[0] == 0
    assert stamps(run, "offline/trajectory") == trained


CLUSTERERS = {
    "return torch.zeros(len(features), dtype=torch.int64)": "cluster 1 is empty",
    "return torch.arange(len(features))": "ids must be 0 to 1, found",
    "return torch.arange(len(features)).float() % 2": "must return int64 ids",
    "return [0] * len(features)": "must return int64 ids",
}


@pytest.mark.parametrize("body", CLUSTERERS)
def test_a_clusterer_that_breaks_its_contract_is_named(tmp_path: Path, body: str) -> None:
    mine = plugin(tmp_path / "mine.py", "clusterer", "mine", f"def target(features, count, generator, /):\n    {body}")
    recipe = tiny(tmp_path, clusterer="{use: mine, clusters_per_class: 2}")
    message = refused("run", recipe, "--out", tmp_path / "run", "--plugin", mine)
    assert message.startswith("clusterer 'mine' on class 0: ")
    assert CLUSTERERS[body] in message
    assert finished(tmp_path / "run") == ["training"]


def test_training_that_diverges_names_what_to_lower(tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", tiny(tmp_path)
    message = refused("run", recipe, "--out", run, "--set", "training.lr=1e30")
    assert message.startswith("training diverged in epoch 1 ")
    assert "lower training.lr (1e+30)" in message
    assert finished(run) == []
    assert ddm("run", recipe, "--out", run, "--fresh")[0] == 0


@pytest.mark.parametrize("steps", [2, 8])
def test_matching_that_diverges_names_the_cluster_and_what_to_lower(done: Path, steps: int) -> None:
    recipe, trained = done.parent / "tiny.yaml", stamps(done, "offline/trajectory")
    changes = ["--set", "matching.lr=1e30", "--set", f"matching.steps={steps}"]
    message = refused("run", recipe, "--out", done, "--fresh", *changes)
    assert "cluster 0 (class 0)" in message
    assert "lower matching.lr (1e+30)" in message
    assert finished(done) == ["training", "partition"]
    assert ddm("run", recipe, "--out", done, "--fresh")[0] == 0
    assert stamps(done, "offline/trajectory") == trained


def test_a_distance_that_returns_nan_names_the_cluster_and_keeps_the_level_that_was_finished(
    done: Path, original: Path
) -> None:
    source = """
from pathlib import Path
from ddm_distances import cosine
broken, calls = Path(__file__).with_suffix(".broken"), []
def target(synthetic, target, /):
    calls.append(1)
    return cosine.distance(synthetic, target) * (float("nan") if broken.exists() and len(calls) > 6 else 1.0)
"""
    mine = plugin(done.parent / "mine.py", "distance", "mine", source)
    recipe = tiny(done.parent, distance="{use: mine}")
    mine.with_suffix(".broken").touch()
    arguments = ("run", recipe, "--out", done, "--plugin", mine)
    message = refused(*arguments, "--fresh")
    assert message.startswith("matching diverged at step 3: the synthetic images of cluster 0 (class 0)")
    assert [path.name for path in (done / "offline" / "synset").iterdir()] == ["cluster_00000_00006.safetensors"]
    mine.with_suffix(".broken").unlink()
    assert ddm(*arguments)[0] == 0
    synset = {name: each for name, each in tensors(original).items() if "synset" in name}
    for name, each in synset.items():  # another way to the same derivative, which rounds otherwise
        torch.testing.assert_close(tensors(done)[name], each, rtol=1e-3, atol=1e-3)


def test_an_objective_that_returns_nan_is_told(done: Path) -> None:
    source = (
        '@objective(more_influential="larger")\ndef target(logits, reference, /):\n    return logits[:, :1] * torch.nan'
    )
    mine = plugin(done.parent / "mine.py", "objective", "mine", source)
    recipe = tiny(done.parent, objectives="[{use: mine}]")
    message = refused("run", recipe, "--out", done, "--plugin", mine, "--fresh")
    assert f"objective 'mine' of plugin {mine} returned NaN" in message
    assert finished(done) == ["training", "partition", "matching"]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def somebodys(path: Path) -> None:
    save_file({"weight": torch.zeros(3, 3)}, path)


def another_runs(path: Path) -> None:
    """The same names and shapes, from another recipe."""
    random = {name: torch.rand(each.shape).to(each.dtype) for name, each in artifacts.load_tensors(path).items()}
    save_tensors(path, random, {"inputs": "0123", "file": path.name})


def removed(path: Path) -> None:
    path.unlink()


DAMAGES = [half, somebodys, another_runs, removed]
PLACES = [
    "offline/trajectory/epoch_000.safetensors",
    "offline/trajectory/epoch_004.safetensors",
    "offline/partition.safetensors",
    "offline/synset.safetensors",
    "online/attribution.safetensors",
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_file_is_named_and_the_advice_repairs_it(
    done: Path, original: Path, place: str, damage: Callable[[Path], None]
) -> None:
    recipe = done.parent / "tiny.yaml"
    damage(done / place)
    message = refused("run", recipe, "--out", done)
    assert message.startswith(f"{done / place} is ")
    assert message.endswith("run with --fresh to make it again")
    assert ddm("run", recipe, "--out", done, "--fresh")[0] == 0
    assert_same_run(done, original)


@pytest.mark.parametrize("damage", [half, somebodys, another_runs])
@pytest.mark.parametrize("place", ["epoch_004", "partition", "synset"])
def test_a_question_to_a_damaged_run_names_the_file(
    done: Path, place: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = next(done.rglob(f"{place}.safetensors"))
    damage(path)
    message = refused("unlearn", done, "--clusters", "0", "--out", tmp_path / "net.safetensors")
    assert message.startswith(f"{path} is ")
    assert not (tmp_path / "net.safetensors").exists()


@pytest.fixture
def stopped_training(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted after its second epoch."""
    recipe = tiny(tmp_path, TINY)
    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "save_checkpoint", stop_at(2, artifacts.save_checkpoint))
        with pytest.raises(KeyboardInterrupt):
            ddm_framework.run(recipe, out=tmp_path / "run")
    return tmp_path / "run"


def stop_at(call: int, function: Callable[..., None]) -> Callable[..., None]:
    """The same function, which at its n-th call interrupts when it is done."""
    calls = iter(range(1, 1000))

    def stopping(*arguments: object) -> None:
        function(*arguments)
        if next(calls) == call + 1:
            raise KeyboardInterrupt

    return stopping


@pytest.mark.parametrize("damage", [half, somebodys, another_runs])
@pytest.mark.parametrize("name", ["resume", "epoch_000", "epoch_002"])
def test_a_damaged_file_of_unfinished_training_is_named_and_the_advice_repairs_it(
    stopped_training: Path, original: Path, name: str, damage: Callable[[Path], None]
) -> None:
    recipe = stopped_training.parent / "tiny.yaml"
    path = stopped_training / "offline" / "trajectory" / f"{name}.safetensors"
    assert finished(stopped_training) == []
    damage(path)
    message = refused("run", recipe, "--out", stopped_training)
    assert message.startswith(f"{path} is ")
    assert message.endswith("run with --fresh to make it again")
    assert ddm("run", recipe, "--out", stopped_training, "--fresh")[0] == 0
    assert_same_run(stopped_training, original)


@pytest.mark.parametrize("name", ["resume", "epoch_000", "epoch_002"])
def test_training_that_lost_a_file_on_the_way_is_done_over(stopped_training: Path, original: Path, name: str) -> None:
    (stopped_training / "offline" / "trajectory" / f"{name}.safetensors").unlink()
    ddm_framework.run(stopped_training.parent / "tiny.yaml", out=stopped_training)
    assert_same_run(stopped_training, original)


@pytest.mark.parametrize("damage", [half, somebodys, another_runs])
def test_a_damaged_chunk_of_the_synset_is_named_and_the_advice_repairs_it(
    done: Path, original: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    recipe = done.parent / "tiny.yaml"
    RunFolder.open(done).discard(["matching", "online"])
    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "save_synset_chunk", stop_at(0, artifacts.save_synset_chunk))
        with pytest.raises(KeyboardInterrupt):
            ddm_framework.run(recipe, out=done)
    (path,) = (done / "offline" / "synset").iterdir()
    damage(path)
    assert refused("run", recipe, "--out", done).startswith(f"{path} is ")
    assert ddm("run", recipe, "--out", done, "--fresh")[0] == 0
    assert_same_run(done, original)


def test_workers_match_what_one_process_matches(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        offline, "cluster_chunks", lambda network, pairs, settings, total, budget: list(chunks(total, 2))
    )
    runs = []
    for engine in (ALONE, Processes(2, 1)):
        monkeypatch.setattr(Workspace, "engine", engine)
        run = copied(original, tmp_path / str(engine.workers))
        recipe, out = run.with_name("tiny.yaml"), tmp_path / f"run_{engine.workers}"
        runs.append(ddm_framework.run(recipe, ["matching.steps=5"], out=out).path)
    assert_same_run(*runs)


def test_finished_chunks_are_not_matched_again(done: Path, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder.open(done).discard(["matching", "online"])
    matched: list[int] = []

    def counting(*arguments: Any, **options: Any) -> object:
        matched.append(arguments[1].partition.num_clusters)
        if matched == [6, 3]:
            raise DivergenceError("for the test")
        return real(*arguments, **options)

    real = offline.match
    monkeypatch.setattr(offline, "match", counting)
    recipe = done.parent / "tiny.yaml"
    with pytest.raises(DivergenceError):
        ddm_framework.run(recipe, out=done)
    ddm_framework.run(recipe, out=done)
    assert matched == [6, 3, 3]
    assert_same_run(done, original)


def test_a_strangers_file_among_the_chunks_stays(done: Path) -> None:
    RunFolder.open(done).discard(["matching", "online"])
    stranger = done / "offline" / "synset" / "notes.txt"
    stranger.parent.mkdir()
    ddm_framework.run(done.parent / "tiny.yaml", out=done)
    assert not stranger.parent.exists()
    stranger.parent.mkdir()
    stranger.write_text("mine")
    artifacts.remove_synset_chunks(RunFolder.open(done))
    assert stranger.read_text() == "mine"

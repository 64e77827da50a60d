"""`memory_mb: auto` is settled once; where memory ends a chunk is halved, which takes longer, and the numbers stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import TINY, copied, finished_tiny, tiny
from torch import Tensor

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.engine import ALONE
from ddm_framework.network import Network, Parameters, concatenate
from ddm_framework.network.memory import halved
from ddm_framework.offline import match
from ddm_framework.online import leave_one_out
from ddm_framework.plugin import load_plugins
from ddm_framework.recipe import load_recipe
from ddm_framework.resources import is_shortage
from ddm_framework.runs import RunFolder, opening, settle
from ddm_framework.truth import retrained

SAYS = "going on with half as many"


def beyond_any_memory() -> None:
    torch.empty(2**50)


def test_a_chunk_is_halved_until_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    def work(part: slice) -> list[int]:
        if part.stop - part.start > 3:
            beyond_any_memory()
        return list(range(part.start, part.stop))

    parts = list(halved(11, work, "things"))
    assert [index for _, found in parts for index in found] == list(range(11))
    assert all(list(range(part.start, part.stop)) == found for part, found in parts)
    assert caplog.messages[0] == f"memory ended with 11 things at once; {SAYS}"


@pytest.mark.parametrize("size", [1, 5])
def test_what_does_not_fit_alone_and_other_errors_are_raised(size: int) -> None:
    with pytest.raises(RuntimeError, match=r"not enough memory|can.t allocate") as caught:
        list(halved(size, lambda _: beyond_any_memory(), "things"))
    assert is_shortage(caught.value)
    with pytest.raises(ZeroDivisionError):
        list(halved(size, lambda _: 1 / 0, "things"))


def estimated(workspace: Workspace, **online: Any) -> Parameters:
    rows = leave_one_out(workspace.partition.num_clusters)
    return concatenate(
        stack for _, stack in workspace.with_online(keep_mb=0, **online).perturbed(rows, workspace.synset)
    )


def matched(workspace: Workspace) -> dict[str, Tensor]:
    recipe, settings = workspace.recipe, workspace.recipe.matching
    everything = slice(0, workspace.partition.num_clusters)
    found = match(
        workspace.trained, workspace.divided, everything, recipe.distance, settings, 0, budget=workspace.budget
    )
    return found.tensors()


WORK: dict[str, tuple[str, str, Callable[[Workspace], dict[str, Tensor]]]] = {
    "step": ("ddm_framework.online.finetuning", "synset_gradients", estimated),
    "replay": ("ddm_framework.online.replaying", "train", lambda run: estimated(run, replay=2)),
    "anchor": ("ddm_framework.online.finetuning", "train", lambda run: estimated(run, anchor=1.0)),
    "bank": (
        "ddm_framework.truth.trained",
        "train",
        lambda run: retrained(run, leave_one_out(run.partition.num_clusters)).load(slice(0, 7)),
    ),
    "logits": (
        "ddm_framework.network.networks:Network",
        "logits",
        lambda run: {"": run.stack_logits(estimated(run), run.queries_of("test").images)},
    ),
    "gradients": ("ddm_framework.network.networks:Network", "gradients", matched),
}


@pytest.mark.parametrize("name", WORK)
def test_the_first_allocation_fails_and_the_numbers_stay(
    name: str, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, function, work = WORK[name]
    workspace.engine = ALONE
    banks = iter(["first", "second"])
    monkeypatch.setattr("ddm_framework.truth.retraining.bank_folder", lambda _: tmp_path / bank)
    bank = next(banks)
    wanted = work(workspace)
    bank = next(banks)
    place = Network if ":" in module else __import__(module, fromlist=["it"])
    original, failed = getattr(place, function), []

    def first_fails(*given: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            beyond_any_memory()
        return original(*given, **options)

    monkeypatch.setattr(place, function, first_fails)
    found = work(workspace)
    assert failed
    assert any(SAYS in each for each in caplog.messages)
    assert all(torch.equal(each, found[key]) for key, each in wanted.items())


def test_matching_is_halved_too(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddm_framework.stages import offline

    wanted, failed = matched(workspace), []
    common = offline.Matched(
        workspace.trained,
        workspace.divided,
        workspace.recipe.distance,
        workspace.recipe.matching,
        0,
        workspace.budget,
        None,
    )
    original = match

    def first_fails(*given: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            beyond_any_memory()
        return original(*given, **options)

    monkeypatch.setattr(offline, "match", first_fails)
    found = offline.match_chunk(common, slice(0, workspace.partition.num_clusters), lambda: None).tensors()
    assert failed
    assert all(torch.equal(each, found[key]) for key, each in wanted.items())


def auto(folder: Path) -> Path:
    return tiny(folder, TINY.replace("memory_mb: 64", "memory_mb: auto"))


def test_auto_is_settled_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "free_memory", lambda: 2**30 // 4)
    run = ddm_framework.run(auto(tmp_path), out=tmp_path / "run")
    settled = run.workspace.recipe.general.memory_mb
    assert settled in (16, 32, 64, 128)  # half of what is free, for all workers together
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["memory_mb"] == manifest["stages"]["matching"]["inputs"]["memory_mb"] == settled
    assert f"memory_mb: {settled}\n" in (run.path / "recipe.yaml").read_text()
    monkeypatch.setattr(opening, "free_memory", lambda: 2**36)
    again = ddm_framework.run(auto(tmp_path), out=tmp_path / "run")
    assert again.workspace.recipe.general.memory_mb == settled
    assert ddm_framework.open_run(run.path).workspace.recipe.general.memory_mb == settled


@pytest.mark.parametrize(("free", "settled"), [(None, 256), (2**40, 256), (2**10, 16)])
def test_auto_has_bounds(free: int | None, settled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "free_memory", lambda: free)
    recipe = load_recipe(str(auto(tmp_path)), load_plugins())
    assert settle(recipe, RunFolder.open(tmp_path / "new"))[0].general.memory_mb == settled


def test_a_run_that_did_not_write_it_down_has_the_former_default(tmp_path: Path) -> None:
    original = finished_tiny(tmp_path / "whole")
    run = RunFolder.open(copied(original, tmp_path / "old"))
    del run.manifest["stages"]["matching"]["inputs"]["memory_mb"]
    recipe = load_recipe(str(auto(tmp_path)), load_plugins())
    assert settle(recipe, run)[0].general.memory_mb == 256

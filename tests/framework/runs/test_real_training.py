"""Replaying the end of a run's training: exact at the ends of the dial, refused or left out where it cannot be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import copied, tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import ddm_framework
from ddm_framework import DDMError, Run, RunFolderError
from ddm_framework.answers.hierarchical import search_each
from ddm_framework.engine import ALONE, Engine, Processes, Work
from ddm_framework.network import chunks
from ddm_framework.online import displacements, leave_one_out
from ddm_framework.runs import Workspace, kept_networks
from ddm_framework.runs.real_training import replayed_epochs
from ddm_framework.truth import retrained

MOMENTUM = "{epochs: 4, lr: 0.05, batch_size: 16, momentum: 0.9, schedule: cosine, checkpoint_every: 1}"


@pytest.fixture(scope="module")
def momentum(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run with momentum, on one thread, with every checkpoint."""
    folder = tmp_path_factory.mktemp("momentum")
    return ddm_framework.run(tiny(folder, training=MOMENTUM, threads="1"), out=folder / "run")


def networks(workspace: Workspace, rows: Tensor, **online: Any) -> dict[str, Tensor]:
    """The estimated networks under other settings of `online`."""
    parts = [stack for _, stack in workspace.with_online(**online).perturbed(rows, workspace.synset)]
    return {name: torch.cat([each[name] for each in parts]) for name in parts[0]}


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_a_network_that_lacks_nothing_is_the_target_to_the_last_bit(momentum: Run, epochs: int) -> None:
    workspace = momentum.workspace
    stack = networks(workspace, leave_one_out(workspace.partition.num_clusters), replay=epochs, replay_step_size=0.05)
    assert all(torch.equal(each[0], workspace.target[name]) for name, each in stack.items())
    assert not any(torch.equal(each[1], workspace.target[name]) for name, each in stack.items())


def test_all_epochs_are_exact_retraining_to_the_last_bit(momentum: Run) -> None:
    workspace = momentum.workspace
    rows = leave_one_out(workspace.partition.num_clusters)
    bank = retrained(workspace, rows)
    exact, stack = bank.load(slice(0, len(bank))), networks(workspace, rows, replay=4, replay_step_size=0.05)
    assert all(torch.equal(each, exact[name]) for name, each in stack.items())


@pytest.mark.parametrize(
    "online",
    [{"replay": 2}, {"anchor": 1.0}, {"replay": 1, "direction": "gradient"}],
    ids=["replay", "anchor", "directed"],
)
def test_workers_estimate_what_one_process_estimates(
    momentum: Run, online: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_networks, "SHARED_SECONDS", 0.0)
    monkeypatch.setattr(kept_networks, "chunks_of", lambda network, count, recipe: list(chunks(count, 2)))
    rows, counts = leave_one_out(momentum.workspace.partition.num_clusters), []

    class Counted(Processes):
        def results(self, work: Work, common: Any, tasks: Any, count: int, **more: Any) -> Any:
            counts.append(count)
            return super().results(work, common, tasks, count, **more)

    def estimated(engine: Engine) -> dict[str, Tensor]:
        momentum.workspace.engine = engine
        return networks(momentum.workspace, rows, keep_mb=0, step_size=0.02, **online)

    alone, shared = estimated(ALONE), estimated(Counted(2, 1))
    assert counts == [4]
    assert all(torch.equal(each, alone[name]) for name, each in shared.items())


ADAM = (
    "{epochs: 4, lr: 0.01, batch_size: 16, optimizer: adamw, weight_decay: 0.1, warmup_epochs: 1, label_smoothing: 0.1}"
)


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("adam")
    return ddm_framework.run(tiny(folder, training=ADAM), out=folder / "run")


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_adam_is_repeated_from_a_checkpoint_to_the_last_bit(adam: Run, epochs: int) -> None:
    workspace, rows = adam.workspace, leave_one_out(6)[:3]
    stack = networks(workspace, rows, replay=epochs, replay_step_size=0.05)
    assert all(torch.equal(each[0], workspace.target[name]) for name, each in stack.items())
    if epochs == 4:
        exact = retrained(workspace, rows).load(slice(3))
        assert all(torch.equal(each, exact[name]) for name, each in stack.items())


def test_what_adam_remembers_is_needed_and_missed(adam: Run, tmp_path: Path) -> None:
    old = copied(adam.path, tmp_path / "old")
    for file in old.rglob("squares_*.safetensors"):
        file.unlink()
    with pytest.raises(DDMError, match="what Adam remembers"):
        ddm_framework.open_run(old).workspace.with_online(replay=2).design_logits(adam.workspace.queries_of("test"))


@pytest.mark.parametrize("name", ["source", "linearised"])
def test_methods_that_follow_gradient_descent_refuse_adam(adam: Run, name: str) -> None:
    workspace = adam.workspace
    with pytest.raises(DDMError, match=f"{name} follows gradient descent, and the target was trained by adamw"):
        workspace.effects_by(workspace.queries_of("test"), workspace.objective("margin"), name)


@pytest.mark.parametrize("online", [{"replay": 2}, {"anchor": 1.0}], ids=["replay", "anchor"])
def test_hierarchical_search_deletes_whole_classes(momentum: Run, online: dict[str, Any]) -> None:
    workspace = momentum.workspace.with_online(step_size=0.02, **online)
    queries, objective = workspace.queries_of("test"), workspace.objectives[0]
    effect = workspace.attribution(queries, objective).effect
    found = search_each(workspace, queries, objective, effect)
    assert torch.equal(workspace.partition.classes[found.cluster], found.label)


def test_a_class_is_deleted_with_all_its_clusters(momentum: Run) -> None:
    workspace = momentum.workspace.with_online(replay=4)
    rows = torch.tensor([[0.0, 1, 1]])
    [(_, stack)] = workspace.perturbed(rows, workspace.class_synset, workspace.class_partition)
    exact = retrained(momentum.workspace, rows, partition=workspace.class_partition).load(slice(0, 1))
    assert all(torch.equal(each, exact[name]) for name, each in stack.items())


def test_auto_is_a_fifteenth_at_the_nearest_checkpoint(momentum: Run) -> None:
    assert replayed_epochs(momentum.workspace.with_online(replay="auto")) == 1
    assert replayed_epochs(momentum.workspace) == 0


def test_a_checkpoint_that_was_not_saved_is_refused_with_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(DDMError, match=r"replay: 1 .* not saved \(training.checkpoint_every: 2\); the nearest is 2"):
        replayed_epochs(workspace.with_online(replay=1))
    assert replayed_epochs(workspace.with_online(replay="auto")) == 2


def test_more_epochs_than_there_were_are_refused(momentum: Run) -> None:
    with pytest.raises(DDMError, match=r"replay: 9 .* the nearest is 4"):
        replayed_epochs(momentum.workspace.with_online(replay=9))


def test_without_saved_momentum_the_middle_of_the_dial_is_refused(momentum: Run, tmp_path: Path) -> None:
    old = copied(momentum.path, tmp_path / "old")
    for file in old.rglob("velocity_*.safetensors"):
        file.unlink()
    workspace = ddm_framework.open_run(old).workspace
    rows = leave_one_out(workspace.partition.num_clusters)
    with pytest.raises(DDMError, match=r"did not save momentum.*--fresh"):
        networks(workspace, rows, replay=2)
    assert networks(workspace, rows, replay=4)


def test_without_the_training_data_the_step_alone_is_taken(tmp_path: Path) -> None:
    path = ddm_framework.run(tiny(tmp_path, training=MOMENTUM), out=tmp_path / "run").path
    rows = leave_one_out(6)
    plain = networks(ddm_framework.open_run(path).workspace, rows, replay=0, step_size=0.01)
    (tmp_path / "data.npz").unlink()
    found = networks(ddm_framework.open_run(path).workspace, rows, replay=2, step_size=0.01)
    assert all(torch.equal(each, plain[name]) for name, each in found.items())


def test_without_the_training_data_no_kept_network_stands_among_those_that_fall_back(
    momentum: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_networks, "chunks_of", lambda network, count, recipe: list(chunks(count, 2)))
    path = ddm_framework.run(tiny(tmp_path, training=MOMENTUM), out=tmp_path / "run").path
    rows, asked = leave_one_out(6), {"replay": 2, "step_size": 0.01}
    replayed = networks(ddm_framework.open_run(path).workspace, rows, **asked)
    plain = networks(ddm_framework.open_run(path).workspace, rows, **{**asked, "replay": 0})
    (tmp_path / "data.npz").unlink()
    kept = networks(ddm_framework.open_run(path).workspace, rows, **asked)
    assert all(torch.equal(each, replayed[name]) for name, each in kept.items())
    next((path / "networks").glob("*.safetensors")).unlink()
    found = networks(ddm_framework.open_run(path).workspace, rows, **asked)
    assert all(torch.equal(each, plain[name]) for name, each in found.items())


def test_the_curvature_is_made_once_for_all_questions(momentum: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    rows = displacements.curvature_rows
    monkeypatch.setattr(
        displacements,
        "curvature_rows",
        lambda *given: made.append(1) or rows(*given),  # type: ignore[func-returns-value]
    )
    for row in ([0.0, 1, 1, 1, 1, 1], [1.0, 0, 1, 0, 1, 1]):
        networks(momentum.workspace, torch.tensor([row]), replay=1, direction="influence", keep_mb=0)
    assert made == [1]
    networks(momentum.workspace, torch.tensor([row]), replay=2, direction="influence", keep_mb=0)
    assert made == [1, 1]  # taken at another checkpoint


def test_a_target_that_was_trained_elsewhere_is_not_replayed(momentum: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "net.pt"
    torch.save(momentum.workspace.target, checkpoint)
    recipe = tiny(tmp_path, target=f"{{checkpoint: {checkpoint}}}", training=MOMENTUM, online="{replay: auto}")
    workspace = ddm_framework.run(recipe, out=tmp_path / "run").workspace
    assert replayed_epochs(workspace) == 0
    with pytest.raises(DDMError, match="trained elsewhere"):
        replayed_epochs(workspace.with_online(replay=1))


def test_momentum_that_was_edited_to_another_shape_is_refused(momentum: Run, tmp_path: Path) -> None:
    run = copied(momentum.path, tmp_path / "copy")
    file = run / "offline" / "trajectory" / "velocity_002.safetensors"
    with safe_open(file, framework="pt") as found:
        stamp = found.metadata()
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name][None]}, file, stamp)
    edited = ddm_framework.open_run(run).with_online(replay=2)
    with pytest.raises(RunFolderError, match=r"velocity_002\.safetensors is not what ddm wrote there: .*run with --fr"):
        edited.without([0])

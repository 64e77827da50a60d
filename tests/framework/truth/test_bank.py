"""The bank holds each exactly retrained network once, finds it again, and gets the same from workers as from itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_fixtures import tiny
from safetensors.torch import load_file, save_file
from torch import Tensor

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.engine import ALONE, Processes
from ddm_framework.errors import DivergenceError
from ddm_framework.network.stacks import Parameters
from ddm_framework.network.training import start, train
from ddm_framework.offline.partition import Partition
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.runs import account
from ddm_framework.truth.bank import Bank
from ddm_framework.truth.retraining import bank_folder, bank_logits, is_retrained, retrained


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return ddm_framework.run(tiny(tmp_path), out=tmp_path / "runs" / "tiny").workspace


def equal(one: Parameters, other: Parameters) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def everything(bank: Bank) -> Parameters:
    return bank.load(slice(0, len(bank)))


def stamps(bank: Bank) -> list[int]:
    return [file.stat().st_mtime_ns for file in bank.files]


def test_nothing_deleted_is_the_target_to_the_last_bit(workspace: Workspace) -> None:
    bank = retrained(workspace, leave_one_out(6))
    unperturbed = {name: each[0] for name, each in everything(bank).items()}
    assert equal(unperturbed, workspace.target)


def test_networks_are_those_of_a_training_without_the_samples(workspace: Workspace) -> None:
    rows = torch.tensor([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0]])
    data, recipe = workspace.data.train, workspace.recipe
    kept = rows[:, workspace.partition.clusters].float()
    state = start(workspace.initial, 2)
    *_, last = train(workspace.network, state, data, kept, recipe.training, recipe.general.seed)
    assert equal(everything(retrained(workspace, rows)), last.parameters)


def test_workers_give_what_one_process_gives(workspace: Workspace) -> None:
    workspace.engine = ALONE
    alone = everything(retrained(workspace, leave_one_out(6)))
    for file in bank_folder(workspace).iterdir():
        file.unlink()
    workspace.engine = Processes(2, 1)
    assert equal(everything(retrained(workspace, leave_one_out(6))), alone)


def test_what_is_there_is_not_trained_again(workspace: Workspace) -> None:
    first = retrained(workspace, leave_one_out(6)[:4])
    before = stamps(first)
    second = retrained(workspace, leave_one_out(6)[1:])
    assert stamps(first) == before
    assert set(first.files) & set(second.files) == set(first.files[1:])
    assert len(list(bank_folder(workspace).iterdir())) == 7


def test_another_run_with_the_same_target_shares_the_bank(workspace: Workspace, tmp_path: Path) -> None:
    bank = retrained(workspace, leave_one_out(6))
    before = stamps(bank)
    other = ddm_framework.run(tiny(tmp_path), ["matching.steps=2"], out=tmp_path / "runs" / "other").workspace
    assert retrained(other, leave_one_out(6)).files == bank.files
    assert stamps(bank) == before
    longer = ddm_framework.run(tiny(tmp_path), ["training.epochs=6"], out=tmp_path / "runs" / "longer").workspace
    assert not set(retrained(longer, leave_one_out(6)[:2]).files) & set(bank.files)


def test_an_address_is_of_samples_and_not_of_cluster_numbers(workspace: Workspace) -> None:
    partition = workspace.partition
    renamed = Partition(5 - partition.clusters, partition.classes.flip(0))
    rows = leave_one_out(6)[1:]
    assert retrained(workspace, rows, partition=renamed).files == retrained(workspace, rows).files[::-1]


def test_a_damaged_network_is_trained_again(workspace: Workspace) -> None:
    bank = retrained(workspace, leave_one_out(6)[:3])
    whole = everything(bank)
    bank.files[1].write_bytes(bank.files[1].read_bytes()[:100])
    bank.files[2].replace(bank.files[0])  # another network under the first one's name
    assert equal(everything(retrained(workspace, leave_one_out(6)[:3])), whole)


@pytest.mark.parametrize("name", ["parameters.0.weight", "seconds"])
def test_a_network_whose_weights_were_edited_to_another_shape_or_type_is_trained_again(
    workspace: Workspace, name: str
) -> None:
    bank = retrained(workspace, leave_one_out(6)[:4])
    whole = everything(bank)
    changes = (lambda each: each[None], lambda each: each.half(), lambda each: each.repeat(2, *[1] * each.ndim))
    for file, change in zip(bank.files[1:], changes, strict=True):
        tensors = load_file(file)
        save_file({**tensors, name: change(tensors[name])}, file, {"network": file.stem})
    assert not is_retrained(workspace, leave_one_out(6)[:4])
    again = retrained(workspace, leave_one_out(6)[:4])
    assert equal(everything(again), whole)
    assert again.seconds > 0


def test_independent_networks_have_a_start_and_an_order_of_their_own(workspace: Workspace) -> None:
    rows = torch.ones(2, 6)
    coupled = everything(retrained(workspace, rows))
    first, again, second = (
        everything(retrained(workspace, rows, coupling="independent", replicate=number)) for number in (0, 0, 1)
    )
    assert equal(first, again)
    assert not equal(first, second)
    assert not equal(first, coupled)
    assert all(torch.equal(first[name][0], first[name][1]) for name in first)  # one mask, one replicate: one network
    both = everything(retrained(workspace, rows, coupling="independent", replicate=[0, 1]))
    assert all(torch.equal(both[name][0], first[name][0]) for name in both)
    assert all(torch.equal(both[name][1], second[name][0]) for name in both)
    lacking = everything(retrained(workspace, leave_one_out(6)[:2], coupling="independent"))
    assert not torch.allclose(*lacking["0.weight"])


def test_time_is_stored_with_the_networks_and_charged_when_they_are_reused(workspace: Workspace) -> None:
    seconds = retrained(workspace, leave_one_out(6)).seconds
    assert seconds > 0
    with account.open_account() as ledger:
        assert retrained(workspace, leave_one_out(6)).seconds == seconds
    assert ledger.charged == seconds
    assert ledger.elapsed < seconds


def test_logits_are_of_each_network(workspace: Workspace) -> None:
    bank, queries = retrained(workspace, leave_one_out(6)), workspace.queries_of("test")
    logits = bank_logits(workspace, bank, queries)

    def alone(row: int) -> Tensor:
        weights = {name: each[row] for name, each in everything(bank).items()}
        with torch.no_grad():
            return workspace.module(weights)(queries.images)

    torch.testing.assert_close(logits, torch.stack([alone(row) for row in range(7)]), rtol=1e-4, atol=1e-5)


def test_a_worker_that_fails_says_why_and_loses_nothing(workspace: Workspace) -> None:
    finished = retrained(workspace, leave_one_out(6)[:2])
    workspace.engine = Processes(2, 1)
    settings = workspace.recipe.training.changed({"lr": 1e20})
    workspace.recipe = replace(workspace.recipe, training=settings)
    with pytest.raises(DivergenceError, match=r"training diverged in epoch 1 .* lower training\.lr"):
        retrained(workspace, 1 - leave_one_out(6)[1:])
    assert all(file.is_file() for file in finished.files)

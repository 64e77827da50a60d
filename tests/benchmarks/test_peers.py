"""The comparison with other libraries: its sizes, its margin, its plain retraining, and commands that are watched."""

from __future__ import annotations

import sys
from pathlib import Path

import peer_methods
import peers
import pytest
import torch
from run_fixtures import asked_tiny
from watching import watched

import ddm_framework
from ddm_framework.network import flat
from ddm_framework.online import leave_one_out
from ddm_framework.truth import retrained


def test_one_size_grows_at_a_time_as_far_as_the_data_go() -> None:
    assert list(peers.sizes("digits")) == ["x1", "K x4", "queries x4"]
    assert list(peers.sizes("cifar10")) == ["x1", "N x4", "K x4", "K x16", "queries x4", "queries x16"]
    found = peers.sizes("mnist")
    assert found["N x16"] == peers.Size(16_000, 20, 24)
    assert found["queries x4"] == peers.Size(1000, 20, 96)


def test_the_margin_is_a_logit_less_the_others_log_sum_exp() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.5, 0.5]])
    wanted = [4 - (torch.tensor(1.0).exp() + torch.tensor(2.0).exp()).log(), 0.5 - 0.5 - torch.tensor(2.0).log()]
    assert torch.allclose(peer_methods.margin(logits, torch.tensor([2, 0])), torch.stack(wanted))


def test_a_plain_loop_retrains_what_the_bank_retrains(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that methods are judged by the truth, and the plain loop does the same work; without momentum alone."""
    recipe = asked_tiny(tmp_path_factory.getbasetemp() / "tiny").parent / "tiny.yaml"
    run = ddm_framework.run(recipe, ["training.momentum=0.0", "study.queries=2"], out=tmp_path / "run")
    peers._save_task(tmp_path, run, peers.Size(36, 6, 5))
    task = peer_methods.load(tmp_path)
    monkeypatch.setitem(peer_methods._SHARED, "task", task)
    found = torch.stack([peer_methods.retrain_without(group) for group in range(task.num_groups)])
    bank = retrained(run.workspace, leave_one_out(task.num_groups)[1:]).load(slice(task.num_groups))
    logits = run.workspace.network.logits(bank, task.queries)
    wanted = peer_methods.margin(logits, task.predicted.expand(task.num_groups, -1))
    assert flat(bank).isfinite().all()
    assert torch.allclose(found, wanted, atol=1e-4)
    exact = peers.quality(
        tmp_path, (wanted - peer_methods.margin(task.module(task.queries), task.predicted)).double(), amounts=True
    )
    assert set(exact) == {"lds", "r2"}


def test_a_command_is_ended_at_its_limits() -> None:
    done = watched([sys.executable, "-c", "print('said')"])
    assert (done.status, done.out, done.ended) == (0, "said\n", "")
    late = watched([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.3)
    assert late.ended == "more than 0 s"
    large = watched([sys.executable, "-c", "import time; x = b'1' * 3 * 10**8; time.sleep(60)"], memory=2e8)
    assert large.ended == "more than 0 GB"
    assert large.peak_bytes > 2e8

"""A Ray cluster of two machines, each a process here, of which one dies in the middle of the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import copied, finished_tiny

import ddm_framework
from ddm_framework import DDMError, Workspace
from ddm_framework.engine import Cluster, Processes
from ddm_framework.online import leave_one_out
from ddm_framework.truth import retrained, trained

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ddm-framework[ray]'")

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
"""What one machine of the cluster has."""


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster as Machines

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Machines(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def workspace(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Of a finished run with a bank of its own."""
    original = finished_tiny(tmp_path_factory.getbasetemp() / "tiny")
    return ddm_framework.open_run(copied(original, tmp_path)).workspace


def test_a_machine_dies_in_the_middle_and_the_numbers_are_those_of_loky(
    machines: Any, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = leave_one_out(workspace.partition.num_clusters)
    workspace.engine = Processes(2, 1)
    bank = retrained(workspace, rows)
    wanted = bank.load(slice(0, len(bank)))
    for file in bank.files:
        file.unlink()
    doomed = machines.add_node(**NODE)
    machines.wait_for_nodes()
    begun, work = tmp_path / "begun", trained.train_chunk

    def held(common: Any, chunk: Any, advance: Callable[[], None]) -> Any:
        """What the machine that dies never finishes."""
        if ray.get_runtime_context().get_node_id() == name:
            begun.touch()
            time.sleep(600)
        return work(common, chunk, advance)

    def kill() -> None:
        while not begun.exists():
            time.sleep(0.05)
        machines.remove_node(doomed, allow_graceful=False)

    def diverge() -> None:
        raise DDMError("training diverged")

    name = doomed.node_id
    monkeypatch.setattr(trained, "train_chunk", held)
    monkeypatch.setattr(trained, "_parts", lambda _, count: [slice(each, each + 1) for each in range(count)])
    workspace.engine = Cluster(1, machines.address)
    assert workspace.engine.workers == 2
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    again = retrained(workspace, rows)
    killer.join(60)
    assert begun.exists()
    assert again.files == bank.files
    found = again.load(slice(0, len(again)))
    assert all(torch.equal(each, found[key]) for key, each in wanted.items())
    with pytest.raises(DDMError, match=r"^the Ray cluster has no room for a worker of 8 cores and 0 GPUs"):
        _ = Cluster(8, machines.address).workers
    with pytest.raises(DDMError, match=r"^training diverged"):
        list(workspace.engine.results(lambda common, task, _: diverge(), None, iter(range(3)), 3))


def test_a_cluster_that_does_not_answer_is_one_sentence() -> None:
    with pytest.raises(DDMError, match=r"^no Ray cluster answers at 127\.0\.0\.1:1 .*; start one with `ray up`"):
        _ = Cluster(1, "127.0.0.1:1").workers

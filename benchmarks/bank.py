"""How long exact retraining takes: the batched engine beside plain loops of ordinary PyTorch, in one run.

    python benchmarks/bank.py            writes benchmarks/results/bank.json

The bank is that of recipes/fidelity_digits.yaml: 100 networks without one cluster each and 40 without random fifths of
the clusters, 30 epochs each. Plain loops train a few of the same networks before, between and after, so that a machine
whose speed drifts is the same for both; ratios are of medians.
"""

from __future__ import annotations

import copy
import dataclasses
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.network.stacks import take
from ddm_framework.network.training import start, train
from ddm_framework.online.perturbations import leave_one_out, random_deletions
from ddm_framework.randomness import generator
from ddm_framework.runs.opening import num_cores
from ddm_framework.runs.safe_files import json_text
from ddm_framework.truth.retraining import bank_logits, retrained

OUT = Path(__file__).parent / "results" / "bank.json"
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "digits_convnet.yaml"
NETWORKS_A_ROUND, ROUNDS = 3, 4


def plain_loop(workspace: Workspace, kept: torch.Tensor) -> float:
    """Seconds of one network by an ordinary loop: a module, an optimiser, tensors in memory, no data loader."""
    data, settings, seed = workspace.data.train, workspace.recipe.training, workspace.recipe.general.seed
    module = copy.deepcopy(workspace.network.module).requires_grad_()
    module.load_state_dict(workspace.initial)
    optimizer = torch.optim.SGD(module.parameters(), lr=settings.lr)
    begun = time.perf_counter()
    for epoch in range(settings.epochs):
        order = torch.randperm(len(data), generator=generator(seed, "order", epoch))
        for batch in order[kept[order]].split(settings.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(module(data.images[batch]), data.labels[batch], reduction="sum")
            (loss / settings.batch_size).backward()
            optimizer.step()
    return time.perf_counter() - begun


def engine(workspace: Workspace, count: int, *, grouped: bool) -> float:
    """Seconds a network of a stack in this process, as one network with groups or by vmap, from three of the epochs."""
    network = workspace.network if grouped else dataclasses.replace(workspace.network, grouped=None)
    data, settings = workspace.data.train, workspace.recipe.training
    begun = time.perf_counter()
    state = start(workspace.initial, count)
    short = settings.model_copy(update={"epochs": 3})
    for reached in train(network, state, data, torch.ones(count, len(data)), short, 0):
        take(reached.parameters, 0)
    return (time.perf_counter() - begun) * settings.epochs / short.epochs / count


def whole_bank(workspace: Workspace) -> float:
    """Seconds of the bank of 140 networks on all cores, the start of the workers included."""
    total = workspace.partition.num_clusters
    rows = torch.cat([leave_one_out(total)[1:], random_deletions(total, 40, 0.2, torch.Generator().manual_seed(0))])
    begun = time.perf_counter()
    made = retrained(workspace, rows)
    seconds = time.perf_counter() - begun
    logits = bank_logits(workspace, retrained(workspace, torch.ones(2, total)), workspace.queries_of("test"))
    assert torch.equal(logits[0], workspace.target_logits(workspace.queries_of("test").images)), "not the target"
    assert len(made) == len(rows)
    return seconds


def measure() -> dict[str, Any]:
    """Everything, in the order described above."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ["threads=1", "matching.steps=1", "study.queries=1"]
        workspace = ddm_framework.run(RECIPE, settings, out=Path(folder, "runs", "digits")).workspace
        kept = leave_one_out(workspace.partition.num_clusters)[1:].bool()[:, workspace.partition.clusters]
        plain: dict[int, list[float]] = {threads: [] for threads in range(1, num_cores() + 1)}
        stacks: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            for threads, seconds in plain.items():
                torch.set_num_threads(threads)
                first = number * NETWORKS_A_ROUND
                seconds += [plain_loop(workspace, kept[row]) for row in range(first, first + NETWORKS_A_ROUND)]
            torch.set_num_threads(1)
            for count in (2, 5, 10, 20, 35):
                for grouped in (False, True):
                    name = f"{'grouped' if grouped else 'vmap'}, {count} networks"
                    stacks.setdefault(name, []).append(engine(workspace, count, grouped=grouped))
            if number == ROUNDS // 2 - 1:
                bank_seconds = whole_bank(workspace)
        queries = workspace.queries_of("test")
        questions = [_leave_one_out_by_ddm(workspace, queries) for _ in range(5)]
    best = min(map(statistics.median, plain.values()))
    each = bank_seconds / 140
    return {
        "machine": f"{platform.machine()}, {num_cores()} cores, torch {torch.__version__}",
        "bank_seconds": bank_seconds,
        "bank_networks": 140,
        "workers": workspace.engine.workers,
        "seconds_a_network": each,
        "plain_loop_seconds_a_network": {f"{n} threads": statistics.median(found) for n, found in plain.items()},
        "times_faster_than_the_best_plain_loop": best / each,
        "one_process_one_thread_seconds_a_network": {name: statistics.median(found) for name, found in stacks.items()},
        "ddm_leave_one_out_seconds": statistics.median(questions),
        "ddm_times_faster_than_retraining_100": each * 100 / statistics.median(questions),
    }


def _leave_one_out_by_ddm(workspace: Workspace, queries: ddm_framework.Queries) -> float:
    """Seconds of the 100 estimated networks and their logits on all test images."""
    rows = leave_one_out(workspace.partition.num_clusters)
    begun = time.perf_counter()
    workspace.perturbed_logits(queries, rows, workspace.synset)
    return time.perf_counter() - begun


if __name__ == "__main__":
    text = json_text(measure())
    OUT.write_text(text, encoding="utf-8")
    print(text)

"""What a network costs that comes with its last checkpoint alone: the same digits network, brought in three ways.

python benchmarks/own_network.py   (about two minutes; writes benchmarks/results/own_network.json)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import ddm_framework
from ddm_framework.api import Run
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.truth.agreement import Judged, judge, recovered_share, recovered_share_interval
from ddm_framework.truth.retraining import bank_logits, retrained

RESULT = Path(__file__).resolve().parent / "results" / "own_network.json"
WAYS = {"all 30 checkpoints": 1, "every tenth checkpoint": 10, "the last checkpoint alone": 0}
"""Every how many epochs a checkpoint was kept before the last; 0 = none was."""


def main() -> None:
    """Train and retrain once, then bring the network three times and see where its first choices lead."""
    with tempfile.TemporaryDirectory() as folder:
        trained = ddm_framework.run("digits_convnet", ["threads=1"], out=Path(folder, "trained"))
        workspace = trained.workspace
        queries, objective = workspace.queries_of("test"), workspace.objectives[0]
        rows = leave_one_out(workspace.partition.num_clusters)[1:]
        logits = bank_logits(workspace, retrained(workspace, rows), queries)
        reference = workspace.reference(queries)
        truth = torch.stack([objective.measure(each, reference)[:, 0] for each in logits]).double().T
        first = _judged(trained, truth)
        found = {"trained here": _figures(trained, first, first)}
        for name, every in WAYS.items():
            run = _brought(trained, every, Path(folder, f"brought_{every}"))
            found[name] = _figures(run, _judged(run, truth), first)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _brought(trained: Run, every: int, out: Path) -> Run:
    files = sorted(trained.path.glob("offline/trajectory/epoch_*.safetensors"))
    kept = files[:-1:every] if every else []
    listed = json.dumps([str(path) for path in kept])
    length = min(4, max(1, len(kept) // 3))
    brought = [f"target.checkpoint={files[-1]}", f"target.trajectory={listed}", f"matching.step_length={length}"]
    return ddm_framework.run("digits_convnet", [*brought, "threads=1"], out=out)


def _judged(run: Run, truth: torch.Tensor) -> Judged:
    workspace = run.workspace
    estimate = workspace.effects_by(workspace.queries_of("test"), workspace.objectives[0], "ddm")
    return judge(truth, estimate.ranking[:, 0])


def _figures(run: Run, judged: Judged, first: Judged) -> dict[str, Any]:
    """The share of the oracle's Dist_1, and on the same queries its difference from the network trained here."""
    nothing, random = torch.zeros_like(judged.random), torch.Generator().manual_seed(0)
    apart = Judged(judged.chosen - first.chosen, nothing, judged.oracle - judged.random, judged.rank, judged.rank)
    return {
        "mean_cosine": run.metrics["matching"]["mean_cosine"],
        "recovered_share": recovered_share(judged),
        "recovered_share_interval": recovered_share_interval(judged, random),
        "difference": recovered_share(apart),
        "difference_interval": recovered_share_interval(apart, random),
    }


if __name__ == "__main__":
    main()

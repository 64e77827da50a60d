"""What a component may have left behind: changed tensors of a workspace, changed files of its folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ddm_framework.online.questions import Queries
from ddm_framework.runs.workspace import Workspace

_MADE_BY_THE_CORE = ("variants",)
"""Folders in a run in which the core keeps what components ask it for; retrained networks lie beside the run."""


def state(workspace: Workspace, queries: Queries | None = None) -> dict[str, Tensor]:
    """Copies of what a workspace holds, by name."""
    train = workspace.data.train
    found = {
        "data": train.images[: len(train)],
        "labels": train.labels,
        "partition": workspace.partition.clusters,
        **{f"target {name}": each for name, each in workspace.target.items()},
        **{f"initial {name}": each for name, each in workspace.initial.items()},
        **{f"synset {name}": each for name, each in workspace.synset.tensors().items()},
    }
    if queries is not None:
        found["queries"] = queries.images
    return {name: each.clone() for name, each in found.items()}


def contents(run: Path) -> dict[str, bytes]:
    """What is in the files of a run, but for what the core writes into it on request."""
    files = (path for path in run.rglob("*") if path.is_file())
    named = {path.relative_to(run).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if name.split("/")[0] not in _MADE_BY_THE_CORE}

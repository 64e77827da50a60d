"""Whether the user's own training makes the network that was brought, before anything is retrained by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.network import broadcast
from ddm_framework.online import leave_one_out
from ddm_framework.runs import Workspace, replayed_epochs
from ddm_framework.truth.retraining import bank_logits, retrained

CLUSTERS = 3
"""Clusters without which the network is retrained to know the size of an effect: the first that a certificate draws."""
QUERIES = 512
MOST = 0.1
"""Largest shift, as a share of the median effect of a cluster."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How near the user's own training comes to the network when it keeps every sample.

    Attributes:
        shift: root mean square of the change of the logits of test images.
        replay_shift: the same where it starts from the checkpoint of `online.replay`; None without a replay.
        cluster_effect: median over some clusters of the same, for networks retrained without them.
        clusters: these, ascending.
    """

    shift: float
    replay_shift: float | None
    cluster_effect: float
    clusters: tuple[int, ...]

    def metrics(self) -> dict[str, Any]:
        """By the names of metrics.json."""
        return {**asdict(self), "clusters": list(self.clusters)}

    def sentence(self) -> str:
        """In plain words."""
        begun = "" if self.replay_shift is None else f", and from where online.replay starts by {self.replay_shift:.2g}"
        return (
            "Exact retrainings are made by the train_function that came with the module. With all samples it moves the"
            f" logits of test images by {self.shift:.2g}{begun}; without one cluster by {self.cluster_effect:.2g} (root"
            f" mean square; median of {len(self.clusters)} clusters)."
        )


def reproduction(workspace: Workspace) -> Reproduction:
    """Train on all samples, and without a few clusters.

    Raises:
        DDMError: if the training does not give the network back, or pays no heed to its weights.
    """
    total, queries = workspace.partition.num_clusters, workspace.queries_of("test", QUERIES)
    order = torch.randperm(total, generator=workspace.generator("certificate"))
    clusters = order[: min(CLUSTERS, total)].sort().values
    own = workspace.target_logits(queries.images)

    def shifts(rows: Tensor) -> Tensor:
        return (bank_logits(workspace, retrained(workspace, rows), queries) - own).double().square().mean((1, 2)).sqrt()

    everything, deletions = leave_one_out(total)[:1], leave_one_out(total)[1:][clusters]
    effects = shifts(deletions)
    effect, shift = float(effects.median()), float(shifts(everything)[0])
    if effect == 0:
        raise DDMError(
            f"train_function gives the same network without cluster {int(clusters[effects.argmin()])} as with all"
            " samples: it pays no heed to its weights, which are 0 for the samples to leave out"
        )
    _check("trained on all samples", shift, effect, "it must repeat the training, seeds and order included")
    again = None
    if epochs := replayed_epochs(workspace):
        start = workspace.num_epochs - epochs
        again = float((_continued(workspace, start, queries.images) - own).double().square().mean().sqrt())
        told = "what a checkpoint does not hold, as an optimizer's state, it must bring itself; or set online.replay=0"
        _check(f"started from checkpoint {start} with all samples", again, effect, told)
    return Reproduction(shift, again, effect, tuple(clusters.tolist()))


def _continued(workspace: Workspace, epoch: int, images: Any) -> Tensor:
    """Logits of what the training from a checkpoint reaches with all samples."""
    training, target = workspace.own_training, workspace.trained
    assert training is not None
    everything = torch.ones(len(workspace.partition.clusters))
    reached = training.trained(target.network, everything, target, epoch, target.trajectory[epoch])
    return workspace.stack_logits(broadcast(reached, 1), images)[0]


def _check(what: str, shift: float, effect: float, instead: str) -> None:
    if shift > MOST * effect:
        raise DDMError(
            f"train_function {what} does not give the module back: it moves the logits of test images by {shift:.2g}"
            f" (root mean square), more than a tenth of the {effect:.2g} by which a cluster moves them; {instead}"
        )

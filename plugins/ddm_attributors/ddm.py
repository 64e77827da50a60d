"""The distilled datamodel, and its ablations, each without one of its ideas (Table 1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from ddm_framework import attributor
from ddm_framework.offline import Partition
from ddm_framework.online import Objective, Queries
from ddm_framework.plugin import choose
from ddm_framework.runs import Workspace
from ddm_framework.stages import variant

Direction = Literal["synset", "gradient", "influence"]


def _sets(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    perturbations: Tensor,
    /,
    step_size: float | None = None,
) -> Tensor:
    """What the networks of whole sets say, estimated with all their clusters' steps at once."""
    return _stepping(workspace, step_size).set_effects(perturbations, queries, objective, "online: sets of clusters")


def _stepping(workspace: Workspace, step_size: float | None) -> Workspace:
    """With another length of the step, whether or not a replay follows it."""
    return workspace if step_size is None else workspace.with_online(step_size=step_size, replay_step_size=step_size)


def _anchored(workspace: Workspace, passes: float, step_size: float) -> Workspace:
    return workspace.with_online(start="target", replay=0, anchor=passes, step_size=step_size)


def _sets_anchored(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    perturbations: Tensor,
    /,
    passes: float,
    step_size: float,
) -> Tensor:
    return _sets(_anchored(workspace, passes, step_size), queries, objective, perturbations)


def _replayed(
    workspace: Workspace, epochs: int | str, step_size: float, direction: Direction, damping: float
) -> Workspace:
    return workspace.with_online(
        start="target", anchor=0.0, replay=epochs, replay_step_size=step_size, direction=direction, damping=damping
    )


def _sets_replayed(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    perturbations: Tensor,
    /,
    epochs: int | str,
    step_size: float,
    direction: Direction,
    damping: float,
) -> Tensor:
    other = _replayed(workspace, epochs, step_size, direction, damping)
    return _sets(other, queries, objective, perturbations)


@attributor(sets=_sets)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    step_size: Annotated[float, Field(gt=0)] | None = None,
) -> Tensor:
    """Effect of deleting each cluster, by the recipe's matching and online settings.

    Args:
        queries: N of them.
        objective: with m behaviours.
        step_size: instead of the recipe's `online.step_size`, or `online.replay_step_size` where it replays.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Source: Alg. 1; Eq. 8, 9.
    """
    workspace.charge("partition", "matching")
    return _stepping(workspace, step_size).attribution(queries, objective).effect


@attributor(sets=_sets_anchored)
def attribute_anchored(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    passes: Annotated[float, Field(gt=0)] = 1.0,
    step_size: Annotated[float, Field(gt=0)] = 0.02,
) -> Tensor:
    """As `ddm`, but each network takes its step during a short training on the remaining data.

    The training brings in the curvature of the loss, for which influence functions invert a matrix. It costs `passes`
    epochs per network and question, where a retraining costs as many epochs as the target was trained for, and it needs
    the training data.

    Args:
        queries: N of them.
        objective: with m behaviours.
        passes: over the training images; 0.3 is one pass over three tenths of them.
        step_size: instead of the recipe's `online.step_size`, which suits a step without training.
    Returns:
        As `ddm`.
    """
    workspace.charge("partition", "matching")
    return _anchored(workspace, passes, step_size).attribution(queries, objective).effect


@attributor(sets=_sets_replayed)
def attribute_by_replay(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = "auto",
    step_size: Annotated[float, Field(ge=0)] = 0.01,
    direction: Direction = "synset",
    damping: Annotated[float, Field(gt=0)] = 0.3,
) -> Tensor:
    """As `ddm`, but each network takes its step some epochs before the end, and then repeats them without the cluster.

    With all epochs this is exact retraining. It needs the training data and the saved checkpoints.

    Args:
        queries: N of them.
        objective: with m behaviours.
        epochs: E of `online.replay`; `auto` is a fifteenth of the target's epochs.
        step_size: instead of the recipe's `online.replay_step_size`.
        direction: instead of the recipe's `online.direction`; the synset is matched and charged for `synset` alone.
        damping: of the curvature, for `direction: influence`.
    Returns:
        As `ddm`.
    """
    workspace.charge("partition", *(["matching"] if direction == "synset" else []))
    return _replayed(workspace, epochs, step_size, direction, damping).attribution(queries, objective).effect


def _sets_by_influence(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    perturbations: Tensor,
    /,
    epochs: int | str,
    step_size: float,
    damping: float,
) -> Tensor:
    return _sets_replayed(workspace, queries, objective, perturbations, epochs, step_size, "influence", damping)


@attributor(sets=_sets_by_influence)
def attribute_by_influence(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto",
    step_size: Annotated[float, Field(ge=0)] = 0.01,
    damping: Annotated[float, Field(gt=0)] = 0.3,
) -> Tensor:
    """As `ddm_replay`, but the step before the replay is that of an influence function, and no synset is needed.

    Args:
        queries: N of them.
        objective: with m behaviours.
        epochs: E of `online.replay`; `auto` is a fifteenth of the target's epochs.
        step_size: length of the step as a share of ‖θ‖, scaled down as for `ddm_replay`.
        damping: added to the curvature.
    Returns:
        As `ddm`.
    """
    return attribute_by_replay(
        workspace, queries, objective, epochs=epochs, step_size=step_size, direction="influence", damping=damping
    )


def attribute_with_hard_labels(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """As `ddm`, but the synthetic images keep the label of their class.

    Hard labels cannot match a reversed gradient: that of the last bias is p - y, and its reverse needs other labels.

    Args, Returns: as `ddm`.
    """
    other = variant(workspace, "ddm_hard", matching={"labels": "hard"}, online={"direction": "synset"})
    return other.attribution(queries, objective).effect


def attribute_by_forward_matching(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    start: Literal["initial", "target"] = "target",
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None,
) -> Tensor:
    """Ordinary gradient matching: synthetic images whose gradient is that of the cluster.

    Args:
        queries: N of them.
        objective: with m behaviours.
        start: `initial` trains from θ_0 on the synset of the kept clusters, the usual way to use distilled data;
            `target` takes a step from θ_τ that raises the loss on the synset of the deleted clusters.
        steps: number of steps; by default the target's epochs for `initial`, the recipe's `online.steps` for `target`.
    Returns:
        As `ddm`.
    Source: Table 1, "DDM-match"; Eq. 13, Table 4; Zhao et al. 2021.
    """
    initial = start == "initial"
    by_default = workspace.recipe.training.epochs if initial else workspace.recipe.online.steps
    # A training from θ_0 has no end of the target's to repeat.
    alone = {"direction": "synset", **({"replay": 0, "anchor": 0.0} if initial else {})}
    other = variant(
        workspace,
        "ddm_match",
        matching={"direction": "forward", "pairing": "offset", "step_length": 0},
        online={"start": start, "steps": steps or by_default, **alone},
    )
    return other.attribution(queries, objective).effect


def _sequential(workspace: Workspace) -> Workspace:
    return variant(workspace, "ddm_sequential", clusterer=choose(workspace.registry, "clusterer", "sequential"))


def _runs_of_samples(workspace: Workspace) -> Partition:
    return _sequential(workspace).partition


@attributor(partition=_runs_of_samples)
def attribute_sequentially(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """As `ddm`, but with runs of samples in file order instead of clusters.

    Args, Returns: as `ddm`; the K effects are of runs of samples.
    Source: Table 1, "DDM w/o cluster".
    """
    return _sequential(workspace).attribution(queries, objective).effect

"""The distilled datamodel by replay, corrected by a few exact retrainings that are used as data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from ddm_framework import attributor
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace, replayed_epochs
from ddm_framework.truth import correct_sets, correct_singles, need_retraining, random_fifths

SHARE = 6
"""By default the last epoch in so many is replayed: where the correction gains most for what its estimates cost."""
STEP = 0.01
"""Length of the step before the replay, as `online` recommends it."""
Direction = Literal["synset", "gradient", "influence"]


def _replayed(workspace: Workspace, epochs: int | None, direction: Direction) -> Workspace:
    need_retraining(workspace)
    replay = _nearest(workspace) if epochs is None else epochs
    return workspace.with_online(
        start="target", anchor=0.0, replay=replay, replay_step_size=STEP, replay_set_power=None, direction=direction
    )


def _nearest(workspace: Workspace) -> int:
    """The saved start of a replay nearest to a sixth of the epochs before the end; 0 if none can be replayed."""
    if not replayed_epochs(workspace.with_online(start="target", anchor=0.0, replay="auto")):
        return 0
    total = workspace.num_epochs
    possible = [total - epoch for epoch in sorted(workspace.trajectory, reverse=True) if epoch < total]
    return min(possible, key=lambda epochs: abs(epochs - max(1, round(total / SHARE))))


def _sets(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    perturbations: Tensor,
    /,
    retrainings: int,
    epochs: int | None,
    direction: Direction,
) -> Tensor:
    """What the networks of whole sets say, scaled, plus a datamodel of what they miss."""
    replayed = _replayed(workspace, epochs, direction)
    found = correct_sets(replayed, queries, random_fifths(workspace, retrainings), perturbations)
    return found.effect(workspace, queries, objective).transpose(0, 1)


@attributor(sets=_sets)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    retrainings: Annotated[int, Field(ge=3)] = 20,
    epochs: Annotated[int, Field(ge=1)] | None = None,
    direction: Direction = "synset",
) -> Tensor:
    """As `ddm_replay`, scaled and corrected by networks that were retrained without random fifths of the clusters.

    The retrained networks are offline work, made once and kept in the bank. A question costs what it costs
    `ddm_replay`, and a pass of each retrained network over the queries.

    Args:
        queries: N of them.
        objective: with m behaviours; it is measured on corrected logits, so it need not add up over clusters.
        retrainings: R, the networks that are retrained.
        epochs: E of `online.replay`; by default a sixth of the target's epochs.
        direction: of the step before the replay (`online.direction`); only `synset` needs what was matched.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if the target was trained elsewhere, so that nothing can be retrained.
    Source: Eq. 8, 9; Bayesian linear regression around the estimate (docs/how_it_works.md).
    """
    workspace.charge("partition", *(["matching"] if direction == "synset" else []))
    replayed = _replayed(workspace, epochs, direction)
    found = correct_singles(replayed, queries, random_fifths(workspace, retrainings))
    return found.effect(workspace, queries, objective)
